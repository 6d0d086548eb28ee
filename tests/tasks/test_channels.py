"""Scans that share a label map are the channels of one case, named as the data set or the files name them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.tasks.channels import channels_of, merge_channels


def labelled(root: Path, *names: str, label: str) -> list[Entry]:
    return [Entry(image=root / name, label=root / label, patient=label) for name in names]


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([["a.nii.gz"], ["b.nii.gz"]], ("image",)),
        ([["a_1_0000.nii.gz", "a_1_0001.nii.gz"], ["b_0000.nii.gz", "b_0001.nii.gz"]], ("channel_0", "channel_1")),
        ([["P1_t1.nii", "P1_t1ce.nii", "P1_t2.nii"]], ("t1", "t1ce", "t2")),
        ([["B-1-t1n.nii", "B-1-t2f.nii"], ["B-2-t1n.nii", "B-2-t2f.nii"]], ("t1n", "t2f")),
        ([["p1/CT.nii", "p1/PET.nii"], ["p2/CT.nii", "p2/PET.nii"]], ("CT", "PET")),
        ([["p_IMG_CT.nrrd", "p_IMG_MR_T1.nrrd"]], ("CT", "MR_T1")),
        ([["a_t1.nii", "a_t2.nii"], ["b_t1.nii"]], None),
        ([["a_t1.nii", "a_t2.nii"], ["b_t1.nii", "b_flair.nii"]], None),
    ],
)
def test_names_of_channels(tmp_path: Path, cases: list[list[str]], expected: tuple[str, ...] | None) -> None:
    entries = [entry for i, names in enumerate(cases) for entry in labelled(tmp_path, *names, label=f"{i}.nii")]
    assert channels_of(entries) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"channel_names": {"1": "ADC", "0": "T2"}}, ("T2", "ADC")),
        ({"modality": {"0": "T2", "1": "ADC"}}, ("T2", "ADC")),
        ({"channel_names": {"0": "MRI", "1": "MRI"}}, ("channel_0", "channel_1")),
        ({"channel_names": {"0": "T2"}}, ("channel_0", "channel_1")),
        ([], ("channel_0", "channel_1")),
    ],
)
def test_numbers_are_named_by_the_dataset_file(tmp_path: Path, stated: object, expected: tuple[str, ...]) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(stated), encoding="utf-8-sig")
    assert channels_of(labelled(tmp_path / "imagesTr", "p_0000.nii", "p_0001.nii", label="p.nii")) == expected


def test_merged_cases_have_their_channels_in_the_tasks_order(tmp_path: Path) -> None:
    names = ["P2_flair.nii", "P1_t1.nii", "P2_t1.nii", "P1_flair.nii", "P3_t1.nii"]
    entries = [Entry(image=tmp_path / name, patient=name[:2], label=tmp_path / f"{name[:2]}.nii") for name in names]
    first, second, lone = merge_channels(entries, Task(channels=("t1", "flair")))
    told = [(one.name, one.image.name, [path.name for path in one.channels]) for one in (first, second, lone)]
    assert told == [
        ("P1", "P1_t1.nii", ["P1_flair.nii"]),
        ("P2", "P2_t1.nii", ["P2_flair.nii"]),
        ("P3_t1", "P3_t1.nii", []),  # incomplete, which the check of the task says
    ]
    assert first.label == tmp_path / "P1.nii"
    assert merge_channels(entries, Task()) == entries


def test_channels_that_a_list_gives_stay(tmp_path: Path) -> None:
    entry = Entry(image=tmp_path / "a.nii", channels=(tmp_path / "b.nii",), patient="p")
    assert merge_channels([entry], Task(channels=("t1", "t2"))) == [entry]
