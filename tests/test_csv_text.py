"""Cells that spreadsheets would compute, and every name given back."""

from __future__ import annotations

import csv
import io

import pytest

from voco_cli.csv_text import csv_records, csv_rows, csv_text


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd", "'+cmd"),
        ("-cmd", "'-cmd"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("'=x", "''=x"),
        ("''-1", "'''-1"),
        ("-1.5", "-1.5"),
        ("+2e-05", "+2e-05"),
        ("-1_000", "'-1_000"),
        ("-1-1", "'-1-1"),
        ("", ""),
        ("'tis", "'tis"),
        ("a=b", "a=b"),
        ("-\N{ARABIC-INDIC DIGIT ONE}", "'-\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_formulas_are_marked_and_numbers_are_not(cell: str, written: str) -> None:
    text = csv_text([["head", "other"], [cell, "x"]])
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [written, "x"]
    assert csv_rows(text)[1][1] == [cell, "x"]


def test_rows_know_their_lines() -> None:
    text = 'a,b\n"1\n2",3\n\u20284,5\r\n6,\x85\x0b\x1c\0\n'
    rows = [(1, ["a", "b"]), (2, ["1\n2", "3"]), (4, ["\u20284", "5"]), (5, ["6", "\x85\x0b\x1c\0"])]
    assert csv_rows(text) == rows


@pytest.mark.parametrize("text", ['a,b\n1,"2\n3,4\n', 'a,b\n1,"2"x\n'])
def test_one_quotation_mark_does_not_swallow_the_rest(text: str) -> None:
    with pytest.raises(ValueError, match="the row from line 2 on has a stray quotation mark"):
        csv_rows(text)


def test_records() -> None:
    assert csv_records("a,b\n1,2\n\n3,4\n") == (["a", "b"], [(2, {"a": "1", "b": "2"}), (4, {"a": "3", "b": "4"})])
    assert csv_records("") == ([], [])
    with pytest.raises(ValueError, match="line 3 has 3 cells, and not 2"):
        csv_records("a,b\n1,2\n1,2,3\n")
    with pytest.raises(ValueError, match="the column 'a' stands twice"):
        csv_records("a,a\n1,2\n")
