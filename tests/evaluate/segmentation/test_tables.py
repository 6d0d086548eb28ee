import csv
import io
import json
import math

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from voco_cli.evaluate.segmentation.compare import (
    change_rows,
    compare_tables,
    comparison_object,
    difference_headings,
    difference_rows,
)
from voco_cli.evaluate.segmentation.results import (
    cases_csv,
    parse_cases_csv,
    summary_headings,
    summary_object,
    summary_rows,
)
from voco_cli.evaluate.segmentation.table import summarise
from voco_cli.evaluate.tables import markdown, p_value

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


def test_rows_of_a_comparison() -> None:
    before, after = made_table([[0.5, NAN], [0.6, 0.5]]), made_table([[0.6, 0.7], [0.7, 0.6]])
    comparison = compare_tables(["a", "b"], [before, after])
    rows = difference_rows(comparison.of_metric("dice"))
    assert rows[0][:6] == ["b", "liver", "2", "0.550", "0.650", "+0.100 [+0.100, +0.100]"]
    assert rows[1][2:6] == ["1 (+1 unpaired)", "0.500", "0.600", "+0.100 "]
    assert rows[2][7] == "-"
    assert len(rows[0]) == len(difference_headings("a"))
    assert change_rows(comparison.changes["dice"])[0][-1] == "+0.100"
    json.dumps(comparison_object(comparison, 2), allow_nan=False)
    assert len(comparison_object(comparison, 2)["largest_changes"]["dice"]) == 2


def test_p_values() -> None:
    assert [p_value(p) for p in (0.0002, 0.04567, 1.0, NAN)] == ["<0.001", "0.046", "1.000", "-"]
