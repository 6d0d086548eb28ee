"""Weights: ours and other people's in, the right network and a report out, and export to other programs."""

from voco_cli.networks.weights.write import own_tensors, write_encoder, write_model

__all__ = ["own_tensors", "write_encoder", "write_model"]
