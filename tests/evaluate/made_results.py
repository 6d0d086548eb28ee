"""Result tables and files with known contents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from voco_cli.evaluate.segmentation.metrics import METRICS, Measurement, State, Structure
from voco_cli.evaluate.segmentation.table import ResultTable


def made_table(
    dice_NC: ArrayLike, patients: Sequence[str] | None = None, names: Sequence[str] = ("liver", "spleen")
) -> ResultTable:
    """Every metric has the values that are given for Dice."""
    values = np.array(dice_NC, dtype=np.float64)
    structures = tuple(Structure(name, (i + 1,)) for i, name in enumerate(names))
    return ResultTable(
        cases=tuple(f"case{n}" for n in range(len(values))),
        patients=tuple(patients or [f"p{n + 1:03d}" for n in range(len(values))]),
        structures=structures,
        values_NCM=np.repeat(values[:, :, None], len(METRICS), axis=2),
        states=tuple(tuple("both" for _ in structures) for _ in values),
        volumes_NC2=np.ones((len(values), len(structures), 2)),
    )


def measurement(
    state: State, millilitres: tuple[float, float], values: Sequence[float], diagonal: float
) -> Measurement:
    """A structure whose metrics are Dice, IoU, NSD, HD95 and ASD, in this order."""
    return Measurement(state, *millilitres, diagonal, dict(zip(METRICS, values, strict=True)))


def write_labels(
    path: Path, array_xyz: ArrayLike, spacing_mm: Sequence[float] = (1, 1, 2), origin_mm: float = 0
) -> Path:
    """A label map as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    array = np.asarray(array_xyz)
    nib.save(nib.Nifti1Image(array.astype(np.uint8) if array.dtype == np.int64 else array, affine), path)
    return path


def two_boxes(shift: int = 0, second: bool = True) -> np.ndarray:
    """Class 1 and class 2, moved by ``shift`` along x."""
    array = np.zeros((14, 10, 8), np.uint8)
    array[2 + shift : 6 + shift, 2:6, 2:6] = 1
    if second:
        array[7 + shift : 11 + shift, 2:6, 2:6] = 2
    return array
