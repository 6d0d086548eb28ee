"""Every speed claim as a command: ``python -m benchmarks [CASE...]``; ``--list`` says what there is."""
