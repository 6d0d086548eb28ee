"""Attention and norms in Triton, with what they fall back to."""
