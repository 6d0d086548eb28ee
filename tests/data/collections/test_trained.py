"""Cases are known by the names of their files within their set, and by nothing that is merely alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.data.collections.catalogue import load_collection
from voco_cli.data.collections.trained import TrainedCases, case_in_set, trained_cases


@pytest.mark.parametrize(
    ("path", "case"),
    [
        ("imagesTr/img0035.nii.gz", "img0035"),
        ("imagesTr/word_0002.nii.gz", "word_0002"),
        ("imagesTr/FLARE22_Tr_0011_0000.nii.gz", "FLARE22_Tr_0011"),
        ("s1405/ct.nii.gz", "s1405"),
        ("Training Batch 1/volume-12.nii", "volume-12"),
        ("00001.nii.gz", "00001"),
        ("ct.nii.gz", "ct"),
    ],
)
def test_what_a_set_calls_a_case(path: str, case: str) -> None:
    assert case_in_set(Path(path)) == case


def files(*names: str) -> dict[str, Path]:
    return {name: Path("/somewhere/else") / f"{name}.nii.gz" for name in names}


def told(collection: str, public_set: str | None, *names: str) -> TrainedCases:
    return trained_cases(load_collection(collection), public_set, files(*names))


def test_trained_aside_and_untold() -> None:
    assert told("prect_160k", "btcv", "img0001", "img0035") == TrainedCases(trained=("img0001", "img0035"))
    assert told("voco_10k", "btcv", "img0001", "img0035") == TrainedCases(("img0001",), ("img0035",))
    assert told("prect_160k", "lits", "liver_114", "liver_126") == TrainedCases(("liver_114",), ("liver_126",))
    assert told("prect_160k", "word", "word_0014").trained == ("word_0014",)  # a test case
    assert told("prect_160k", "amos", "amos_0008", "amos_0002") == TrainedCases(("amos_0008",), ("amos_0002",))


@pytest.mark.parametrize("alike", ["img0036_0001", "img00036", "IMG0036", "img0036b", "img_0036", "0036", "img0061"])
def test_a_name_that_is_only_alike_is_not_matched(alike: str) -> None:
    assert told("prect_160k", "btcv", alike) == TrainedCases(untold=(alike,), reason="not listed")


def test_a_name_of_another_set_tells_nothing() -> None:
    assert told("prect_160k", "lits", "img0036").trained == ()
    assert told("prect_160k", "msd_spleen", "img0036").is_of_other_set
    assert told("voco_10k", "lidc", "00002").is_of_other_set  # not loaded by the code
    assert told("prect_160k", None, "img0036") == TrainedCases(untold=("img0036",), reason="no set")


def test_a_set_that_is_taken_as_a_whole() -> None:
    assert told("prect_160k", "abdomenatlas", "BDMAP_1") == TrainedCases(untold=("BDMAP_1",), reason="whole set")
