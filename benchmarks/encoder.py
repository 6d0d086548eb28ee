"""The SwinUNETR encoder on one CPU thread: MONAI's stock modules against ours, same weights, same crops.

``python -m benchmarks.encoder [--feature-size F --batch B --size VOX --rounds N] [--as-released]``

Without arguments: forward at 24 channels (4 crops) and 48 (2), forward and backward at 24 (2) and 48 (1). Both sides
have the allocator's settings of this project; ``--as-released`` gives the stock modules activation checkpointing, as
the authors run them.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor

from benchmarks.interleaved import compare
from voco_cli.engine.allocator import keep_freed_memory
from voco_cli.networks.swin import SwinEncoder

Case = tuple[bool, int, int]
"""With the backward pass or without, feature size, crops."""
CASES: tuple[Case, ...] = ((False, 24, 4), (False, 48, 2), (True, 24, 2), (True, 48, 1))
TARGETS = {(False, 24): 2.0, (False, 48): 1.6, (True, 24): 2.0, (True, 48): 1.2}
RELEASED_TARGETS = {(False, 24): 3.5, (False, 48): 2.2, (True, 24): 2.5, (True, 48): 1.7}


def make_encoder(feature_size: int, checkpointing: bool) -> SwinEncoder:
    """An encoder whose biases are large enough that padding shows in its output."""
    torch.manual_seed(0)
    encoder = SwinEncoder(1, feature_size, "current")
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)
    for module in encoder.modules():
        if hasattr(module, "use_checkpoint"):
            setattr(module, "use_checkpoint", checkpointing)  # noqa: B010 - mypy takes it for a tensor
    return encoder


def run(encoder: SwinEncoder, crops: Tensor, stock: bool, backward: bool) -> Tensor:
    """Embeddings, and the gradients of their mean square where they are asked for."""
    with torch.set_grad_enabled(backward):
        embeddings = encoder.stock_forward(crops) if stock else encoder(crops)
        if backward:
            encoder.zero_grad()
            embeddings.square().mean().backward()
    return embeddings.detach()


def main() -> None:
    """Print times, ratios, spread, and the largest difference of the embeddings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feature-size", type=int)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="edge of a crop, voxels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--as-released", action="store_true", help="checkpointing in the stock modules")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"freed memory is kept: {keep_freed_memory()}")
    cases = CASES if args.feature_size is None else [(back, args.feature_size, args.batch) for back in (False, True)]
    targets = RELEASED_TARGETS if args.as_released else TARGETS
    for backward, feature_size, batch in cases:
        encoder = make_encoder(feature_size, args.as_released)
        crops = torch.rand(batch, 1, *(args.size,) * 3)
        stock = partial(run, encoder, crops, True, backward)
        ours = partial(run, encoder, crops, False, backward)
        difference = float((stock() - ours()).abs().max())
        comparison = compare(stock, ours, args.rounds)
        name = f"{'fwd+bwd' if backward else 'forward'} f={feature_size} batch {batch} {args.size}^3"
        print(
            comparison.line(name, targets.get((backward, feature_size), 1.0)), f"  within {difference:.1e}", flush=True
        )


if __name__ == "__main__":
    main()
