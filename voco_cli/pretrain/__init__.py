"""The pre-training task: any objective over cached scans, and what a pre-trained network is asked."""
