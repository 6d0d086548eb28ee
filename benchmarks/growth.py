"""How time and memory grow from 100 to 160,000 scans: index, data.json, split, full look, start, an epoch's draw.

Scans of 2 x 2 x 2 voxels, each a file of its own; in the cache up to 1,000 made volumes of different sizes, and beyond
that further names of them. Each stage and size in a process of its own: CPU seconds of its own work (imports left out),
and its peak of memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.alone import run_alone
from benchmarks.registry import Options
from benchmarks.rows import Figure, Row, Table

SIZES = (100, 1_000, 10_000, 160_000)
QUICK = (20, 40, 80)
STAGES = {
    "index": "index",
    "open data.json": "open_list",
    "split": "split",
    "full look": "look_up",
    "start": "start",
    "resume": "start",
    "draws of an epoch": "draw_epoch",
}
"""What users wait for, in this order, and the function of `growth_stages` that does it."""
BEFORE = {"index": "lay_out", "full look": "fill_cache"}
"""What sets the stage for it."""
MOST_EXPONENT = 1.1
LEAST_S = 1e-2
SHORT_S = 1.0
OPEN_LIMIT_S, OPEN_LIMIT_GB = 10.0, 2.0
START_LIMIT_S, START_LIMIT_GB = 15.0, 1.0


def rows(options: Options) -> Iterator[Row]:
    """Two tables, and the exponents of time and memory."""
    sizes = QUICK if options.quick else SIZES
    measured = [_measure(size) for size in sizes]
    for unit, found in (("CPU s", 0), ("GB", 1)):
        columns = [[one[stage][found] for one in measured] for stage in STAGES]
        table = [[float(size), *row] for size, row in zip(sizes, zip(*columns, strict=True), strict=True)]
        yield Table(f"growth, {unit}", ["scans", *STAGES], table)
    for stage in STAGES:
        seconds = [one[stage][0] for one in measured]
        yield Figure(f"{stage}: exponent of time, fitted", "", [exponent(sizes, seconds)])
        yield Figure(f"{stage}: at most, between two sizes", "", [steepest(sizes, seconds)], MOST_EXPONENT)
    last = measured[-1]["open data.json"]
    yield Figure(f"opening {sizes[-1]} scans", "CPU s", [last[0]], OPEN_LIMIT_S)
    yield Figure(f"opening {sizes[-1]} scans, peak", "GB", [last[1]], OPEN_LIMIT_GB)
    for stage in ("start", "resume"):
        cpu_s, peak_gb = measured[-1][stage]
        yield Figure(f"{stage} with {sizes[-1]} scans", "CPU s", [cpu_s], START_LIMIT_S)
        yield Figure(f"{stage} with {sizes[-1]} scans, peak", "GB", [peak_gb], START_LIMIT_GB)


def _measure(size: int) -> dict[str, tuple[float, float]]:
    """CPU seconds and peak, GB, of every stage."""
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="voco-growth-") as folder:
        for stage, function in STAGES.items():
            if stage in BEFORE:
                more: tuple[Any, ...] = (size,) if stage == "index" else ()
                run_alone(f"benchmarks.growth_stages:{BEFORE[stage]}", folder, *more)
            found[stage] = _least(f"benchmarks.growth_stages:{function}", folder)
    return found


def _least(place: str, folder: str) -> tuple[float, float]:
    """The least of three times where it does not take long: on a busy machine the others say how busy it is."""
    alone = [run_alone(place, folder)]
    if float(alone[0].result) < SHORT_S:
        alone += [run_alone(place, folder) for _ in range(2)]
    return min(float(one.result) for one in alone), max(one.peak_bytes for one in alone) / 1e9


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope b of the line through log(value) against log(size), least squares: value ~ size^b."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def steepest(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The largest slope between neighbouring sizes, which a constant start at small sizes does not hide.

    Less than a hundredth of a second counts as one: nobody waits for it, and the clock does not tell it from nothing.
    """
    return float(np.max(np.diff(np.log(np.maximum(values, LEAST_S))) / np.diff(np.log(sizes))))
