"""Every speed claim as a command: ``python -m benchmarks.<name>``."""
