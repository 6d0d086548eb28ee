"""Random draws from a counter: (seed, step, case) gives the same numbers anywhere, any time, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.config.schema import Augment


def counter_generator(seed: int, step: int, case: str, purpose: str) -> np.random.Generator:
    """A generator that depends on nothing but its arguments; ``purpose`` keeps draws of different kinds apart."""
    digest = hashlib.blake2b(f"{purpose}\0{case}".encode(errors="surrogateescape"), digest_size=16).digest()
    words = np.frombuffer(digest, dtype=np.uint32)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, *words.tolist()])))


def draw_starts(
    generator: np.random.Generator, shape_xyz: Sequence[int], size_vox: Sequence[int], count: int
) -> NDArray[np.int64]:
    """Draw starts_S3, the lower corners of crops that lie anywhere in a volume, both ends included, voxels."""
    return generator.integers(0, np.subtract(shape_xyz, size_vox), size=(count, 3), endpoint=True)


@dataclass(frozen=True)
class AugmentDraws:
    """What happens to each crop: flips first, then quarter turns, then the shift.

    Attributes:
        flips_N3: whether to flip along x, y, z.
        turns_N: quarter turns from x towards y, 0 to 3.
        shifts_N: what is added to the intensity, of the range [0, 1].
    """

    flips_N3: NDArray[np.bool_]
    turns_N: NDArray[np.int64]
    shifts_N: NDArray[np.float32]


def draw_augmentation(seed: int, step: int, case: str, num_crops: int, augment: Augment) -> AugmentDraws:
    """Draw flips, quarter turns and intensity shifts of the crops of a case, each crop on its own."""
    generator = counter_generator(seed, step, case, "augment")
    flips = generator.random((num_crops, 3)) < augment.flip_prob
    turns = np.where(generator.random(num_crops) < augment.rotate_prob, generator.integers(1, 4, num_crops), 0)
    shifts = generator.uniform(-augment.shift_max, augment.shift_max, num_crops)
    shifted = generator.random(num_crops) < augment.shift_prob
    return AugmentDraws(flips, turns, np.where(shifted, shifts, 0.0).astype(np.float32))
