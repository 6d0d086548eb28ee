"""From cached labelled scans to what a training step gets."""
