"""From labelled data to a trained network and its predictions: tasks, patches, windows, the scan's own grid."""
