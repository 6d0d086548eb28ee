"""How long a network takes over a CT of a usual size: a few windows for real, the rest of the way by a stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voco_cli.cache.encoding import quantise
from voco_cli.cache.preprocess import preprocess
from voco_cli.engine.device import device_alone
from voco_cli.networks.segmenter import build_segmenter
from voco_cli.planning.sweep import try_sweep
from voco_cli.planning.tried import Sweep
from voco_cli.scans.scan import Scan
from voco_cli.settings import Settings

SPACING_XYZ_MM = (0.78, 0.78, 2.5)


@dataclass(frozen=True)
class PredictingRequest:
    """A task, and the shape of a scan: x, y, z voxels of 0.78 x 0.78 x 2.5 mm."""

    settings: Settings
    shape_xyz: tuple[int, int, int]


def time_prediction(request: PredictingRequest) -> Sweep:
    """Go over a made scan with a network of the task's size and fresh weights."""
    settings = request.settings
    made = preprocess(made_scan(request.shape_xyz), settings.preprocess)
    channel = quantise(made.array_xyz, settings.cache.dtype)
    channels = np.repeat(channel[None], len(settings.task.channels), axis=0)
    device, autocast = device_alone(settings.run)
    built = build_segmenter(settings.model, len(channels), settings.task.num_outputs).to(device).eval()

    def network(windows_NCXYZ: Tensor) -> Tensor:
        with torch.no_grad(), autocast():
            logits: Tensor = built(windows_NCXYZ)
        return logits.float()

    return try_sweep(channels, made.record, network, settings, device)


def made_scan(shape_xyz: tuple[int, int, int]) -> Scan:
    """Soft tissue with noise up to every border, so that nothing of it is cut away."""
    x, y, z = shape_xyz
    voxels = np.random.default_rng(0).normal(40, 20, (z, y, x)).astype(np.int16)
    return Scan(voxels, SPACING_XYZ_MM, (0.0, 0.0, 0.0), np.eye(3), Path("made"))
