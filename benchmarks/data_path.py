"""From the cache to the crops of a volume: a torch file of float32 with MONAI's transforms, against the blosc2 store.

``python -m benchmarks.data_path [SCAN] [--rounds N]``; without a scan a generated one is used.

The reference does what the released code does for a volume: load the whole cached tensor, cut every crop, flip and
turn it, resize it (cvpr) or shift it (tpami). Ours reads each crop from the store and turns it in the one copy that
puts it into the batch; crops stay bytes where the resize is left to the device.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai import transforms
from numpy.typing import NDArray

from benchmarks.interleaved import compare
from benchmarks.made_scan import write_made_scan
from voco_cli.cache.encoding import quantise
from voco_cli.cache.preprocess import preprocess
from voco_cli.cache.store import VolumeCache
from voco_cli.cache.volume import StoredVolume
from voco_cli.dataset.datalist import Entry
from voco_cli.scans.read import read_scan
from voco_cli.settings.sections import Cache, Preprocess

Start = tuple[int, int, int]
CODECS: tuple[Literal["zstd", "lz4"], ...] = ("zstd", "lz4")


@dataclass(frozen=True)
class Plan:
    """Where the crops of a step lie and how each is turned.

    Attributes:
        starts: lower corners, voxels.
        size: edge of a crop, voxels.
        flips: for each crop, the axes that are flipped.
        turns: for each crop, quarter turns in the x-y plane.
    """

    starts: list[Start]
    size: int
    flips: list[tuple[int, ...]]
    turns: list[int]


def make_plan(grid: int, size: int, seed: int = 0) -> Plan:
    """Base crops of a grid x grid plane from the volume's corner, two random crops, turned with the released odds."""
    rng = np.random.default_rng(seed)
    starts: list[Start] = [(i * size, j * size, 0) for i in range(grid) for j in range(grid)]
    starts += [
        (int(rng.integers(0, size * (grid - 1) + 1)), int(rng.integers(0, size * (grid - 1) + 1)), 0) for _ in "ab"
    ]
    flips = [tuple(axis for axis in range(3) if rng.random() < 0.2) for _ in starts]
    turns = [int(rng.integers(1, 4)) if rng.random() < 0.2 else 0 for _ in starts]
    return Plan(starts, size, flips, turns)


def reference_crops(file: Path, plan: Plan, resize: int | None, shift: float) -> list[Any]:
    """As the released code: float32 from a torch file, one MONAI transform after the other."""
    volume = torch.load(file, weights_only=True)[None]
    resizer = transforms.Resize((resize,) * 3, mode="trilinear", align_corners=True) if resize else None
    crops = []
    for (x, y, z), axes, turns in zip(plan.starts, plan.flips, plan.turns, strict=True):
        size = plan.size
        crop = transforms.SpatialCrop(roi_start=(x, y, z), roi_end=(x + size, y + size, z + size))(volume)
        crop = crop if resizer is None else resizer(crop)
        crop = transforms.Flip(axes)(crop) if axes else crop
        crop = transforms.Rotate90(turns)(crop) if turns else crop
        crops.append(transforms.ShiftIntensity(shift)(crop) if shift else crop)
    return crops


def stored_crops(volume: StoredVolume, plan: Plan) -> NDArray[Any]:
    """The same crops from the store, bytes, turned in the copy that fills the batch."""
    size = plan.size
    batch = np.empty((len(plan.starts), size, size, size), dtype=volume.dtype)
    crops = volume.read_crops(plan.starts, (size, size, size))
    for target, crop, axes, turns in zip(batch, crops, plan.flips, plan.turns, strict=True):
        np.copyto(target, np.rot90(np.flip(crop, axes) if axes else crop, turns, axes=(0, 1)))
    return batch


def float_crops(volume: StoredVolume, plan: Plan, resize: int | None, shift: float) -> list[torch.Tensor]:
    """The same as float32 on the CPU, crop by crop so that each stays in the processor's cache."""
    crops = []
    unit = torch.empty(1, 1, *(plan.size,) * 3)
    for crop in torch.from_numpy(stored_crops(volume, plan)):
        if resize:
            unit[0, 0].copy_(crop)
            size = (resize, resize, resize)
            resized = torch.nn.functional.interpolate(unit, size, mode="trilinear", align_corners=True)
            crops.append(resized.mul_(1 / volume.full_scale))
        else:
            crops.append(crop.float().mul_(1 / volume.full_scale).add_(shift))
    return crops


def main() -> None:
    """Print times, ratios and bytes on disk for both releases' settings and both codecs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = args.scan or write_made_scan(folder / "made.nii.gz")
        cvpr = Preprocess(foreground_above=0.3, resize_vox=(384, 384, 96))
        tpami = Preprocess(spacing_mm=(1.0, 1.0, 1.0), foreground_above=0.0, min_size_vox=(192, 192, 64))
        _compare_release(folder / "cvpr", scan, cvpr, (4, 96, 64), args.rounds)
        _compare_release(folder / "tpami", scan, tpami, (3, 64, None), args.rounds)


def _compare_release(
    folder: Path, path: Path, settings: Preprocess, crops: tuple[int, int, int | None], rounds: int
) -> None:
    grid, size, resize = crops
    shift = 0.0 if resize else 0.05
    scan = read_scan(path)
    volume = preprocess(scan, settings).array_xyz
    folder.mkdir()
    file = folder / "authors.pt"
    torch.save(torch.from_numpy(np.ascontiguousarray(volume)), file)
    plan = make_plan(grid, size)
    print(f"{folder.name}: volume {volume.shape}, {len(plan.starts)} crops of {size}^3; authors' file ", end="")
    print(f"{file.stat().st_size / 1e6:.1f} MB", flush=True)

    def reference() -> object:
        return reference_crops(file, plan, resize, shift)

    for codec in CODECS:
        entry = Entry(image=path, patient="one", shape=scan.shape_xyz, spacing_mm=scan.spacing_xyz_mm)
        cache = VolumeCache(folder / codec, settings, Cache(codec=codec))
        written = cache.build([entry], workers=1).bytes
        stored = cache.lookup(entry)
        assert stored is not None
        assert np.array_equal(stored.read((0, 0, 0), stored.shape_xyz), quantise(volume, "uint8"))
        print(f"  {codec}: {written / 1e6:.1f} MB, {written / file.stat().st_size:.3f} of the authors'", flush=True)
        as_bytes = compare(reference, partial(stored_crops, stored, plan), rounds)
        print("  " + as_bytes.line(f"{codec}, bytes, turned", 7.0 if resize else 10.0), flush=True)
        as_floats = compare(reference, partial(float_crops, stored, plan, resize, shift), rounds)
        print("  " + as_floats.line(f"{codec}, float32 on the CPU", 2.0 if resize else 10.0), flush=True)


if __name__ == "__main__":
    main()
