"""An index of a collection has exactly the authors' scans, each in the split that they gave it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.collections.made_tree import put
from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.collections.catalogue import load_collection
from voco_cli.data.collections.index import index_collection
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.errors import DataError, UsageError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    put(tmp_path, "btcv", "training", 2, real=True)
    put(tmp_path, "btcv", "validation", 1, real=True)
    put(tmp_path, "totalsegmentator", "training", 2, real=True)
    put(tmp_path, "hnscc", "training", 2, real=True)
    write_nifti(tmp_path / "BTCV" / "imagesTr" / "img0061.nii.gz")  # nobody lists it
    write_nifti(tmp_path / "Totalsegmentator_dataset" / "s1405" / "segmentations" / "liver.nii.gz")
    return tmp_path


def test_listed_scans_alone_with_their_split(data: Path) -> None:
    datalist, check = index_collection(load_collection("voco_10k"), data, data / "data.json")
    names = {split: [entry.name for entry in getattr(datalist, split)] for split in ("training", "validation", "test")}
    assert names == {
        "training": ["img0001", "img0002", "s1405", "s1404", "00001", "00002"],
        "validation": ["img0035"],
        "test": [],
    }
    patients = [entry.patient for entry in datalist.training]
    assert patients == [
        "btcv/img0001",
        "btcv/img0002",
        "totalsegmentator/s1405",
        "totalsegmentator/s1404",
        "hnscc/00001",
        "hnscc/00002",
    ]
    assert (datalist.name, datalist.modality, datalist.split) == ("voco_10k", "CT", None)
    assert check.missing == 9963 - 7
    told = datalist.statistics["collection"]
    assert (told["name"], told["missing"]["btcv"], told["missing"]["luna16"]) == ("voco_10k", 27, 888)


def test_the_file_is_read_again_and_may_be_replaced(data: Path) -> None:
    output = data / "data.json"
    first, _ = index_collection(load_collection("voco_10k"), data, output)
    write_datalist(first, output)
    assert [split for split, _ in read_datalist(output).entries()] == ["training"] * 6 + ["validation"]
    put(data, "btcv", "training", 3, real=True)
    again, _ = index_collection(load_collection("voco_10k"), data, output)
    assert len(again.training) == 7
    assert len(build_index([data / "BTCV"], output, IndexOptions()).training) == 4  # of five, by a rule


def test_another_program_s_list_is_not_replaced(data: Path) -> None:
    (data / "data.json").write_text(json.dumps({"training": [{"image": "a.nii.gz"}]}))
    with pytest.raises(UsageError, match="was not written by `voco index`"):
        index_collection(load_collection("voco_10k"), data, data / "data.json")


def test_damage_is_listed_with_its_reason(data: Path) -> None:
    (data / "BTCV" / "imagesTr" / "img0001.nii.gz").write_bytes(b"")
    datalist, _ = index_collection(load_collection("btcv"), data, data / "data.json")
    assert [(one.path.name, one.reason) for one in datalist.skipped] == [("img0001.nii.gz", "empty (0 bytes).")]
    write_nifti(data / "BTCV" / "imagesTr" / "img0001.nii.gz", numbers() * 0)
    full, _ = index_collection(load_collection("btcv"), data, data / "data.json", full=True, workers=1)
    assert [one.reason for one in full.skipped] == ["constant: every voxel is 0."]
    assert all(entry.content for entry in full.training)


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none of the 9963 scans that the collection voco_10k lists") as refused:
        index_collection(load_collection("voco_10k"), tmp_path, tmp_path / "data.json")
    assert refused.value.hint == "voco collections show voco_10k names the folders that it expects"


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "btcv", "training", 1)
    with pytest.raises(DataError, match="None of the 1 scans of btcv"):
        index_collection(load_collection("btcv"), tmp_path, tmp_path / "data.json")
