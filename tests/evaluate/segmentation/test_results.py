"""What an evaluation writes, and reading it again."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.made_results import made_table, two_boxes, write_labels
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.segmentation.compare import change_rows, compare_tables, difference_rows
from voco_cli.evaluate.segmentation.evaluate import evaluate_folder
from voco_cli.evaluate.segmentation.results import (
    Evaluation,
    EvaluationOptions,
    cases_csv,
    parse_cases_csv,
    statements,
    summary_headings,
    summary_object,
    summary_rows,
)
from voco_cli.evaluate.segmentation.table import summarise
from voco_cli.evaluate.tables import markdown, p_value


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    for case, shift in (("a", 0), ("b", 1)):
        write_labels(tmp_path / "pred" / f"{case}.nii.gz", two_boxes(shift, second=shift == 0))
        write_labels(tmp_path / "true" / f"{case}.nii.gz", two_boxes())
    write_labels(tmp_path / "true" / "unseen.nii.gz", two_boxes())
    return evaluate_folder(tmp_path / "pred", tmp_path / "true", EvaluationOptions(tolerance_mm=1.5))


def test_written_and_read(evaluation: Evaluation, tmp_path: Path) -> None:
    written = evaluation.write(tmp_path / "out", "pred", "true")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    stored = read_results(tmp_path / "out")
    assert (stored.options.tolerance_mm, stored.options.rule.name, stored.failed) == (1.5, "count", ())
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
    for path in found.write(tmp_path / "out", "pred", "true"):
        assert not any(name in path.read_text() for name in ("MEIER", "KHAN"))
    rows = [line.split(",") for line in (tmp_path / "out" / "cases.csv").read_text().splitlines()[1:]]
    assert {(row[0], row[1]) for row in rows} == {("a", "p001"), ("b", "p002"), ("c", "p001")}


def test_the_table_states_what_it_is(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path / "out", "pred", "true")
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
        read_results(out)
    evaluation.write(out, "pred", "true")
    whole = (out / "summary.json").read_text()
    (out / "summary.json").write_text(whole[:100])
    with pytest.raises(DataError, match="is damaged"):
        read_results(out)
    (out / "summary.json").write_text(whole.replace("voco-evaluation/1", "voco-evaluation/9"))
    with pytest.raises(UsageError, match="not of the format"):
        read_results(out)
    (out / "summary.json").write_text(whole)
    with (out / "cases.csv").open("a") as file:
        file.write("x")
    with pytest.raises(DataError, match=r"not the file that summary\.json was made from"):
        read_results(out)


NAN = math.nan


def test_csv_there_and_back() -> None:
    table = made_table([[0.1234567890123, NAN], [0.5, 1 / 3]], names=("left, upper", 'so "called"'))
    text = cases_csv(table)
    assert text.splitlines()[1].startswith('case0,p001,"left, upper",1,class,both,1,1,0.123456789,')
    back = parse_cases_csv(text)
    assert (back.cases, back.patients, back.structures, back.states) == (
        table.cases,
        table.patients,
        table.structures,
        table.states,
    )
    np.testing.assert_allclose(back.values_NCM, table.values_NCM, rtol=1e-9)
    # An older version wrote the names of patients; they go no further.
    older = cases_csv(made_table([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], ["Meier", "Khan", "Meier"]))
    assert parse_cases_csv(older).patients == ("p001", "p002", "p001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("state", "status", 1), "columns are"),
        (lambda text: text.replace(",both,", ",gone,", 1), "'gone' is no state"),
        (lambda text: text + text.splitlines()[1] + "\n", "twice"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "case1 lacks spleen"),
        (lambda text: text.replace("0.5", "half"), "'half' is no number"),
        (lambda text: text.replace("0.5", 2000 * "x"), "is no number"),
        (lambda text: text.replace("liver,1", "liver,one"), "line 2 has the labels 'one'"),
        (lambda text: text.replace("case0", '"case0', 1) + 300 * "more\n", "from line 2 on has a stray quotation mark"),
        (lambda text: text.replace(",both,", ",", 1), "line 2 has 12 cells, and not 13"),
    ],
)
def test_damaged_csv(change, message: str) -> None:  # type: ignore[no-untyped-def]
    text = change(cases_csv(made_table([[0.5, 0.6], [0.7, 0.8]])))
    with pytest.raises(ValueError, match=message) as caught:
        parse_cases_csv(text)
    assert len(str(caught.value)) < 250


def test_names_are_no_formulas_and_come_back_as_they_were() -> None:
    names = ("=1+1", "+x", "-liver", "@sum", "\tx", "'=1", "'plain", "-1.5", "a\nb", "a\u2028b", "\x1b[31mred")
    table = made_table([[0.5] * len(names)], names=names)
    text = cases_csv(table)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    written = ("'=1+1", "'+x", "'-liver", "'@sum", "'\tx", "''=1", *names[6:])
    assert tuple(row[2] for row in rows[1:]) == written
    assert {row[8] for row in rows[1:]} == {"0.5"}
    assert tuple(one.name for one in parse_cases_csv(text).structures) == names


def test_markdown_shows_what_cannot_be_seen() -> None:
    assert markdown(["a", "b|c"], [["\x1b[31m\u202e", "x\ny"]]) == (
        "| a | b\\|c |\n| --- | ---: |\n| \\x1b[31m\\u202e | x\\ny |\n"
    )


def test_json_knows_no_nan() -> None:
    found = summary_object(summarise(made_table([[0.5, NAN]])))
    json.dumps(found, allow_nan=False)
    assert found["structures"][0]["name"] == "liver"
    assert found["structures"][1]["metrics"]["dice"] == {
        "n": 0,
        "mean": None,
        "sd": None,
        "median": None,
        "low": None,
        "high": None,
    }
    assert found["mean_over_classes"]["dice"]["mean"] == 0.5


def test_rows_for_a_paper() -> None:
    summary = summarise(made_table([[0.9, NAN], [0.9, NAN], [0.9, NAN]]))
    rows = summary_rows(summary, ("dice", "hd95_mm"))
    assert rows[0] == ["liver", "3", "0", "0", "0.900 ± 0.000 [0.900, 0.900]", "0.90 ± 0.00 [0.90, 0.90]"]
    assert rows[1][4:] == ["-", "-"]
    assert rows[-1][0] == "mean over classes"
    headings = summary_headings(1.5, ("dice", "nsd"))
    assert headings == ["structure", "cases", "missed", "false positive", "Dice", "NSD 1.5 mm"]


def test_markdown_keeps_its_columns() -> None:
    assert markdown(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"


def test_rows_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = made_table([[0.5, NAN], [0.6, 0.5]]), made_table([[0.6, 0.7], [0.7, 0.6]])
    comparison = compare_tables(["a", "b"], [before, after])
    rows = difference_rows(comparison.of_metric("dice"))
    assert rows[0][:6] == ["b", "liver", "2", "0.550", "0.650", "+0.100 [+0.100, +0.100]"]
    assert rows[1][2:6] == ["1 (+1 unpaired)", "0.500", "0.600", "+0.100 "]
    assert rows[2][7] == "-"
    table = comparison.differences_table("dice")
    assert (table.rows, len(table.headings), table.whole_runs) == (rows, len(rows[0]), [2])
    assert change_rows(comparison.changes["dice"])[0][-1] == "+0.100"
    monkeypatch.setattr("voco_cli.evaluate.segmentation.compare.STORED_CHANGES", 2)
    json.dumps(comparison.to_json(), allow_nan=False)
    assert len(comparison.to_json()["largest_changes"]["dice"]) == 2


def test_p_values() -> None:
    assert [p_value(p) for p in (0.0002, 0.04567, 1.0, NAN)] == ["<0.001", "0.046", "1.000", "-"]
