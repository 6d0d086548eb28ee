"""Commands as jobs of SLURM: what is sent, and what has become of it."""
