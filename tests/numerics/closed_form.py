"""Weights and crops of the reference runs in closed form, as the reference folder's README defines them."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray

MASK = np.uint64(0xFFFFFFFF)


def uniform(name: str, count: int) -> NDArray[np.float64]:
    """Numbers in (-1, 1) from a hash of the name and the index, arithmetic modulo 2**32."""
    i = np.arange(1, count + 1, dtype=np.uint64)
    z = (np.uint64(zlib.crc32(name.encode())) + i * np.uint64(0x9E3779B9)) & MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        z ^= z >> np.uint64(shift)
        z = (z * np.uint64(factor)) & MASK
    z ^= z >> np.uint64(16)
    return 2.0 * (z.astype(np.float64) + 0.5) / 2.0**32 - 1.0


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A parameter of the reference networks, by its full name, float32."""
    u = uniform(name, int(np.prod(shape))).reshape(shape)
    if name.endswith("relative_position_bias_table"):
        u = u / 2
    elif len(shape) >= 2:
        u = u * np.sqrt(3 / np.prod(shape[1:]))
    elif name.endswith(".weight"):
        u = 1 + 0.2 * u
    else:
        u = 0.1 * u
    return torch.from_numpy(u).float()


def crop_row(r: int, edge: int = 64) -> NDArray[np.float32]:
    """Input crop of row ``r``."""
    i, j, k = np.meshgrid(*[np.arange(edge)] * 3, indexing="ij")
    a = np.sin(0.03 * (1 + (7 * r) % 11) * i + 0.5 * r)
    b = np.cos(0.025 * (1 + (5 * r) % 13) * j - 0.3 * r)
    c = np.sin(0.04 * (1 + (3 * r) % 7) * k + 1.1 * r)
    x = 0.5 + a * b / 4 + 0.2 * c * (1 if r % 2 else a) + 0.04 * ((r % 5) - 2)
    return (np.floor(255 * x.clip(0, 1) + 0.5) / 255).astype(np.float32)
