"""Surface metrics: MONAI's three calls and DeepMind's code against ours, on organ-like classes.

``python -m benchmarks.surface [--size X Y Z] [--classes N] [--rounds N]``; the full size takes MONAI some 30 s a round,
``--size 192 192 64`` ends in less than a minute (the targets are for the full size). DeepMind's code is measured where
``surface-distance`` is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.interleaved import compare
from voco_cli.evaluation.measures import Measurement, Structure, measure_case

SPACING_ZYX_MM = (2.5, 0.78, 0.78)
TOLERANCE_MM = 2.0
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


def largest_difference(prediction: Labels, reference: Labels, classes: int) -> float:
    """Largest difference of Dice, surface Dice or 95 % Hausdorff (mm) between DeepMind's code and ours."""
    mine = [(one.dice, one.nsd, one.hd95_mm) for one in ours(prediction, reference, classes)]
    return float(np.abs(np.subtract(mine, deepmind_calls(prediction, reference, classes))).max())


def main() -> None:
    """Print times, ratios, spread, and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs=3, type=int, default=(512, 512, 133), metavar=("X", "Y", "Z"))
    parser.add_argument("--classes", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y, z = args.size
    maps = made_labels((z, y, x), args.classes)
    print(f"{args.classes} classes in {x}x{y}x{z}, {SPACING_ZYX_MM[::-1]} mm, CPU seconds of one process")
    others: list[tuple[str, Callable[..., object], float]] = [("MONAI: dice, HD95, ASD", monai_calls, 25.0)]
    if _has_deepmind():
        others.append(("DeepMind: dice, surface dice, HD95", deepmind_calls, 2.0))
        print(f"largest difference from DeepMind's {largest_difference(*maps, args.classes):.1e}")
    for name, calls, target in others:
        found = compare(partial(calls, *maps, args.classes), partial(ours, *maps, args.classes), args.rounds)
        print(found.line(name, target), flush=True)


def _has_deepmind() -> bool:
    try:
        import surface_distance  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main()
