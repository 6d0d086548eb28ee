"""The SwinUNETR encoder on one CPU thread: MONAI's stock modules against ours, same weights, same crops.

Twice for each size. *As released*: stock modules with activation checkpointing and glibc's own allocator settings, as
the authors run them, against ours with the settings of our runs. *Both warm*: the allocator keeps freed memory for
both, and nothing is checkpointed, so that the arithmetic alone is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.allocators import as_glibc_does, warm
from benchmarks.interleaved import compare
from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Ratio, Row
from voco_cli.models.swin import SwinEncoder

CASES = ((False, 24, 4), (False, 48, 2), (True, 24, 2), (True, 48, 1))
"""With the backward pass or without, feature size, crops."""
QUICK = ((False, 12, 1), (True, 12, 1))
RELEASED_TARGETS = {(False, 24): 3.5, (False, 48): 2.2, (True, 24): 2.5, (True, 48): 1.7}
EDGE_VOX = 64
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-10


def rows(options: Options) -> Iterator[Row]:
    """Forward at 24 channels (4 crops) and 48 (2), forward and backward at 24 (2) and 48 (1)."""
    if not as_glibc_does():
        yield Note("allocator", "not glibc's, so that both sides have the same one in every row")
    for backward, feature_size, batch in QUICK if options.quick else CASES:
        encoder = make_encoder(feature_size)
        crops = torch.rand(batch, 1, *(EDGE_VOX,) * 3)
        for released in (True, False):
            yield _row(encoder, crops, backward, released, options.rounds_or(5))
    yield _gradient_row()


def make_encoder(feature_size: int) -> SwinEncoder:
    """An encoder whose biases are large enough that padding shows in its output."""
    torch.manual_seed(0)
    encoder = SwinEncoder(1, feature_size, "current")
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)
    return encoder


def set_checkpointing(encoder: torch.nn.Module, wanted: bool) -> None:
    """Switch the activation checkpointing of MONAI's transformer."""
    for module in encoder.modules():
        if hasattr(module, "use_checkpoint"):
            setattr(module, "use_checkpoint", wanted)  # noqa: B010 - mypy takes it for a tensor


def run(encoder: SwinEncoder, crops: Tensor, stock: bool, backward: bool) -> Tensor:
    """Embeddings, and the gradients of their mean square where they are asked for."""
    with torch.set_grad_enabled(backward):
        embeddings = encoder.stock_forward(crops) if stock else encoder(crops)
        if backward:
            encoder.zero_grad()
            embeddings.square().mean().backward()
    return embeddings.detach()


def _row(encoder: SwinEncoder, crops: Tensor, backward: bool, released: bool, rounds: int) -> Ratio:
    set_checkpointing(encoder, released)
    feature_size = encoder.out_features // 24
    stock, ours = partial(run, encoder, crops, True, backward), partial(run, encoder, crops, False, backward)
    size = f"f={feature_size}, {len(crops)} x {EDGE_VOX}^3"
    return compare(
        f"{'fwd+bwd' if backward else 'forward'} {size}, {'as released' if released else 'both warm'}",
        stock,
        ours,
        rounds,
        target=RELEASED_TARGETS.get((backward, feature_size)) if released else None,
        error=float((stock() - ours()).abs().max()),
        tolerance=TOLERANCE,
        before_reference=as_glibc_does if released else warm,
        before_ours=warm,
    )


def _gradient_row() -> Figure:
    """Gradients in float64, where only another formula could show: largest difference over the largest gradient."""
    encoder, crops = make_encoder(12).double(), torch.rand(1, 1, *(EDGE_VOX,) * 3, dtype=torch.float64)
    set_checkpointing(encoder, False)
    found = []
    for stock in (True, False):
        run(encoder, crops, stock, backward=True)
        found.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    largest = max(float(gradient.abs().max()) for gradient in found[0].values())
    error = max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0]) / largest
    return Figure("float64 gradients f=12, relative difference", "", [error], GRADIENT_TOLERANCE)
