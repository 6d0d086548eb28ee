"""Training tasks on labelled cases: segmentation, classification, and their data sets."""
