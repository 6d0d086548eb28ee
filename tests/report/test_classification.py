"""Tables of a classification of four cases: figures by hand."""

from pathlib import Path

from tests.report.made_runs import classification_run
from voco_cli.document.blocks import Sentence, Table
from voco_cli.report.evaluations import MeasuredClassification, read_evaluations


def measured(run: Path) -> MeasuredClassification:
    (found,) = read_evaluations(run).measured
    assert isinstance(found, MeasuredClassification)
    return found


def test_figures(tmp_path: Path) -> None:
    blocks = measured(classification_run(tmp_path / "run")).blocks()
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


def test_the_figure_in_words(tmp_path: Path) -> None:
    assert measured(classification_run(tmp_path / "run")).headline().startswith("AUC 1.000")
