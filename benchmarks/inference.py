"""Prediction of a CT: MONAI's sliding window and all classes interpolated at full resolution, against ours.

The same network, windows and weights on both sides, and the same labels in the end. Times are CPU time of one thread,
in turns in one process: of the whole way and of the way from logits to labels, both with a network so small that it
takes a part of the time only, and of the whole way with a SwinUNETR of a usual size, on a smaller scan. There the
network is nearly all, by MONAI's modules on one side and as our runs compute it on the other. The peak of each way is
the growth of the resident set in a process of its own (Linux).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.allocators import warm
from benchmarks.alone import peak_bytes, run_alone
from benchmarks.interleaved import compare
from benchmarks.made_scan import write_made_scan
from benchmarks.registry import Options
from benchmarks.rows import Figure, Ratio, Row
from voco_cli.config.schema import Model, Preprocess
from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.volume import quantise
from voco_cli.data.io.reader import read_scan
from voco_cli.models.build import build_segmenter
from voco_cli.models.swin import SwinSegmenter
from voco_cli.predict.segmentation import segment
from voco_cli.predict.sliding_window import Slab, labels_on_scan_grid, swept_axis

PREPROCESS = Preprocess(spacing_mm=(1.6, 1.6, 1.5), foreground_above=None)
"""Whole multiples of the made scan's 0.8 x 0.8 x 3 mm: with odd sizes in the plane all corners fall together, and
torch's own interpolation is exact, which it would not be otherwise."""
CPU = torch.device("cpu")
RESET_PEAK = "5"  # proc(5), clear_refs: the peak of the resident set begins anew
DIFFERENT_LABELS, REAL_DIFFERENT_LABELS = 1e-5, 1e-3
"""Share of voxels: where two logits are equal but for rounding, and that of two ways through a SwinUNETR is more."""


@dataclass(frozen=True)
class TrainingTask:
    """A scan and a network; a U-Net of two channels, for MONAI's way over a whole scan to be done in minutes."""

    shape: tuple[int, int, int] = (513, 513, 133)
    classes: int = 14
    backbone: Literal["unet", "swinunetr"] = "unet"
    feature_size: int = 2
    patch: int = 96
    overlap: float = 0.25

    def network(self) -> nn.Module:
        """The same weights each time."""
        torch.manual_seed(0)
        levels = {"levels": 3} if self.backbone == "unet" else {}
        model = Model(backbone=self.backbone, feature_size=self.feature_size, **levels)
        return build_segmenter(model, 1, self.classes).eval()


REAL = TrainingTask(shape=(257, 257, 89), backbone="swinunetr", feature_size=24)
QUICK = TrainingTask(shape=(97, 97, 30), classes=3, patch=32)
QUICK_REAL = TrainingTask(shape=(97, 97, 30), classes=3, patch=64, backbone="swinunetr", feature_size=12)


def rows(options: Options) -> Iterator[Row]:
    """The whole way, from logits to labels, the whole way with a real network, and the two peaks."""
    job = QUICK if options.quick else TrainingTask()
    warm()
    with TemporaryDirectory() as folder:
        volume, record = prepared(job.shape, Path(folder))
    network, rounds = job.network(), options.rounds_or(3)
    both = (volume, record, network, job.patch, job.overlap)
    differ = float(np.mean(stock(*both) != ours(*both)))
    words = f"{'x'.join(map(str, job.shape))}, {job.classes} classes"
    yield compare(
        f"{words}: the whole way",
        partial(stock, *both),
        partial(ours, *both),
        rounds,
        target=1.0,
        error=differ,
        tolerance=DIFFERENT_LABELS,
    )
    logits, swept = stock_logits(volume, network, job.patch, job.overlap), swept_axis(volume.shape, (job.patch,) * 3)
    yield compare(
        f"{words}: from logits to labels",
        lambda: stock_labels(logits, record),
        lambda: labels_on_scan_grid(slabs_of(logits[0], swept, job.patch // 2), record, swept),
        rounds,
        target=1.3,
        error=differ,
        tolerance=DIFFERENT_LABELS,
    )
    yield real_network_row(QUICK_REAL if options.quick else REAL, options.rounds_or(1))
    peaks = [float(run_alone("benchmarks.inference:growth_mb", side, asdict(job)).result) for side in ("stock", "ours")]
    yield Figure(f"{words}: peak of MONAI's way", "MB", peaks[:1])
    yield Figure(f"{words}: peak of ours, at most half", "MB", peaks[1:], peaks[0] / 2)


def real_network_row(job: TrainingTask, rounds: int) -> Ratio:
    """The whole way with a SwinUNETR: MONAI's with MONAI's modules, ours with ours."""
    with TemporaryDirectory() as folder:
        volume, record = prepared(job.shape, Path(folder))
    network = job.network()
    assert isinstance(network, SwinSegmenter)
    reference = partial(stock, volume, record, network.stock_forward, job.patch, job.overlap)
    mine = partial(ours, volume, record, network, job.patch, job.overlap)
    with torch.no_grad():
        return compare(
            f"{'x'.join(map(str, job.shape))}, SwinUNETR f={job.feature_size}: the whole way",
            reference,
            mine,
            rounds,
            error=float(np.mean(reference() != mine())),
            tolerance=REAL_DIFFERENT_LABELS,
        )


def prepared(shape: tuple[int, int, int], folder: Path) -> tuple[NDArray[Any], GridMap]:
    """A made scan as the network sees it."""
    made = preprocess(read_scan(write_made_scan(folder / "scan.nii.gz", shape)), PREPROCESS)
    return quantise(made.array_xyz, "uint8"), made.record


def stock_logits(volume: NDArray[Any], network: Callable[[Tensor], Any], patch: int, overlap: float) -> Tensor:
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


def stock(
    volume: NDArray[Any], record: GridMap, network: Callable[[Tensor], Any], patch: int, overlap: float
) -> NDArray[np.uint8]:
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


def growth_mb(side: str, wanted: dict[str, Any]) -> float:
    """What a process of its own does: one way, after a first window that sets everything up."""
    torch.set_num_threads(1)
    job = TrainingTask(**{**wanted, "shape": tuple(wanted["shape"])})
    with TemporaryDirectory() as folder:
        volume, record = prepared(job.shape, Path(folder))
    network = job.network()
    with torch.no_grad():
        network(torch.zeros(1, 1, *(job.patch,) * 3))
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = psutil.Process().memory_info().rss
    ways: dict[str, Callable[..., Any]] = {"stock": stock, "ours": ours}
    ways[side](volume, record, network, job.patch, job.overlap)
    return (peak_bytes() - before) / 1e6
