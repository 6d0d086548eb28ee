"""Cached labelled cases whose voxels say where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests.data.cache.made_scans import oriented_affine, write_nifti
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.tasks.cases import StoredCase

AS_IT_IS = Preprocess(window_hu=(0.0, 255.0), foreground_above=None)
"""Values 0 to 255 are stored as they are."""


def make_case(
    folder: Path, image_xyz: NDArray[Any], label_xyz: NDArray[Any], name: str = "case", channels: int = 1
) -> StoredCase:
    """A case with the given voxels, axes already RAS; further channels are the image plus 1, 2, ..."""
    affine = oriented_affine("RAS", (1.0, 1.0, 1.0))
    images = [write_nifti(folder / f"{name}_{c:04d}.nii.gz", image_xyz + c, affine) for c in range(channels)]
    label = write_nifti(folder / f"{name}_seg.nii.gz", label_xyz, affine)
    entry = Entry(image=images[0], channels=tuple(images[1:]), label=label, patient=name, case=name)
    cache = VolumeCache(folder / "cache", AS_IT_IS, Cache(workers=1), labels=True)
    report = cache.build(entry.channel_entries())
    assert not report.failed
    volumes = [cache.lookup(one) for one in entry.channel_entries()]
    return StoredCase(entry, tuple(volume for volume in volumes if volume is not None))
