"""Every picture: the method on one scan, comparisons, label efficiency."""
