"""What a whole scan costs a network, without going over all of it: a few windows for real, the rest by a stand-in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.cache.encoding import FULL_SCALE
from voco_cli.cache.grid_map import GridMap
from voco_cli.downstream.prediction.segment import segment
from voco_cli.downstream.prediction.sliding_window import FLIPS, window_starts
from voco_cli.planning.tried import Sweep
from voco_cli.settings import Settings

WINDOW_TRIES = 3
BUDGET_S = 30.0


def count_windows(shape_xyz: tuple[int, int, int], settings: Settings) -> int:
    """Windows over a preprocessed volume."""
    pairs = zip(shape_xyz, settings.task.patch_size, strict=True)
    return math.prod(len(window_starts(size, window, settings.predict.overlap)) for size, window in pairs)


def try_sweep(
    channels_CXYZ: NDArray[Any],
    record: GridMap,
    network: Callable[[Tensor], Tensor],
    settings: Settings,
    device: torch.device,
) -> Sweep:
    """Time a scan: the network on a few windows, and everything else with a stand-in that answers at once.

    Args:
        channels_CXYZ: the preprocessed scan, stored numbers.
        record: how it lies in the scan's grid.
        network: from windows_NCXYZ to logits_NKXYZ, without gradients.
    """
    size, batch = settings.task.patch_size, settings.predict.window_batch
    corner = channels_CXYZ[:, : size[0], : size[1], : size[2]]
    missing = [(0, 0), *((0, n - have) for n, have in zip(size, corner.shape[1:], strict=True))]
    stored = np.repeat(np.pad(corner, missing)[None], batch, axis=0)
    windows = torch.from_numpy(stored).to(device).float() / FULL_SCALE[stored.dtype.name]
    times_s: list[float] = []
    began_s = time.perf_counter()
    while len(times_s) <= WINDOW_TRIES and (not times_s or time.perf_counter() - began_s < BUDGET_S):
        start_s = time.perf_counter()
        logits = network(windows).sum().item()  # read back, so that a device has done it
        times_s.append(time.perf_counter() - start_s)
        assert isinstance(logits, float)
    window_s = median(times_s[1:] or times_s) / batch * (len(FLIPS) if settings.predict.flips else 1)
    rest_s = _time_rest(channels_CXYZ, record, settings, device)
    shape = channels_CXYZ.shape
    windows_of_scan = count_windows((shape[1], shape[2], shape[3]), settings)
    return Sweep(windows_of_scan, window_s, rest_s, math.prod(record.source_shape_xyz))


def _time_rest(channels_CXYZ: NDArray[Any], record: GridMap, settings: Settings, device: torch.device) -> float:
    """Seconds of a whole scan whose network costs nothing."""
    outputs, size = settings.task.num_outputs, settings.task.patch_size
    plain = settings.predict.model_copy(update={"flips": False})
    logits = torch.zeros((plain.window_batch, outputs, *size), device=device)
    start_s = time.perf_counter()
    stand_in: Callable[[Tensor], Tensor] = lambda windows: logits[: len(windows)]  # noqa: E731
    segment(channels_CXYZ, record, stand_in, patch_size=size, predict=plain, device=device)
    return time.perf_counter() - start_s
