"""What is there, what is missing and what lies beside the list, in trees that were made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.collections.made_tree import put
from voco_cli.data.collections.catalogue import load_collection
from voco_cli.data.collections.check import check_collection
from voco_cli.errors import DataError


def test_a_whole_set_and_parts_of_others(tmp_path: Path) -> None:
    put(tmp_path, "btcv", "training", 24)
    put(tmp_path, "btcv", "validation", 6)
    put(tmp_path, "luna16", "validation", 5)
    for beside in ("imagesTr/img0061.nii.gz", "labelsTr/label0001.nii.gz", "labelsTr/img0001.nii.gz", "notes.txt"):
        (tmp_path / "BTCV" / beside).parent.mkdir(exist_ok=True)
        (tmp_path / "BTCV" / beside).touch()
    (tmp_path / "other").mkdir()
    check = check_collection(load_collection("voco_1.6k"), tmp_path)
    counts = {one.name: (one.listed, len(one.found), len(one.missing)) for one in check.sets}
    assert counts == {"btcv": (30, 30, 0), "tcia_covid19": (771, 0, 771), "luna16": (888, 5, 883)}
    assert check.sets[0].beside == ("imagesTr/img0061.nii.gz",)
    assert (check.found, check.missing, check.others) == (35, 1654, ("other",))
    assert (check.sets[0].place, check.sets[1].place, check.sets[1].expected) == (
        tmp_path / "BTCV",
        None,
        "TCIAcovid19",
    )


def test_scans_of_splits_that_are_not_taken_are_neither_missing_nor_beside(tmp_path: Path) -> None:
    put(tmp_path, "lits", "training", 108)
    put(tmp_path, "lits", "validation", 2)
    check = check_collection(load_collection("prect_160k"), tmp_path)
    lits = next(one for one in check.sets if one.name == "lits")
    assert (lits.listed, len(lits.found), lits.missing, lits.beside) == (108, 108, (), ())


def test_lesions_that_are_scans_and_sets_without_names(tmp_path: Path) -> None:
    put(tmp_path, "deeplesion", "training", 2)
    (tmp_path / "DeepLesion" / "ULS23_DeepLesion3D" / "images" / "9_lesion_01.nii.gz").touch()
    (tmp_path / "AbdomenAtlas" / "BDMAP_1").mkdir(parents=True)
    (tmp_path / "AbdomenAtlas" / "BDMAP_1" / "ct.nii.gz").touch()
    check = check_collection(load_collection("prect_160k"), tmp_path)
    found = {one.name: one for one in check.sets}
    assert found["deeplesion"].beside == ("ULS23_DeepLesion3D/images/9_lesion_01.nii.gz",)
    atlas = found["abdomenatlas"]
    assert (atlas.listed, atlas.is_named, atlas.missing, atlas.beside) == (5195, False, (), ("BDMAP_1/ct.nii.gz",))
    assert check.unnamed == ("healthy_ct", "abdomenatlas", "ct_rate", "nlst")


def test_links_are_followed_and_may_go_round(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "btcv", "training", 3)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "btcv").symlink_to(tmp_path / "elsewhere" / "BTCV")
    (tmp_path / "elsewhere" / "BTCV" / "again").symlink_to(tmp_path / "elsewhere" / "BTCV")
    check = check_collection(load_collection("btcv"), tmp_path / "data")
    assert (check.found, check.missing, check.sets[0].beside) == (3, 27, ())


def test_all_names_are_in_the_json(tmp_path: Path) -> None:
    there = put(tmp_path, "btcv", "training", 2)
    raw = check_collection(load_collection("btcv"), tmp_path).to_json()
    assert (raw["found"], raw["missing"], raw["sets"][0]["found"], len(raw["sets"][0]["missing"])) == (2, 28, there, 28)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is no folder"):
        check_collection(load_collection("btcv"), tmp_path / "none")
