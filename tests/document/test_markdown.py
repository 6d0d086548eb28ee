"""Blocks as Markdown."""

from tests.document.made_blocks import every_block
from voco_cli.document.blocks import Picture, Table
from voco_cli.document.markdown import to_markdown

EXPECTED = r"""## What follows

Weights help <b>|\x1b[1m.

- first
- second

- voco: 0.1.0
- file: <b>|\x1b[1m

Dice

| structure | mean | difference |
| --- | ---: | ---: |
| liver | 0.951 | +0.100 [+0.050, +0.150] |
| <b>\|\x1b[1m | - | - |

All runs.

Panels.

- Best case: case1; mean Dice 0.8

Loss: values

| step | loss |
| ---: | ---: |
| 0 | 4 |
| 10 | 1 |
"""


def test_every_block() -> None:
    assert to_markdown(every_block()) == EXPECTED


def test_a_picture_beside_the_file_is_a_link() -> None:
    assert to_markdown([Picture("study.png", "Dice by cases")]) == "![Dice by cases](study.png)\n"


def test_a_table_without_a_caption_and_a_cell_that_would_break_its_row() -> None:
    table = Table.of("", ["name\n| x"], [["a\nb"]])
    assert to_markdown([table]) == "| name\\n\\| x |\n| --- |\n| a\\nb |\n"
    assert to_markdown([]) == ""
