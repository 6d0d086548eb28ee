"""Preprocessing: MONAI's composition against ours, from the file to the volume.

The targets are for real scans (``--scan FILE``); without one a generated scan is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from monai import transforms
from numpy.typing import NDArray

from benchmarks.interleaved import compare
from benchmarks.made_scan import write_made_scan
from benchmarks.registry import Options
from benchmarks.rows import Row
from voco_cli.cache.preprocess import preprocess
from voco_cli.scans.read import read_scan
from voco_cli.settings.sections import Preprocess

ABDOMEN = Preprocess(spacing_mm=(1.5, 1.5, 1.5), foreground_above=0.0, min_size_vox=(64, 64, 64))
CVPR = Preprocess(foreground_above=0.3, resize_vox=(384, 384, 96))
CHAINS = {"spacing 1.5, window, foreground, pad": (ABDOMEN, 4.0), "window, foreground > 0.3, resize": (CVPR, 2.5)}
TOLERANCE = 1e-4
QUICK_VOX = (128, 128, 40)


def rows(options: Options) -> Iterator[Row]:
    """Each scan through each chain."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.nii.gz"
        scans = options.scans or (write_made_scan(made, QUICK_VOX) if options.quick else write_made_scan(made),)
        for path in scans:
            shape = "x".join(map(str, read_scan(path).shape_xyz))
            for name, (settings, target) in CHAINS.items():
                reference, ours = _chains(path, settings)
                yield compare(
                    f"{shape}: {name}",
                    reference,
                    ours,
                    options.rounds_or(5),
                    target=target,
                    error=largest_difference(np.asarray(reference()), ours()),
                    tolerance=TOLERANCE,
                )


def _chains(path: Path, settings: Preprocess) -> tuple[Callable[[], Any], Callable[[], NDArray[np.float32]]]:
    chain = monai_chain(settings)

    def reference() -> Any:
        return chain({"image": path})["image"][0]

    def ours() -> NDArray[np.float32]:
        return preprocess(read_scan(path), settings).array_xyz

    return reference, ours


def monai_chain(settings: Preprocess) -> Callable[[Any], Any]:
    """The same steps as MONAI's transforms compose them; the released code uses these."""
    above = settings.foreground_above or 0.0
    low, high = settings.window_hu
    steps: list[Any] = [
        transforms.LoadImaged("image", reader="NibabelReader"),
        transforms.EnsureChannelFirstd("image"),
        transforms.Orientationd("image", axcodes="RAS", labels=None),
    ]
    if settings.spacing_mm is not None:
        steps.append(transforms.Spacingd("image", pixdim=settings.spacing_mm, mode="bilinear"))
    steps.append(transforms.ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True))
    steps.append(transforms.CropForegroundd("image", "image", select_fn=lambda x: x > above, allow_smaller=True))
    if settings.min_size_vox is not None:
        steps.append(transforms.SpatialPadd("image", settings.min_size_vox))
    if settings.resize_vox is not None:
        steps.append(transforms.Resized("image", settings.resize_vox, mode="trilinear", align_corners=True))
    composed: Callable[[Any], Any] = transforms.Compose(steps)
    return composed


def largest_difference(reference_xyz: NDArray[np.float32], ours_xyz: NDArray[np.float32]) -> float:
    """Largest difference of a voxel; infinite where the shapes differ."""
    if reference_xyz.shape != ours_xyz.shape:
        return float("inf")
    return float(np.abs(reference_xyz - ours_xyz).max())
