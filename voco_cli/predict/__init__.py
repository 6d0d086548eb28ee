"""From a trained network and scans to label maps and probabilities."""
