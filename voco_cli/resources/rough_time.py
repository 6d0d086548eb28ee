"""About how long a pre-training would take on this processor, told in seconds: from one crop through its encoder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from voco_cli.config import Resolved, Settings
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.training.run_dir import RunFolder

LONG_S = 2 * 3600.0
"""Runs below this need no question."""
BACKWARD = 2.0
"""A backward pass takes about twice its forward pass."""
LARGEST_TRIED_VOX = 64**3


@dataclass(frozen=True)
class RoughTime:
    """An estimate and what it rests on.

    Attributes:
        crop_s: one crop forward through the encoder.
        passes: forward passes of a crop that the whole run is worth.
    """

    crop_s: float
    passes: float

    @property
    def seconds(self) -> float:
        """Of the whole run; loading and looks at held-out scans left out."""
        return self.crop_s * self.passes


def rough_time(settings: Settings, measure: Callable[[Settings], float] | None = None) -> RoughTime:
    """About how long the run would take on the processor.

    Args:
        measure: seconds of one crop forward through the encoder; none measures it.
    """
    crops, train = settings.crops, settings.train
    bases = math.prod(crops.grid_xyz)
    rows = train.batch_size * train.accumulate * (crops.random_per_volume + bases)
    twin = 1.0 if settings.objective.voco.teacher == "network" else 0.0
    return RoughTime((measure or crop_seconds)(settings), train.steps * rows * (1.0 + BACKWARD + twin))


def crop_seconds(settings: Settings) -> float:
    """Time one crop forward through the encoder; of a large crop a part of 64 x 64 x 64 voxels, scaled up."""
    size = settings.crops.network_size_vox
    tried = size if math.prod(size) <= LARGEST_TRIED_VOX else (64, 64, 64)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder = build_encoder(settings.model).eval()
        crop = torch.rand(1, 1, *tried)
        encoder(crop)  # the first call makes room
        began = time.perf_counter()
        encoder(crop)
        took = time.perf_counter() - began
    return took * math.prod(size) / math.prod(tried)


def require_choice(resolved: Resolved, command: str, measure: Callable[[Settings], float] | None = None) -> None:
    """Refuse to begin days of work on a processor under a recipe that nobody has named.

    Args:
        command: what was typed, for the hint.
        measure: as for `rough_time`.
    Raises:
        UsageError: the recipe is the default one, there is no GPU, and the run would be long; with how long.
    """
    settings = resolved.settings
    if resolved.sources["recipe"] != "default" or _has_gpu(settings.run.device):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or RunFolder(settings.run.dir).is_started():
        return
    rough = rough_time(settings, measure)
    if rough.seconds < LONG_S:
        return
    size = "x".join(map(str, settings.crops.network_size_vox))
    raise UsageError(
        f"No recipe was chosen, and the default, {settings.recipe}, would take about {_long(rough.seconds)} on this "
        f"processor ({settings.train.steps:,} steps; a crop of {size} voxels took its network {rough.crop_s:.2g} s "
        f"just now).",
        f"`{command} --recipe debug` shows in minutes whether it learns on these scans; "
        f"`{command} --recipe {settings.recipe}` begins the long run",
    )


def _has_gpu(device: str) -> bool:
    if device == "auto":
        return torch.cuda.is_available() or torch.backends.mps.is_available()
    return device != "cpu"


def _long(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.0f} hours"
    days = hours / 24
    return f"{days:,.0f} days" if days < 730 else f"{days / 365:.0f} years"
