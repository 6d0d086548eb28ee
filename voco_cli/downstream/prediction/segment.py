"""From a preprocessed scan to class indices on the scan's own grid."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from voco_cli.cache.grid_map import GridMap
from voco_cli.downstream.prediction.scan_grid import labels_on_scan_grid
from voco_cli.downstream.prediction.sliding_window import Network, SizeXYZ, sliding_window, swept_axis
from voco_cli.settings.task import Predict


@torch.no_grad()
def segment(
    channels_CXYZ: NDArray[Any],
    record: GridMap,
    network: Network,
    *,
    patch_size: SizeXYZ,
    predict: Predict,
    device: torch.device,
) -> NDArray[Any]:
    """Predict the class of every voxel of a scan.

    Logits are averaged over overlapping windows, brought to the scan's own grid, and compared there: labels that were
    resampled by the nearest voxel would have steps. Neither grid ever holds all classes of the whole volume.

    Args:
        channels_CXYZ: the preprocessed volume in stored numbers (uint8, int16 or float16 of [0, 1]).
        record: how it lies in the scan's grid.
        network: from windows_NCXYZ, float32 in [0, 1] on the device, to logits_NKXYZ; in evaluation mode.
        patch_size: the window, as in training.
        predict: overlap, windows at a time, flips.
    Returns:
        indices in memory order (z, y, x of the scan's own axes), uint8, or uint16 above 256 classes; 0, background,
        outside the foreground box.
    """
    swept = swept_axis(channels_CXYZ.shape[1:], patch_size)
    slabs = sliding_window(channels_CXYZ, network, patch_size=patch_size, predict=predict, device=device, swept=swept)
    return labels_on_scan_grid(slabs, record, swept)
