"""Tiny scans with a bright ball that has a brighter core, and their label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.cache.made_scans import oriented_affine, write_nifti

EDGE = 12
BALL, CORE = 4, 2
"""Radii, voxels."""

PRESET = """
task:
  name: balls
  layouts: [{image: "image/{case}.nii.gz", label: "label/{case}.nii.gz"}]
  classes: [{name: ball, values: 1}, {name: core, values: 2}]
  split: seeded
  test_patients: 3
  validation_patients: 1
  patch_size: [8, 8, 8]
preprocess: {window_hu: [0, 255], foreground_above: null}
model: {backbone: unet, feature_size: 2, levels: 3}
train: {steps: 3, batch_size: 1, checkpoint_every: 3, validate_every: 3, log_every: 3}
run: {device: cpu, threads: 1, keep_memory: false}
data: {workers: 0}
cache: {workers: 1}
"""


def write_balls(folder: Path, background: float, step: float, noise: float, cases: int = 9) -> None:
    """Write ``image/caseN.nii.gz`` and ``label/caseN.nii.gz`` of 12 x 12 x 12 voxels; labels 1 and 2 are brighter."""
    rng = np.random.default_rng(0)
    affine = oriented_affine("RAS", (1.0, 1.0, 1.0))
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True)
    for i in range(cases):
        centre = rng.integers(5, 8, 3)
        distance = np.linalg.norm(np.stack(np.indices((EDGE, EDGE, EDGE)), -1) - centre, axis=-1)
        label = (distance < BALL).astype(np.uint8) + (distance < CORE)
        image = rng.normal(background, noise, label.shape) + step * label
        write_nifti(folder / "image" / f"case{i}.nii.gz", image.clip(0, 255).astype(np.int16), affine)
        write_nifti(folder / "label" / f"case{i}.nii.gz", label.astype(np.uint8), affine)
