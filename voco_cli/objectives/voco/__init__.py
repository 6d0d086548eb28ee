"""Volume contrast: crops and their labels, the losses, the model, what held-out scans say."""
