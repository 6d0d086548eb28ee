from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.data.cache.made_scans import oriented_affine, write_nifti
from voco_cli.cli.app import app
from voco_cli.data.case_labels import CaseLabels
from voco_cli.errors import VocoError
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.case_files import CasePair
from voco_cli.evaluate.segmentation.evaluate import evaluate_folder, evaluate_pairs
from voco_cli.evaluate.segmentation.lesions import (
    CaseLesions,
    FoundLesion,
    find_lesions,
    radius_mm,
    size_names,
    size_of,
    summarise_sizes,
)
from voco_cli.evaluate.segmentation.metrics import Structure
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.segmentation.union_of_classes import union_structures

TUMOUR = Structure("tumour", (2,))
STEP = (2.0, 1.0, 1.0)
"""z, y, x: a voxel has 2 cubic mm."""


def maps() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Four lesions of 8, 1, 2 and 8 voxels; the prediction has 4 of the first, all of the third, two lesions joined."""
    reference = np.zeros((8, 16, 16), np.uint8)
    reference[1:3, 1:3, 1:3] = 2  # A: half found, and 4 voxels beside it
    reference[5, 1, 1] = 2  # B: missed
    reference[1, 8, 8] = reference[2, 9, 9] = 2  # C: two voxels that share a corner are one lesion
    reference[5:7, 8:10, 8:10] = 2  # D
    reference[0, 0, 15] = 1  # another class
    prediction = np.zeros_like(reference)
    prediction[1:3, 1:3, 2:4] = 2
    prediction[1, 8, 8] = prediction[2, 9, 9] = 2
    prediction[5:7, 8:10, 8:10] = 2
    prediction[7, 15, 15] = 2  # a false positive of one voxel
    prediction[0, 14:16, 0:2] = 2  # and one of four
    prediction[0, 0, 15] = 2  # on another class: false, too
    return prediction, reference


def test_lesions_are_found_and_false_positives_counted() -> None:
    found = find_lesions(*maps(), [TUMOUR], STEP)
    lesions = [one for one in found if not one.is_false_positive]
    assert [round(one.dice, 6) for one in lesions] == [
        0.5,  # A: 2 * 4 / (8 + 8)
        1.0,  # C
        0.0,  # B
        1.0,  # D
    ]
    assert [one.is_found for one in lesions] == [True, True, False, True]
    volumes = [8 * 2, 2 * 2, 1 * 2, 8 * 2]
    assert [one.radius_mm for one in lesions] == [pytest.approx((3 * v / 4 / math.pi) ** (1 / 3)) for v in volumes]
    false = sorted(one.radius_mm for one in found if one.is_false_positive)
    assert false == [pytest.approx(radius_mm(v)) for v in (2, 2, 8)]


def test_parts_that_touch_a_lesion_belong_to_it_wherever_they_reach() -> None:
    reference, prediction = np.zeros((3, 3, 20), np.uint8), np.zeros((3, 3, 20), np.uint8)
    reference[1, 1, 2:6] = 2
    reference[1, 1, 12:16] = 2
    prediction[1, 1, 4:14] = 2  # joins both
    dice = [one.dice for one in find_lesions(prediction, reference, [TUMOUR], (1.0, 1.0, 1.0))]
    assert dice == [pytest.approx(2 * 2 / (4 + 10))] * 2
    assert find_lesions(reference * 0, reference * 0, [TUMOUR], (1.0, 1.0, 1.0)) == []


def test_an_edge_belongs_to_the_class_below_it() -> None:
    edges = (5.0, 10.0, 20.0)
    assert size_names(edges) == ["<= 5", "5-10", "10-20", "> 20"]
    radii = (0.1, 5.0, 5.001, 10.0, 19.0, 20.5)
    sizes = [size_of(FoundLesion("tumour", radius, 1.0), edges) for radius in radii]
    assert sizes == ["<= 5", "<= 5", "5-10", "5-10", "10-20", "> 20"]


def test_sensitivity_dice_and_false_positives_by_size() -> None:
    cases = [
        CaseLesions("a", "p1", (FoundLesion("tumour", 3, 0.5), FoundLesion("tumour", 4, 0.0))),
        CaseLesions("b", "p1", (FoundLesion("tumour", 12, 0.8), FoundLesion("tumour", 2, math.nan))),
        CaseLesions("c", "p2", (FoundLesion("tumour", 3, 0.0), FoundLesion("tumour", 7, math.nan))),
        CaseLesions("d", "p3", ()),
    ]
    rows = summarise_sizes(cases, {"liver": 4, "tumour": 4}, (5.0, 10.0), 400, 0)
    small, middle, large, every = rows
    assert [one.size for one in rows] == ["<= 5", "5-10", "> 10", "all"]
    assert (small.lesions, small.found, small.cases, small.cases_found) == (3, 1, 2, 1)
    assert small.sensitivity == pytest.approx(1 / 3)
    assert small.dice == pytest.approx(0.5 / 3)
    assert (small.false_positives, small.false_positives_per_case) == (1, 0.25)
    # Patient 1 has 1 of 2, patient 2 has 0 of 1: a resample of one patient alone gives 0.5 or 0.
    assert (small.low, small.high) == (0.0, 0.5)
    assert (middle.lesions, middle.false_positives) == (0, 1)
    assert math.isnan(middle.sensitivity)
    assert (large.lesions, large.sensitivity) == (1, 1.0)
    assert (every.lesions, every.found, every.false_positives_per_case) == (4, 2, 0.5)
    assert every.dice == pytest.approx(1.3 / 4)


def test_false_positives_are_counted_a_scan_that_is_labelled_for_the_structure(tmp_path: Path) -> None:
    """Of two cases, a is labelled for class 2, and b for class 1 alone: 3 false positives of class 2 are 3 a scan."""
    predictions, labels = write_folders(tmp_path)
    of_case = {"a": CaseLabels((0, 1), ((1, (0,)), (2, (1,)))), "b": CaseLabels((0,), ((1, (0,)), (2, ())))}
    pairs = [
        CasePair(case, case, predictions / f"{case}.nii.gz", labels / f"{case}.nii.gz", known)
        for case, known in of_case.items()
    ]
    options = EvaluationOptions(resamples=100, by_size_mm=(1.0, 5.0))
    measured = evaluate_pairs(pairs, options, classes=union_structures(("organ", "tumour"), ()))
    rows = {(one.structure, one.size): one for one in measured.sizes}
    every = rows["tumour", "all"]
    assert (every.false_positives, every.labelled_cases, every.false_positives_per_case) == (3, 1, 3.0)
    assert rows["organ", "all"].labelled_cases == 2
    written = measured.write(tmp_path / "out")
    assert [path.name for path in written][-1] == "lesions.csv"
    table = (tmp_path / "out" / "table.md").read_text()
    assert "false positives a labelled scan (scans)" in table
    assert "| 3.00 (1) |" in next(line for line in table.splitlines() if line.startswith("| tumour | all"))


def write_folders(folder: Path) -> tuple[Path, Path]:
    predictions, labels = folder / "predictions", folder / "labels"
    for part in (predictions, labels):
        part.mkdir()
    for name, shift in (("a", 0), ("b", 1)):
        prediction, reference = maps()
        affine = oriented_affine("RAS", (1.0, 1.0, 2.0))
        write_nifti(predictions / f"{name}.nii.gz", np.roll(prediction, shift * 4, axis=2).T, affine)
        write_nifti(labels / f"{name}.nii.gz", reference.T, affine)
    return predictions, labels


def test_a_folder_is_measured_by_size_written_and_read_again(tmp_path: Path) -> None:
    predictions, labels = write_folders(tmp_path)
    options = EvaluationOptions(resamples=100, by_size_mm=(1.0, 5.0))
    measured = evaluate_folder(predictions, labels, options, classes=(TUMOUR,))
    written = measured.write(tmp_path / "out")
    assert written[-1].name == "lesions.csv"
    assert len(written[-1].read_text().splitlines()) == 1 + sum(len(one.lesions) for one in measured.lesions)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["by_size"]["edges_mm"] == [1.0, 5.0]
    rows = {row["size"]: row for row in summary["by_size"]["rows"]}
    # Two cases of: A 16 mm3 (1.56 mm), B 2 mm3 (0.78 mm), C 4 mm3 (0.98 mm), D 16 mm3.
    assert (rows["<= 1"]["lesions"], rows["1-5"]["lesions"], rows["all"]["lesions"]) == (4, 4, 8)
    assert "| tumour | <= 1 | 4 |" in (tmp_path / "out" / "table.md").read_text()
    again = Evaluation.from_files(tmp_path / "out", summary, (tmp_path / "out" / "cases.csv").read_text())
    assert again.sizes == measured.sizes
    plain = evaluate_folder(predictions, labels, EvaluationOptions(resamples=100), classes=(TUMOUR,))
    assert plain.sizes == ()
    assert [path.name for path in plain.write(tmp_path / "out")] == ["cases.csv", "table.md", "summary.json"]
    assert not (tmp_path / "out" / "lesions.csv").exists()  # it would belong to other figures


def test_the_command_shows_sizes_and_refuses_what_is_no_list(tmp_path: Path) -> None:
    predictions, labels = write_folders(tmp_path)
    asked = ["evaluate", "--predictions", str(predictions), "--labels", str(labels), "--classes", "tumour=2"]
    ran = CliRunner().invoke(app, [*asked, "-o", str(tmp_path / "out"), "--by-size", "1,5"])
    assert ran.exit_code == 0, ran.output
    assert "lesions by size" in ran.output
    for text in ("10,5", "a", "0,5", ""):
        wrong = CliRunner().invoke(app, [*asked, "-o", str(tmp_path / "x"), "--by-size", text])
        assert isinstance(wrong.exception, VocoError)
        assert wrong.exception.message == f"--by-size {text} is no list of rising radii."
