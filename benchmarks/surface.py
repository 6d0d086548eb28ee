"""Surface metrics: MONAI's three calls and DeepMind's code against ours, on organ-like classes.

Once with predictions that are near their reference, and once with a piece of each class far away from it, as large
as the structure: distances are then long, and searched for in a box of most of the scan.

The full size takes MONAI some 30 s a round, twice. DeepMind's code is measured where ``surface-distance`` is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.interleaved import compare
from benchmarks.registry import Options
from benchmarks.rows import Note, Row
from voco_cli.evaluate.segmentation.metrics import Measurement, Structure, measure_case

SPACING_ZYX_MM = (2.5, 0.78, 0.78)
TOLERANCE_MM = 2.0
FULL, QUICK = (512, 512, 133), (64, 64, 24)
CLASSES = 13
MONAI_TOLERANCE_MM, DEEPMIND_TOLERANCE_MM = 5e-6, 1e-9
Labels = NDArray[np.uint8]


def made_labels(shape_zyx: tuple[int, int, int], classes: int) -> tuple[Labels, Labels]:
    """Bumpy ellipsoids as a reference, and the same with other bumps as a prediction."""
    rng = np.random.default_rng(0)
    maps = [np.zeros(shape_zyx, np.uint8), np.zeros(shape_zyx, np.uint8)]
    axes = [np.linspace(0, 1, n, dtype=np.float32) for n in shape_zyx]
    for label in range(1, classes + 1):
        centre, radius = rng.uniform(0.25, 0.75, 3), rng.uniform(0.04, 0.16, 3)
        distance = sum(
            (((axis - c) / r) ** 2).reshape([-1 if k == i else 1 for k in range(3)])
            for i, (axis, c, r) in enumerate(zip(axes, centre, radius, strict=True))
        )
        for array in maps:
            coarse = ndimage.zoom(rng.normal(size=(8, 16, 16)), np.array(shape_zyx) / (8, 16, 16), order=1)
            array[distance + 0.15 * coarse[: shape_zyx[0], : shape_zyx[1], : shape_zyx[2]] < 1] = label
    return maps[0], maps[1]


def with_distant_pieces(labels_zyx: Labels) -> Labels:
    """A copy in which each structure stands once more, half the plane away, where nothing was."""
    _, y, x = labels_zyx.shape
    return np.where(labels_zyx == 0, np.roll(labels_zyx, (y // 2, x // 2), axis=(1, 2)), labels_zyx)


def ours(prediction: Labels, reference: Labels, classes: int) -> list[Measurement]:
    """All metrics of all classes."""
    structures = [Structure(str(label), (label,)) for label in range(1, classes + 1)]
    return measure_case(prediction, reference, structures, SPACING_ZYX_MM, TOLERANCE_MM)


def monai_calls(prediction: Labels, reference: Labels, classes: int) -> tuple[Any, Any, Any]:
    """Dice, 95 % Hausdorff and average surface distance as MONAI's users compute them: one-hot, three calls."""
    from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance

    def one_hot(labels: Labels) -> torch.Tensor:
        return torch.from_numpy(np.stack([labels == label for label in range(1, classes + 1)])[None])

    first, second = one_hot(prediction), one_hot(reference)
    return (
        compute_dice(first, second, include_background=True),
        compute_hausdorff_distance(first, second, True, percentile=95, spacing=SPACING_ZYX_MM),
        compute_average_surface_distance(first, second, True, symmetric=True, spacing=SPACING_ZYX_MM),
    )


def deepmind_calls(prediction: Labels, reference: Labels, classes: int) -> list[tuple[float, float, float]]:
    """Dice, surface Dice and 95 % Hausdorff by surface-distance, one search a class."""
    import surface_distance as sd  # type: ignore[import-untyped]

    rows = []
    for label in range(1, classes + 1):
        first, second = reference == label, prediction == label
        found = sd.compute_surface_distances(first, second, SPACING_ZYX_MM)
        rows.append(
            (
                float(sd.compute_dice_coefficient(first, second)),
                float(sd.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
                float(sd.compute_robust_hausdorff(found, 95)),
            )
        )
    return rows


def deepmind_difference(prediction: Labels, reference: Labels, classes: int) -> float:
    """Largest difference of Dice, surface Dice or 95 % Hausdorff (mm) between DeepMind's code and ours."""
    mine = [(one.dice, one.nsd, one.hd95_mm) for one in ours(prediction, reference, classes)]
    return float(np.abs(np.subtract(mine, deepmind_calls(prediction, reference, classes))).max())


def monai_difference(prediction: Labels, reference: Labels, classes: int) -> float:
    """Largest difference of Dice between MONAI's calls and ours; distances are defined otherwise there."""
    mine = [one.dice for one in ours(prediction, reference, classes)]
    return float(np.abs(np.subtract(mine, monai_calls(prediction, reference, classes)[0][0].numpy())).max())


def rows(options: Options) -> Iterator[Row]:
    """All metrics of all classes of a pair of label maps, the prediction without distant pieces and with them."""
    x, y, z = QUICK if options.quick else FULL
    reference, prediction = made_labels((z, y, x), CLASSES)
    yield Note("size", f"{CLASSES} classes in {x}x{y}x{z} of {SPACING_ZYX_MM[::-1]} mm")
    yield from _compared("", (prediction, reference, CLASSES), options, targets=(25.0, 2.0))
    scattered = with_distant_pieces(prediction)
    yield from _compared(", with distant pieces", (scattered, reference, CLASSES), options, targets=(None, None))


def _compared(
    words: str, maps: tuple[Labels, Labels, int], options: Options, targets: tuple[float | None, float | None]
) -> Iterator[Row]:
    """Both others against ours, on a prediction and its reference."""
    others: list[tuple[str, Callable[..., object], float | None, float, float]] = [
        ("MONAI: dice, HD95, ASD", monai_calls, targets[0], monai_difference(*maps), MONAI_TOLERANCE_MM)
    ]
    if _has_deepmind():
        difference = deepmind_difference(*maps)
        name = "DeepMind: dice, surface dice, HD95"
        others.append((name, deepmind_calls, targets[1], difference, DEEPMIND_TOLERANCE_MM))
    for name, calls, target, error, tolerance in others:
        reference, mine = partial(calls, *maps), partial(ours, *maps)
        rounds = options.rounds_or(3)
        yield compare(f"{name}{words}", reference, mine, rounds, target=target, error=error, tolerance=tolerance)


def _has_deepmind() -> bool:
    try:
        import surface_distance  # noqa: F401
    except ImportError:
        return False
    return True
