"""Tables from plain values: which number a cell is sorted by, and which columns are of numbers."""

import math

import pytest

from voco_cli.document.blocks import Cell, Column, Table, leading_number, to_cell


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.812 ± 0.05 [0.70, 0.91]", 0.812),
        ("+0.250 [+0.1, +0.4]", 0.25),
        ("-0.5", -0.5),
        ("\N{MINUS SIGN}0.5", -0.5),
        ("<0.001", 0.001),
        ("[+0.003, +0.006]", 0.003),
        ("12,345", 12345.0),
        ("3 of 5", 3.0),
        ("83%", 83.0),
        ("1e-05", 1e-5),
        ("-", None),
        ("", None),
        ("96x96", None),
        ("higher", None),
    ],
)
def test_the_number_that_a_text_begins_with(text: str, number: float | None) -> None:
    assert leading_number(text) == number


def test_columns_of_numbers_are_told_from_words() -> None:
    table = Table.of("", ["name", "mean", "note"], [["1", "0.5 [0, 1]", "2"], ["2", "-", "two"]], marked=[1])
    assert [column.numeric for column in table.columns] == [False, True, False]
    assert table.rows[0].cells == (Cell("1"), Cell("0.5 [0, 1]", 0.5), Cell("2"))
    assert table.rows[1].cells[1] == Cell("-")
    assert [row.marked for row in table.rows] == [False, True]


def test_a_column_of_dashes_is_none_of_numbers() -> None:
    assert not Table.of("", ["name", "p"], [["a", "-"], ["b", ""]]).columns[1].numeric


def test_a_row_has_a_value_for_each_column() -> None:
    with pytest.raises(ValueError, match="zip"):
        Table.of("", [Column("name"), Column("p")], [["a"]])


def test_cells_of_values() -> None:
    assert to_cell(1234) == Cell("1,234", 1234.0)
    assert to_cell(0.123456) == Cell("0.1235", 0.123456)
    assert to_cell(0.123456, Column("p", True, ".2f")) == Cell("0.12", 0.123456)
    assert to_cell("word") == Cell("word")
    assert to_cell("3 of 5", Column("seeds", True)) == Cell("3 of 5", 3.0)
    assert to_cell(None) == to_cell(math.nan) == Cell("-")
    assert to_cell(Cell("x", 2.0, "there")) == Cell("x", 2.0, "there")
