"""From the cache to the crops of a volume: a pickled file of float32 with MONAI's transforms, against our loader.

The reference does what the released code does for a volume: load the whole cached tensor, cut every crop, flip and
turn it, resize it (cvpr) or shift it (tpami). Ours is the data set of a training run: it draws the crops and their
labels (the reference gets them as a gift), reads the region from the store and hands on bytes, which the device turns,
resizes and shifts. In the rows "to float32" that is done here as well, on the CPU. Each side is a process of its own,
as a loader process is. The reference reads all of a volume and ours a region, so that the ratio grows with the volume:
each release has the spacing of its recipe.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai import transforms
from torch import Tensor

from benchmarks.apart import Processes, compare_apart, two_processes
from benchmarks.made_scan import write_made_scan
from benchmarks.registry import Options
from benchmarks.rows import Figure, Row
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.cache.volume import quantise
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_scan
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.objective import Case
from voco_cli.objectives.voco.sampling import CropBatch, CropSampler

DEFAULT_CODEC: Literal["zstd", "lz4"] = "zstd"
CODECS: tuple[Literal["zstd", "lz4"], ...] = (DEFAULT_CODEC, "lz4")
BYTES_TARGET = 0.1
"""Bytes on disk, as a share of the reference's, with the codec that is the default; the other is for time alone."""
HALF_STEP = 0.5 / 255 + 1e-4
"""The stored byte is this near to the value, and resizing is a mean of values; and MONAI's rounding."""


@dataclass(frozen=True)
class Release:
    """The crops of one release.

    Attributes:
        overrides: settings beyond the recipe's; none at full size.
        made_vox: a generated scan that gives this shape.
        targets: least ratios of the loader's share, and to float32.
    """

    recipe: str
    overrides: tuple[str, ...]
    made_vox: tuple[int, int, int]
    targets: tuple[float, float]


FULL = (
    Release("cvpr", (), (384, 384, 100), (7.0, 2.0)),
    Release("tpami", (), (470, 626, 134), (10.0, 10.0)),
)
TINY_CVPR = (
    "preprocess.resize_vox=128x128x32",
    "model.backbone=unet",
    "crops.size=32x32x32",
    "crops.input_size=20x20x20",
)
TINY_TPAMI = ("preprocess.min_size_vox=72x72x24", "model.backbone=unet", "crops.size=24x24x24")
QUICK = (
    Release("cvpr", TINY_CVPR, (128, 128, 32), (7.0, 2.0)),
    Release("tpami", TINY_TPAMI, (128, 128, 32), (10.0, 10.0)),
)


def rows(options: Options) -> Iterator[Row]:
    """Both releases, both codecs: the loader's share, all of it, and bytes on disk."""
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as name, two_processes() as processes:
        for release in QUICK if options.quick else FULL:
            folder = Path(name) / release.recipe
            folder.mkdir()
            given = options.scans or (write_made_scan(folder / "made.nii.gz", release.made_vox),)
            for number, scan in enumerate(given):
                yield from _release_rows(folder / str(number), scan, release, options.rounds_or(15), processes)


def _release_rows(folder: Path, path: Path, release: Release, rounds: int, processes: Processes) -> Iterator[Row]:
    settings = load_settings(release.recipe, None, release.overrides).settings
    scan = read_scan(path)
    volume = preprocess(scan, settings.preprocess).array_xyz
    folder.mkdir()
    file = folder / "reference.pt"
    torch.save(torch.from_numpy(np.ascontiguousarray(volume)), file)
    words = f"{release.recipe} {'x'.join(map(str, volume.shape))}"
    for codec in CODECS:
        entry = Entry(image=path, patient="one", shape=scan.shape_xyz, spacing_mm=scan.spacing_xyz_mm)
        cache = VolumeCache(folder / codec, settings.preprocess, settings.cache.model_copy(update={"codec": codec}))
        written = cache.build([entry], workers=1).bytes
        stored = cache.lookup(entry)
        assert stored is not None
        assert np.array_equal(stored.read((0, 0, 0), stored.shape_xyz), quantise(volume, "uint8"))
        limit_mb = file.stat().st_size * BYTES_TARGET / 1e6 if codec == DEFAULT_CODEC else None
        yield Figure(f"{words}, {codec}: bytes on disk", "MB", [written / 1e6], limit_mb)
        case, sampler = Case("one", stored), CropSampler(settings, 1)
        plan = Plan.of(case, sampler)
        reference = partial(reference_crops, file, plan, settings)
        error = float((torch.stack(reference())[:, 0] - float_crops(case, sampler)[:, 0]).abs().max())
        for does, ours, target in zip(
            ("the loader's share", "to float32"), (loaded_crops, float_crops), release.targets, strict=True
        ):
            yield compare_apart(
                f"{words}, {len(plan.starts)} crops, {codec}: {does}",
                reference,
                partial(ours, case, sampler),
                rounds,
                processes,
                target=target,
                error=error,
                tolerance=HALF_STEP,
            )


@dataclass(frozen=True)
class Plan:
    """Where the crops of a step lie in the volume, voxels, and how each is turned and shifted."""

    starts: list[tuple[int, int, int]]
    flips: list[list[int]]
    turns: list[int]
    shifts: list[float]

    @classmethod
    def of(cls, case: Case, sampler: CropSampler) -> Plan:
        """Return what is drawn for a case in step 0."""
        item = sampler.draw(case, 0)
        corner = item.draws.region_start_3
        return cls(
            [tuple(start) for start in (item.draws.starts_N3 + corner).tolist()],
            [[axis for axis in range(3) if flips[axis]] for flips in item.augment.flips_N3],
            item.augment.turns_N.tolist(),
            item.augment.shifts_N.tolist(),
        )


def reference_crops(file: Path, plan: Plan, settings: Settings) -> list[Tensor]:
    """As the released code: float32 from a torch file, one MONAI transform after the other; crops of 1XYZ."""
    volume = torch.load(file, weights_only=True)[None]
    size, wanted = settings.crops.size, settings.crops.input_size
    resizer = transforms.Resize(wanted, mode="trilinear", align_corners=True) if wanted else None
    crops = []
    for start, axes, turns, shift in zip(plan.starts, plan.flips, plan.turns, plan.shifts, strict=True):
        end = [low + edge for low, edge in zip(start, size, strict=True)]
        crop: Any = transforms.SpatialCrop(roi_start=start, roi_end=end)(volume)
        crop = crop if resizer is None else resizer(crop)
        crop = transforms.Flip(axes)(crop) if axes else crop
        crop = transforms.Rotate90(turns)(crop) if turns else crop
        crop = transforms.ShiftIntensity(shift)(crop) if shift else crop
        crops.append(torch.as_tensor(crop))
    return crops


def loaded_crops(case: Case, sampler: CropSampler) -> CropBatch:
    """Do what a loader process of ours does for one volume."""
    return sampler.collate([sampler.draw(case, 0)])


def float_crops(case: Case, sampler: CropSampler) -> Tensor:
    """That, and what the device does with it: crops_N1XYZ as the network gets them."""
    batch, split = loaded_crops(case, sampler), sampler.settings.crops.random_per_volume
    size = sampler.settings.crops.network_size_vox
    parts = [
        network_input(stored, batch.flips_N3[part], batch.turns_N[part], batch.shifts_N[part], size)
        for stored, part in ((batch.random_RXYZ, slice(split)), (batch.bases_RXYZ, slice(split, None)))
    ]
    return torch.cat(parts)
