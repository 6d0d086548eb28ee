"""Preprocessing: MONAI's composition against ours, from the file to the volume, and on to the file in the cache.

The second way is what a build of the cache takes: the reference writes float32 with torch, as the released code does;
ours quantises, compresses and writes with a hash, and that is most of its time.

The targets are for real scans (``--scan FILE``); without one a generated scan is used.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms
from numpy.typing import NDArray

from benchmarks.interleaved import compare
from benchmarks.made_scan import write_made_scan
from benchmarks.registry import Options
from benchmarks.rows import Ratio, Row
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_scan

ABDOMEN = Preprocess(spacing_mm=(1.5, 1.5, 1.5), foreground_above=0.0, min_size_vox=(64, 64, 64))
CVPR = Preprocess(foreground_above=0.3, resize_vox=(384, 384, 96))
CHAINS = {"spacing 1.5, window, foreground, pad": (ABDOMEN, 4.0), "window, foreground > 0.3, resize": (CVPR, 2.5)}
TOLERANCE = 1e-4
HALF_STEP = 0.5 / 255 + TOLERANCE
"""The stored byte is this near to the value."""
QUICK_VOX = (128, 128, 40)


def rows(options: Options) -> Iterator[Row]:
    """Each scan through each chain: to the volume in memory, and to the file."""
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as name:
        folder = Path(name)
        made = folder / "made.nii.gz"
        scans = options.scans or (write_made_scan(made, QUICK_VOX) if options.quick else write_made_scan(made),)
        for path in scans:
            shape = "x".join(map(str, read_scan(path).shape_xyz))
            for words, (settings, target) in CHAINS.items():
                reference, ours = _chains(path, settings)
                yield compare(
                    f"{shape}: {words}",
                    reference,
                    ours,
                    options.rounds_or(5),
                    target=target,
                    error=largest_difference(np.asarray(reference()), ours()),
                    tolerance=TOLERANCE,
                )
                yield cache_row(f"{shape}: {words}, into the cache", path, settings, folder, options.rounds_or(5))


def cache_row(name: str, path: Path, settings: Preprocess, folder: Path, rounds: int) -> Ratio:
    """From the scan to the file that training reads, one scan and one process."""
    scan, chain = read_scan(path), monai_chain(settings)
    entry = Entry(image=path, patient="one", shape=scan.shape_xyz, spacing_mm=scan.spacing_xyz_mm)
    file, cache = folder / "reference.pt", VolumeCache(folder / "cache", settings, Cache())

    def reference() -> None:
        torch.save(chain({"image": path})["image"].as_tensor(), file)

    def ours() -> None:
        assert cache.build([entry], workers=1).built == 1

    empty = partial(shutil.rmtree, folder / "cache", ignore_errors=True)
    empty()
    reference()
    ours()
    stored = cache.lookup(entry)
    assert stored is not None
    found = stored.read((0, 0, 0), stored.shape_xyz).astype(np.float32) / np.float32(255)
    error = largest_difference(torch.load(file, weights_only=True)[0].numpy(), found)
    return compare(name, reference, ours, rounds, error=error, tolerance=HALF_STEP, before_ours=empty)


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
