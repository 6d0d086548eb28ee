"""The scans of a demo: generated CTs, some of them with labels and a list."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from voco_cli.atomic_files import write_atomic
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct, patient_seed

SHAPE_XYZ = (48, 48, 16)
SPACING_MM = (7.5, 5.8, 20.0)
"""The field of view of the generated patients over their shape, to two digits."""
UNLABELLED_SEED, LABELLED_SEED = 0, 1
"""Groups of generated patients; two groups share nobody."""
LABELLED = {"training": 8, "validation": 2, "test": 12}
"""Labelled patients by split."""
ORGANS = (6, 1, 2, 3, 8)
"""Liver, spleen, kidneys, aorta: what a network of a minute can find. Label values are 1, 2, ... in this order."""


def unlabelled_name(number: int) -> str:
    """Return the file name of an unlabelled scan, from 1 on."""
    return f"ct_{number:03d}.nii.gz"


def write_scans(folder: Path, unlabelled: int) -> list[Path]:
    """Write the scans of a demo; files that are there from an earlier call are written anew, with the same content.

    Args:
        folder: gets ``unlabelled/*.nii.gz`` and ``labelled/`` with images, labels and ``dataset.json``.
        unlabelled: how many.
    Returns:
        The folder of the unlabelled scans, and the list of the labelled ones.
    Raises:
        ResourceError: the disk is full or does not allow it.
    """
    for index in range(unlabelled):
        _write(_patient(UNLABELLED_SEED, index), folder / "unlabelled" / unlabelled_name(index + 1))
    names = [f"patient_{index + 1:03d}_ct.nii.gz" for index in range(sum(LABELLED.values()))]
    labelled = folder / "labelled"
    for index, name in enumerate(names):
        ct = _patient(LABELLED_SEED, index)
        _write(ct, labelled / "images" / name, labelled / "labels" / name)
    write_atomic(labelled / "dataset.json", (json.dumps(_decathlon_list(names), indent=1) + "\n").encode())
    return [folder / "unlabelled", labelled / "dataset.json"]


def _patient(group: int, index: int) -> SyntheticCT:
    return replace(generate_ct(patient_seed(group, index), SHAPE_XYZ), spacing_mm=SPACING_MM)


def _write(ct: SyntheticCT, image: Path, label: Path | None = None) -> None:
    scan = ct.scan(image)
    write_scan(scan.array_zyx, scan, image)
    if label is not None:
        values = np.zeros(len(BTCV_ORGANS) + 1, np.uint8)
        values[list(ORGANS)] = range(1, len(ORGANS) + 1)
        write_scan(values[ct.labels_xyz].transpose(2, 1, 0), scan, label)


def _decathlon_list(names: Iterable[str]) -> dict[str, object]:
    """Return the list in the format of the Medical Segmentation Decathlon, with its splits."""
    left = iter([{"image": f"images/{name}", "label": f"labels/{name}"} for name in names])
    return {
        "name": "generated torsos",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(i): BTCV_ORGANS[organ] for i, organ in enumerate(ORGANS, start=1)}},
        **{split: [next(left) for _ in range(count)] for split, count in LABELLED.items()},
    }
