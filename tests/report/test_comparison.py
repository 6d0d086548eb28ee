"""Folders of `voco compare -o`, rebuilt from what they hold, and fine-tuning runs paired where they can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.report.made_runs import DICE, classification_run, finetuning_run
from voco_cli.cli.compare import compare
from voco_cli.document.blocks import Bullets, PageSection, Picture, Sentence, Table
from voco_cli.errors import DataError, UsageError
from voco_cli.report.comparison import comparison_section, paired_section
from voco_cli.report.finetuning import Evaluations, read_evaluations

app = typer.Typer()
app.command()(compare)


def compared(folder: Path, *runs: Path) -> Path:
    shown = CliRunner().invoke(app, [*map(str, runs), "-o", str(folder), "--resamples", "2000"])
    assert shown.exit_code == 0, shown.output
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    other = [[a + 0.1, b - 0.05] for a, b in DICE]
    return finetuning_run(tmp_path / "a"), finetuning_run(tmp_path / "b", dice=other)


def rows_of(section: PageSection) -> list[list[list[str]]]:
    found = [one for part in section.parts for one in part.blocks if isinstance(one, Table)]
    return [[[cell.text for cell in row.cells] for row in one.rows] for one in found]


def test_the_same_tables_as_of_the_runs_themselves(pair: tuple[Path, Path], tmp_path: Path) -> None:
    section = comparison_section("c", compared(tmp_path / "c", *pair), "c")
    itself = paired_section([(run.name, read_evaluations(run)) for run in pair])
    assert rows_of(section) == rows_of(itself)
    assert section.lead.startswith("Against a, b: +0.025 [")
    assert section.lead.endswith("mean Dice, p 0.125.")
    assert isinstance(section.parts[0].blocks[0], Picture)


def test_folders_of_classifications(tmp_path: Path) -> None:
    runs = (classification_run(tmp_path / "a"), classification_run(tmp_path / "b", second=(0.1, 0.2, 0.7, 0.9)))
    section = comparison_section("c", compared(tmp_path / "c", *runs), "c")
    assert rows_of(section) == rows_of(paired_section([(run.name, read_evaluations(run)) for run in runs]))
    assert section.result.startswith("b: +0.000")


def test_a_picture_that_is_gone_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = compared(tmp_path / "c", *pair)
    (folder / "comparison.png").unlink()
    block = comparison_section("c", folder, "c").parts[0].blocks[0]
    assert block == Sentence("comparison.png is not in the folder any more.", "warning")


def test_damage_and_other_formats_are_errors(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = compared(tmp_path / "c", *pair)
    held = json.loads((folder / "comparison.json").read_text())
    for content, error in (
        ({**held, "format": "voco-comparison/9"}, UsageError),
        ({**held, "differences": [{}]}, DataError),
        ({**held, "runs": None}, DataError),
        ({}, DataError),
    ):
        (folder / "comparison.json").write_text(json.dumps(content))
        with pytest.raises(error, match="comparison.json"):  # noqa: RUF043
            comparison_section("c", folder, "c")


BETTER = [[a + 0.1, b + 0.1] for a, b in DICE]


def tables(section: PageSection) -> dict[str, Table]:
    return {one.anchor: one for part in section.parts for one in part.blocks if isinstance(one, Table)}


def sentences(section: PageSection) -> list[str]:
    return [one.text for part in section.parts for one in part.blocks if isinstance(one, Sentence)]


def test_differences_of_runs_on_the_same_cases(tmp_path: Path) -> None:
    runs = [
        (name, read_evaluations(finetuning_run(tmp_path / name, dice=dice)))
        for name, dice in (("a", DICE), ("b", BETTER))
    ]
    section = paired_section(runs)
    rows = [[cell.text for cell in row.cells] for row in tables(section)["dice"].rows]
    # All four cases are 0.1 better: p = 2 / 2^4, and twice that for two classes; the mean is one test.
    assert rows[0] == ["b", "liver", "4", "0.550", "0.650", "+0.100 [+0.100, +0.100]", "0.125", "0.250", "+1.00"]
    assert rows[2] == [
        "b",
        "mean over classes",
        "4",
        "0.600",
        "0.700",
        "+0.100 [+0.100, +0.100]",
        "0.125",
        "-",
        "+1.00",
    ]
    blocks = section.parts[0].blocks
    assert isinstance(blocks[0], Picture)
    assert any(isinstance(one, Bullets) and "4 cases of 4 patients, paired" in one.lines[0] for one in blocks)
    assert "b: Data leakage: none." in sentences(section)


def test_runs_that_cannot_be_paired_are_named(tmp_path: Path) -> None:
    first = read_evaluations(finetuning_run(tmp_path / "a"))
    other_cases = read_evaluations(finetuning_run(tmp_path / "b", cases=["case0", "case1", "case2", "x"]))
    another_kind = read_evaluations(classification_run(tmp_path / "c"))
    section = paired_section([("a", first), ("b", other_cases), ("c", another_kind), ("d", Evaluations())])
    assert sentences(section) == [
        "b cannot be paired with a: b has no case case3; a has no case x.",
        "c cannot be paired with a: one is a segmentation and the other a classification.",
        "d was not evaluated on the test split, on which a was.",
        "So nothing is compared.",
    ]


def test_nothing_evaluated(tmp_path: Path) -> None:
    section = paired_section([("a", Evaluations()), ("b", Evaluations())])
    assert sentences(section) == ["None of these runs was evaluated, so there is nothing to compare."]


def test_classifications(tmp_path: Path) -> None:
    first = read_evaluations(classification_run(tmp_path / "a"))
    other = read_evaluations(classification_run(tmp_path / "b", second=(0.1, 0.2, 0.7, 0.9)))
    section = paired_section([("a", first), ("b", other)])
    rows = {row.cells[1].text: [cell.text for cell in row.cells] for row in tables(section)["figures"].rows}
    assert rows["accuracy"][2:4] == ["0.750", "1.000"]
    (change,) = tables(section)["changes"].rows
    assert [cell.text for cell in change.cells] == [
        *("b", "c1", "normal", "pneumonia", "normal", "0.400 to 0.800", "now right")
    ]
