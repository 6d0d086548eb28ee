"""Position labels of one scan, drawn."""
