"""Whether this machine can pre-train, line by line."""
