"""Memory that a prediction will take, from headers and settings alone, and what is free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
import torch

from voco_cli.config import Settings
from voco_cli.data.cache.entry import gigabytes, largest_shape
from voco_cli.data.io.image import Header
from voco_cli.errors import ResourceError
from voco_cli.models.backbone import backbone_of
from voco_cli.operating_system import free_host_bytes
from voco_cli.predict.sliding_window import swept_axis

FLOAT_BYTES = 4
READING = 2
"""Copies of a scan while it is read: readers hand over an array that they still hold themselves."""
PREPROCESSING = 2
"""Float volumes while a channel is preprocessed: the resampled one, and its padded or resized copy."""
WRITING = 3
"""Copies of the label map while it is written."""
SPARE = 1.15
"""For what the allocator loses between blocks of different sizes."""


@dataclass(frozen=True)
class Needed:
    """Bytes beyond what the process has before the scan: of the machine, and of the device where it has its own."""

    host_bytes: int
    device_bytes: int


def needed_memory(header: Header, settings: Settings, device: torch.device) -> Needed:
    """Estimate what a scan takes at most; no foreground is cut, as no header tells how much there is.

    Args:
        header: of the first channel, on whose grid the others lie.
    """
    task, predict = settings.task, settings.predict
    spacing_mm = header.placement.spacing_xyz_mm
    shape = largest_shape(header.shape_xyz, spacing_mm, header.orientation, settings.preprocess)
    source_vox, prepared_vox, window_vox = (int(np.prod(one)) for one in (header.shape_xyz, shape, task.patch_size))
    scan_bytes = source_vox * np.dtype(header.dtype).itemsize
    stored_bytes = prepared_vox * len(task.channels) * np.dtype(settings.cache.dtype).itemsize
    classes = task.num_outputs

    kept = device.type == "cpu" and settings.run.keep_memory
    memory = backbone_of(settings.model.backbone).memory
    fixed, per_channel = memory.forward_kept if kept else memory.forward
    of_network = window_vox * predict.window_batch * (fixed + per_channel * settings.model.feature_size)
    of_logits = window_vox * predict.window_batch * classes * FLOAT_BYTES * (3 if predict.flips else 1)
    swept = swept_axis(shape, task.patch_size)
    padded = [max(size, window) for size, window in zip(shape, task.patch_size, strict=True)]
    plane_vox = int(np.prod([size for axis, size in enumerate(padded) if axis != swept]))
    of_sums = (task.patch_size[swept] + 1) * plane_vox * (classes + 1) * FLOAT_BYTES
    sweeping = int(SPARE * (of_network + of_logits + of_sums))

    label_bytes = source_vox * (2 if classes > 256 else 1)
    reading = READING * scan_bytes + PREPROCESSING * prepared_vox * FLOAT_BYTES + stored_bytes
    if device.type == "cuda":
        return Needed(max(reading, stored_bytes + WRITING * label_bytes), sweeping)
    return Needed(max(reading, stored_bytes + sweeping + label_bytes, WRITING * label_bytes), 0)


@dataclass(frozen=True)
class Room:
    """Memory that a batch may use: what is free, and what this process has taken since and would use again.

    Attributes:
        device: where the network is.
        own_bytes: the process's memory before the first scan.
    """

    device: torch.device
    own_bytes: int

    @classmethod
    def now(cls, device: torch.device) -> Room:
        """Note what the process has before the first scan, the network being loaded."""
        return cls(device, psutil.Process().memory_info().rss)

    def require(self, needed: Needed, name: str) -> None:
        """Refuse a scan that cannot fit.

        Raises:
            ResourceError: with what is needed and what is free.
        """
        kept = max(0, psutil.Process().memory_info().rss - self.own_bytes)
        self._compare(needed.host_bytes, free_host_bytes() + kept, name, "")
        if self.device.type == "cuda":
            unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            free = torch.cuda.mem_get_info(self.device)[0] + unused
            self._compare(needed.device_bytes, free, name, f" on {self.device}")

    @staticmethod
    def _compare(needed: int, free: int, name: str, where: str) -> None:
        if needed > free:
            raise ResourceError(
                f"{name} needs about {gigabytes(needed)} of memory{where}, and {gigabytes(free)} are free.",
                "predict.window_batch=1 needs least; otherwise free some memory, or use a larger machine",
            )
