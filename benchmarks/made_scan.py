"""A generated scan for benchmarks where no real one is given."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def write_made_scan(path: Path, shape: tuple[int, int, int] = (384, 384, 100)) -> Path:
    """A body-like ellipsoid of soft tissue with noise in air, int16 HU, voxel axes L, P, S, 0.8 x 0.8 x 3 mm."""
    rng = np.random.default_rng(0)
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    radius = (x[:, None, None] / 0.8) ** 2 + (y[None, :, None] / 0.6) ** 2 + (z[None, None, :] / 1.2) ** 2
    organs = 60 * np.sin(9 * x)[:, None, None] * np.cos(7 * y)[None, :, None] * np.ones_like(z)
    hu = np.where(radius < 1, 40 + organs, -1000) + rng.normal(0, 12, shape)
    image = nib.Nifti1Image(hu.clip(-1024, 1500).astype(np.int16), np.diag([-0.8, -0.8, 3.0, 1.0]))
    nib.save(image, path)
    return path
