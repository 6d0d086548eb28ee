"""One loop for everything that trains, and what it needs: run folder, checkpoints, loaders, loggers, processes."""
