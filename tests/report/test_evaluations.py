"""Tables of a segmentation and of a classification of four cases: numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from tests.report.hostile_files import DEEP
from tests.report.made_runs import DICE, classification_run, finetuning_run
from voco_cli.document.blocks import Bullets, Sentence, Table
from voco_cli.evaluate.read_results import Stored
from voco_cli.report.finetuning import read_evaluations


def measured(run: Path) -> Stored:
    (found,) = read_evaluations(run).measured
    return found


def tables(run: Path) -> dict[str, Table]:
    return {one.anchor: one for one in measured(run).blocks() if isinstance(one, Table)}


def test_means_by_class(tmp_path: Path) -> None:
    table = tables(finetuning_run(tmp_path / "run"))["classes"]
    # liver (0.5 + 0.9 + 0.2 + 0.6) / 4, spleen (0.7 + 0.7 + 0.4 + 0.8) / 4; the last row is the mean of both.
    dice = [column.heading for column in table.columns].index("Dice")
    assert [row.cells[0].text for row in table.rows] == ["liver", "spleen", "mean over classes"]
    assert [row.cells[dice].order for row in table.rows] == [0.55, 0.65, 0.6]
    assert table.rows[0].cells[dice].text.startswith("0.550 ± 0.289 [")
    assert [row.marked for row in table.rows] == [False, False, True]


def test_every_case(tmp_path: Path) -> None:
    table = tables(finetuning_run(tmp_path / "run"))["cases-dice"]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["case0", "p001", "0.600", "0.500", "0.700", "0", "0"],
        ["case1", "p002", "0.800", "0.900", "0.700", "0", "0"],
        ["case2", "p003", "0.300", "0.200", "0.400", "0", "0"],
        ["case3", "p004", "0.700", "0.600", "0.800", "0", "0"],
    ]
    assert tables(finetuning_run(tmp_path / "other"))["cases-hd95_mm"].folded == "HD95 (mm) of every case"


def test_missed_structures_and_false_positives_are_counted(tmp_path: Path) -> None:
    made = made_table(DICE)
    states = (("missed", "false_positive"), ("both", "missed"), ("both", "both"), ("absent", "both"))
    values = made.values_NCM.copy()
    values[3, 0] = np.nan
    table = tables(finetuning_run(tmp_path / "run", table=replace(made, states=states, values_NCM=values)))[
        "cases-dice"
    ]
    assert [[cell.text for cell in row.cells[-2:]] for row in table.rows] == [
        ["1", "1"],
        ["1", "0"],
        ["0", "0"],
        ["0", "0"],
    ]
    assert [cell.text for cell in table.rows[3].cells[2:5]] == ["0.800", "-", "0.800"]


def test_of_very_many_cases_the_worst_are_shown(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 620)[::-1, None].repeat(2, axis=1)
    table = tables(finetuning_run(tmp_path / "run", dice=values.tolist()))["cases-dice"]
    assert len(table.rows) == 500
    assert table.caption == "Dice of every case, the 500 worst of 620; cases.csv has all"
    assert {"case0", "case119"}.isdisjoint(row.cells[0].text for row in table.rows)
    assert "case619" in {row.cells[0].text for row in table.rows}


def test_the_dice_in_words(tmp_path: Path) -> None:
    words = measured(finetuning_run(tmp_path / "run")).headline()
    assert words.startswith("mean Dice 0.600 [")
    assert words.endswith("] on 4 test cases")
    one = measured(finetuning_run(tmp_path / "one", dice=[[0.5, 0.7]])).headline()
    assert one == "mean Dice 0.600 on 1 test case"


def test_cases_that_were_seen_are_a_warning(tmp_path: Path) -> None:
    found = {"clean": False, "found": [{}], "unknown_weights": [], "sentences": ["Data leakage: 1 of 4."]}
    blocks = measured(finetuning_run(tmp_path / "run", leakage=found)).blocks()
    assert Sentence("Data leakage: 1 of 4.", "warning") in blocks
    (bullets,) = (one for one in blocks if isinstance(one, Bullets))
    assert "4 cases of 4 patients" in bullets.lines[0]
    assert not any("Leakage" in line for line in bullets.lines)


def test_case_means_leave_out_what_is_not_defined() -> None:
    made = made_table([[0.5, np.nan], [np.nan, np.nan]])
    assert made.case_means("dice")[0] == 0.5
    assert np.isnan(made.case_means("dice")[1])


def test_evaluations_that_are_damaged_are_told(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run")
    with (run / "evaluation" / "test" / "cases.csv").open("a") as file:
        file.write("more\n")
    found = read_evaluations(run)
    assert found.measured == ()
    assert "cases.csv is not the file that summary.json was made from" in found.faults[0]


@pytest.mark.parametrize("leakage", [None, 3, [], {"found": 3, "sentences": True}, {"sentences": None}])
def test_what_was_seen_is_left_out_where_it_makes_no_sense(tmp_path: Path, leakage: Any) -> None:
    run = finetuning_run(tmp_path / "run")
    file = run / "evaluation" / "test" / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "leakage": leakage}))
    (bullets,) = (one for one in measured(run).blocks() if isinstance(one, Bullets))
    assert any(line.startswith("Measured on the test split of") for line in bullets.lines)


def test_a_summary_too_deep_to_be_read_is_damaged(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run")
    (run / "evaluation" / "test" / "summary.json").write_text(DEEP)
    assert "summary.json is damaged" in read_evaluations(run).faults[0]


def classified(run: Path) -> Stored:
    (found,) = read_evaluations(run).measured
    return found


def test_figures_of_a_classification(tmp_path: Path) -> None:
    blocks = classified(classification_run(tmp_path / "run")).blocks()
    tables = {one.anchor: one for one in blocks if isinstance(one, Table)}
    # Pneumonia has 0.7 and 0.9, the others 0.1 and 0.6: all four pairs are in order. One normal is taken for pneumonia.
    overall = {row.cells[0].text: row.cells[1].order for row in tables["overall"].rows}
    assert overall["AUC"] == 1.0
    assert overall["accuracy"] == 0.75
    assert [[cell.text for cell in row.cells] for row in tables["confusion"].rows] == [
        ["normal", "1", "1"],
        ["pneumonia", "0", "2"],
    ]
    cases = tables["cases"]
    assert [cell.text for cell in cases.rows[1].cells] == ["c1", "p002", "normal", "pneumonia", "no", "0.400", "0.600"]
    assert [row.marked for row in cases.rows] == [False, True, False, False]
    assert Sentence("Data leakage: none.") in blocks


def test_the_auc_in_words(tmp_path: Path) -> None:
    assert classified(classification_run(tmp_path / "run")).headline().startswith("AUC 1.000")
