"""Folders of `voco compare -o`, rebuilt from what they hold."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.report.made_runs import DICE, classification_run, finetuning_run
from voco_cli.cli.compare import compare
from voco_cli.document.blocks import PageSection, Picture, Sentence, Table
from voco_cli.errors import DataError, UsageError
from voco_cli.report.comparison import comparison_section, paired_section
from voco_cli.report.evaluations import read_evaluations

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


def tables(section: PageSection) -> list[list[list[str]]]:
    found = [one for part in section.parts for one in part.blocks if isinstance(one, Table)]
    return [[[cell.text for cell in row.cells] for row in one.rows] for one in found]


def test_the_same_tables_as_of_the_runs_themselves(pair: tuple[Path, Path], tmp_path: Path) -> None:
    section = comparison_section("c", compared(tmp_path / "c", *pair), "c")
    itself = paired_section([(run.name, read_evaluations(run)) for run in pair])
    assert tables(section) == tables(itself)
    assert section.lead.startswith("Against a, b: +0.025 [")
    assert section.lead.endswith("mean Dice, p 0.125.")
    assert isinstance(section.parts[0].blocks[0], Picture)


def test_classifications(tmp_path: Path) -> None:
    runs = (classification_run(tmp_path / "a"), classification_run(tmp_path / "b", second=(0.1, 0.2, 0.7, 0.9)))
    section = comparison_section("c", compared(tmp_path / "c", *runs), "c")
    assert tables(section) == tables(paired_section([(run.name, read_evaluations(run)) for run in runs]))
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
