"""Prediction of a CT: MONAI's sliding window and all classes interpolated at full resolution, against ours.

``python -m benchmarks.inference [--shape X Y Z] [--classes N] [--feature-size N] [--patch N] [--overlap X]
[--rounds N]``

The same network, windows and weights on both sides, and the same labels in the end. Times are CPU time of one thread,
in turns in one process: of the whole way, and of the way from logits to labels alone. The peak of each way is the
growth of the resident set in a process of its own (Linux). The full size is ``--shape 513 513 133 --patch 96``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.interleaved import compare
from benchmarks.made_scan import write_made_scan
from voco_cli.cache.encoding import quantise
from voco_cli.cache.grid_map import GridMap
from voco_cli.cache.preprocess import preprocess
from voco_cli.downstream.prediction.scan_grid import labels_on_scan_grid
from voco_cli.downstream.prediction.segment import segment
from voco_cli.downstream.prediction.sliding_window import Slab, swept_axis
from voco_cli.networks.segmenter import build_segmenter
from voco_cli.scans.read import read_scan
from voco_cli.settings.sections import Model, Preprocess
from voco_cli.settings.task import Predict

PREPROCESS = Preprocess(spacing_mm=(1.6, 1.6, 1.5), foreground_above=None)
"""Whole multiples of the made scan's 0.8 x 0.8 x 3 mm: with odd sizes in the plane all corners fall together, and
torch's own interpolation is exact, which it would not be otherwise."""
CPU = torch.device("cpu")
RESET_PEAK = "5"  # proc(5), clear_refs: the peak of the resident set begins anew


def prepared(shape: tuple[int, int, int], folder: Path) -> tuple[NDArray[Any], GridMap]:
    """A made scan as the network sees it."""
    made = preprocess(read_scan(write_made_scan(folder / "scan.nii.gz", shape)), PREPROCESS)
    return quantise(made.array_xyz, "uint8"), made.record


def stock_logits(volume: NDArray[Any], network: nn.Module, patch: int, overlap: float) -> Tensor:
    """All logits of the whole preprocessed volume."""
    from monai.inferers import sliding_window_inference

    inputs = torch.from_numpy(volume).float()[None, None] / 255
    with torch.no_grad():
        logits = sliding_window_inference(inputs, (patch,) * 3, 1, network, overlap=overlap, mode="gaussian")
    assert isinstance(logits, Tensor)
    return logits


def stock_labels(logits_NKXYZ: Tensor, record: GridMap) -> NDArray[np.uint8]:
    """All classes on the scan's grid, then the largest; turned from RAS to the scan's own axes (z, y, x)."""
    size = [record.source_shape_xyz[axis] for axis in record.axes]
    full = torch.nn.functional.interpolate(logits_NKXYZ, size=size, mode="trilinear", align_corners=True)
    labels = full[0].argmax(0).to(torch.uint8)
    turned = labels.flip([axis for axis in range(3) if record.flipped[axis]]).numpy()
    return np.ascontiguousarray(turned.transpose(np.argsort([2 - axis for axis in record.axes])))


def stock(volume: NDArray[Any], record: GridMap, network: nn.Module, patch: int, overlap: float) -> NDArray[np.uint8]:
    """The whole way, MONAI's."""
    return stock_labels(stock_logits(volume, network, patch, overlap), record)


def ours(volume: NDArray[Any], record: GridMap, network: nn.Module, patch: int, overlap: float) -> NDArray[Any]:
    """The whole way, ours."""
    predict = Predict(overlap=overlap)
    return segment(volume[None], record, network, patch_size=(patch,) * 3, predict=predict, device=CPU)


def slabs_of(logits_KXYZ: Tensor, swept: int, thick: int) -> Iterator[Slab]:
    """Finished logits as the sliding window hands them on."""
    planes = logits_KXYZ.movedim(1 + swept, 0)
    for start in range(0, len(planes), thick):
        yield Slab(start, planes[start : start + thick].contiguous())


def peak_megabytes(side: str, arguments: list[str]) -> float:
    """Growth of the resident set of a process that does it once."""
    command = [sys.executable, "-m", "benchmarks.inference", "--only", side, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(side: str, *arguments: Any) -> None:
    """What a process of its own does: one way, after a first window that sets everything up."""
    _, _, network, patch, _ = arguments
    with torch.no_grad():
        network(torch.zeros(1, 1, *(patch,) * 3))
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = psutil.Process().memory_info().rss
    {"stock": stock, "ours": ours}[side](*arguments)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print((int(status["VmHWM"].split()[0]) * 1024 - before) / 1e6)


def main() -> None:
    """Print times, ratios, peaks, and how many labels differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(257, 257, 90), help="voxels; odd in the plane")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--feature-size", type=int, default=2)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["stock", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model(backbone="unet", feature_size=args.feature_size, levels=3)
    network = build_segmenter(model, 1, args.classes).eval()
    with TemporaryDirectory() as folder:
        volume, record = prepared(tuple(args.shape), Path(folder))
    both = (volume, record, network, args.patch, args.overlap)
    if args.only:
        print_peak(args.only, *both)
        return
    words = "x".join(map(str, args.shape))
    differ = np.mean(stock(*both) != ours(*both))
    print(f"{words} to {'x'.join(map(str, volume.shape))}, {args.classes} classes; {differ:.1e} of the labels differ")
    print(compare(partial(stock, *both), partial(ours, *both), args.rounds).line("whole way", 1.0), flush=True)
    logits, swept = stock_logits(volume, network, args.patch, args.overlap), swept_axis(volume.shape, (args.patch,) * 3)
    comparison = compare(
        lambda: stock_labels(logits, record),
        lambda: labels_on_scan_grid(slabs_of(logits[0], swept, args.patch // 2), record, swept),
        args.rounds,
    )
    print(comparison.line("from logits to labels", 1.3), flush=True)
    peaks = [peak_megabytes(side, sys.argv[1:]) for side in ("stock", "ours")]
    verdict = "meets" if 2 * peaks[1] <= peaks[0] else "MISSES"
    print(f"peak memory: stock {peaks[0]:.0f} MB, ours {peaks[1]:.0f} MB   {verdict} half")


if __name__ == "__main__":
    main()
