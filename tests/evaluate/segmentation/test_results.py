import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.made_results import two_boxes, write_labels
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.segmentation.evaluate import Evaluation, EvaluationOptions, evaluate_folder
from voco_cli.evaluate.segmentation.results import read_evaluation, statements, write_evaluation


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    for case, shift in (("a", 0), ("b", 1)):
        write_labels(tmp_path / "pred" / f"{case}.nii.gz", two_boxes(shift, second=shift == 0))
        write_labels(tmp_path / "true" / f"{case}.nii.gz", two_boxes())
    write_labels(tmp_path / "true" / "unseen.nii.gz", two_boxes())
    return evaluate_folder(tmp_path / "pred", tmp_path / "true", EvaluationOptions(tolerance_mm=1.5))


def test_written_and_read(evaluation: Evaluation, tmp_path: Path) -> None:
    written = write_evaluation(evaluation, tmp_path / "out", "pred", "true")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    stored = read_evaluation(tmp_path / "out")
    assert (stored.tolerance_mm, stored.rule, stored.failed) == (1.5, "count", ())
    np.testing.assert_allclose(stored.table.values_NCM, evaluation.table.values_NCM, rtol=1e-9)
    assert stored.table.states == evaluation.table.states
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["unpredicted"] == ["unseen"]
    assert found["structures"][1]["missed"] == 1
    assert found["empty_rule"]["name"] == "count"


def test_patients_are_numbered_in_all_that_is_written(tmp_path: Path) -> None:
    for case in "abc":
        write_labels(tmp_path / "pred" / f"{case}.nii.gz", two_boxes())
        write_labels(tmp_path / "true" / f"{case}.nii.gz", two_boxes())
    known = {"a": "MEIER^ANNA", "b": "KHAN^ALI", "c": "MEIER^ANNA"}
    found = evaluate_folder(tmp_path / "pred", tmp_path / "true", EvaluationOptions(), patients=known)
    assert found.summary.patients == 2
    for path in write_evaluation(found, tmp_path / "out", "pred", "true"):
        assert not any(name in path.read_text() for name in ("MEIER", "KHAN"))
    rows = [line.split(",") for line in (tmp_path / "out" / "cases.csv").read_text().splitlines()[1:]]
    assert {(row[0], row[1]) for row in rows} == {("a", "p001"), ("b", "p002"), ("c", "p001")}


def test_the_table_states_what_it_is(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path / "out", "pred", "true")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| structure | cases | missed | false positive | Dice | IoU | NSD 1.5 mm | HD95 (mm) | ASD (mm) |" in text
    assert "| 1 | 2 | 0 | 0 | 0.875 ± 0.177 [0.750, 1.000] |" in text
    assert "2 cases of 2 patients, in each scan's own grid" in text
    assert "Missed structures: 1, false positives: 0. Rule for empty ones (count): absent in both: left out" in text
    assert "Labels without a prediction, not counted: 1 (unseen)." in text
    assert all(line in text for line in statements(evaluation))


def test_damage_is_noticed(evaluation: Evaluation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"cases\.csv cannot be opened"):
        read_evaluation(out)
    write_evaluation(evaluation, out, "pred", "true")
    whole = (out / "summary.json").read_text()
    (out / "summary.json").write_text(whole[:100])
    with pytest.raises(DataError, match="is damaged"):
        read_evaluation(out)
    (out / "summary.json").write_text(whole.replace("voco-evaluation/1", "voco-evaluation/9"))
    with pytest.raises(UsageError, match="not of the format"):
        read_evaluation(out)
    (out / "summary.json").write_text(whole)
    with (out / "cases.csv").open("a") as file:
        file.write("x")
    with pytest.raises(DataError, match=r"not the file that summary\.json was made from"):
        read_evaluation(out)
