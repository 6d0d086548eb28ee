"""The two settings files of a demo, commented, as a user would write them."""

from __future__ import annotations

from voco_cli.demo.scans import SHAPE_XYZ

GRID = (4, 4)
LEVELS, FEATURE_SIZE = 4, 16
"""Of the network that `voco tasks new` proposes for these scans, so that the encoder fits into it."""

_CROP = (SHAPE_XYZ[0] // GRID[0], SHAPE_XYZ[1] // GRID[1], SHAPE_XYZ[2])


def _listed(values: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, values)) + "]"


PRETRAINING = f"""\
# Pre-training: the recipe `debug`, which learns within minutes on a CPU, fitted to small scans.
recipe: debug
preprocess:
  foreground_above: null  # keep the whole scan
  resize_vox: {_listed(SHAPE_XYZ)}
crops:
  grid: {_listed(GRID)}  # base crops, which tile the scan
  size: {_listed(_CROP)}
model:  # the network of task.yaml, so that the encoder fits into it
  backbone: unet
  feature_size: {FEATURE_SIZE}
  levels: {LEVELS}
cache:
  workers: 1  # so few scans are read before other processes have started
"""

STUDY = """\
# The study: what differs from task.yaml, so that a run takes a minute on a CPU.
preprocess:
  window_hu: [-175, 250]  # the same intensities as in pre-training
task:
  patches_per_volume: 1  # a patch is a whole scan here
cache:
  workers: 1
train:
  batch_size: 2
  lr: 1.0e-2
  validate_every: 50  # a curve to look at; it chooses nothing, as the study measures the last weights
"""
