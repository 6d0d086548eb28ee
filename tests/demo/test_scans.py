"""The scans of a demo: who is in which split, what the labels hold, and that nobody is there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.reader import read_scan
from voco_cli.data.synthetic.generate import generate_ct, patient_seed
from voco_cli.demo.stages import LABELLED, ORGANS, SHAPE_XYZ, SPACING_MM, unlabelled_name, write_scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    wrote = write_scans(root, 3)
    assert wrote == [root / "unlabelled", root / "labelled" / "dataset.json"]
    return root


def test_the_list_is_read_with_its_splits_and_names(folder: Path) -> None:
    datalist = read_datalist(folder / "labelled" / "dataset.json")
    counts = {split: len(getattr(datalist, split)) for split in LABELLED}
    assert counts == LABELLED
    assert datalist.labels == {
        "0": "background",
        **{"1": "liver", "2": "spleen", "3": "right kidney", "4": "left kidney", "5": "aorta"},
    }
    assert datalist.modality == "CT"
    patients = [entry.patient for _, entry in datalist.entries()]
    assert len(set(patients)) == len(patients) == sum(LABELLED.values())
    assert all(entry.label is not None for _, entry in datalist.entries())


def test_labels_are_the_organs_renumbered_and_the_rest_is_background(folder: Path) -> None:
    first = read_datalist(folder / "labelled" / "dataset.json").training[0]
    assert first.label is not None
    labels = read_scan(first.label).array_zyx
    phantom = generate_ct(patient_seed(1, 0), SHAPE_XYZ)
    for value, organ in enumerate(ORGANS, start=1):
        assert np.array_equal(labels == value, phantom.labels_xyz.transpose(2, 1, 0) == organ)
    assert np.unique(labels).tolist() == list(range(len(ORGANS) + 1))
    scan = read_scan(first.image)
    assert scan.spacing_xyz_mm == pytest.approx(SPACING_MM)
    assert np.array_equal(scan.array_zyx, phantom.image_hu_xyz.transpose(2, 1, 0))


def test_no_patient_is_both_labelled_and_unlabelled(folder: Path) -> None:
    unlabelled = {read_scan(path).array_zyx.tobytes() for path in (folder / "unlabelled").iterdir()}
    labelled = {read_scan(path).array_zyx.tobytes() for path in (folder / "labelled" / "images").iterdir()}
    assert (len(unlabelled), len(labelled)) == (3, sum(LABELLED.values()))
    assert not unlabelled & labelled
    assert (folder / "unlabelled" / unlabelled_name(3)).is_file()
