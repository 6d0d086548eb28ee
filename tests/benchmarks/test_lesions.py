"""The experiment with lesions: its cases and lists, its tables from made results, and all of it once in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.lesions import ARMS, QUICK, halved, made_case, rows, sizes_table, write_cases
from benchmarks.registry import Options
from benchmarks.rows import Figure, Note
from voco_cli.config import load_settings
from voco_cli.evaluate.segmentation.lesions import SizeSummary


def summary(size: str, lesions: int, sensitivity: float, dice: float, false_positives: float) -> SizeSummary:
    return SizeSummary("tumour", size, lesions, 0, sensitivity, 0.0, 1.0, dice, 1, 1, 0, false_positives)


def test_cases_of_a_seed_are_its_own_and_nobody_is_in_two_splits(tmp_path: Path) -> None:
    write_cases(tmp_path, replace(QUICK, seeds=2))
    lists = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*-?.json")}
    assert set(lists) == {f"{arm}-{seed}" for arm in ARMS for seed in (0, 1)}
    training = {name: [Path(one["image"]).name for one in listed["training"]] for name, listed in lists.items()}
    assert training["real-0"] == ["real_000.nii.gz"]
    assert training["real-1"] == ["real_001.nii.gz"]
    assert training["painted-0"] == training["painted-1"] == ["healthy_000.nii.gz", "healthy_001.nii.gz"]
    assert training["both-1"] == training["real-1"] + training["painted-1"]
    for listed in lists.values():
        seen = [one["image"] for split in ("training", "validation", "test") for one in listed[split]]
        assert len(set(seen)) == len(seen)
        assert all((tmp_path / one).is_file() for one in seen)
    loaded = load_settings(None, None, (), {}, task=str(tmp_path / "task.yaml")).settings
    assert [one.name for one in loaded.task.classes] == ["liver", "tumour"]


def test_healthy_cases_have_no_lesion_and_the_others_have_some() -> None:
    healthy, ill = (made_case(group, 0, QUICK.shape_xyz) for group in ("healthy", "test"))
    assert np.unique(healthy.labels_xyz).tolist() == [0, 1]
    assert np.unique(ill.labels_xyz).tolist() == [0, 1, 2]
    assert ill.image_hu_xyz.shape == ill.labels_xyz.shape
    assert ill.spacing_mm == pytest.approx((360 / 48, 280 / 40, 320 / 32))


def test_a_voxel_is_the_mean_of_eight() -> None:
    assert halved(np.arange(16).reshape(2, 2, 4)).tolist() == [[[6.5, 8.5]]]  # 0 1 4 5 8 9 12 13, and each 2 more


def test_lesions_by_size_are_means_over_seeds() -> None:
    first = (summary("9-15", 4, 0.5, 0.2, 1.0), summary("<= 9", 0, float("nan"), float("nan"), 3.0))
    second = (summary("9-15", 4, 1.0, 0.4, 0.0),)
    runs = cast(Any, [SimpleNamespace(read_sizes=one) for one in (first, second)])
    lines = sizes_table({"real": runs}).splitlines()
    assert lines[2:] == ["| 9-15 | real | 4 | 0.750 | 0.300 | 0.50 |"]  # nothing is said where there is no lesion


def test_without_a_folder_nothing_is_trained() -> None:
    (note,) = rows(Options())
    assert isinstance(note, Note)
    assert "--work" in note.words


@pytest.mark.slow
def test_the_whole_case_and_again_from_what_is_there(tmp_path: Path) -> None:
    options = Options(quick=True, work=tmp_path)
    found = list(rows(options))
    assert [row.name for row in found if isinstance(row, Figure)] == [f"{arm}: Dice of tumours" for arm in ARMS]
    text = (tmp_path / "lesions" / "table.md").read_text()
    assert "| real | 1, 0 |" in text
    assert "| both | 1, 2 |" in text
    log = (tmp_path / "lesions" / "commands.log").read_text()
    assert list(rows(options)) == found
    assert (tmp_path / "lesions" / "commands.log").read_text() == log
