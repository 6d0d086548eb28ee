"""The first commands of the README and of docs/start.md, as they stand there, on generated scans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.docs.pages import ROOT, blocks, shell_lines, voco_arguments
from voco_cli.cli.app import app
from voco_cli.phantom.write import write_phantoms

CHEAP = ("index", "preview-labels")


def first_steps(page: Path) -> list[list[str]]:
    calls = [
        voco_arguments(words) for block in blocks(page) if block.language == "bash" for words in shell_lines(block.text)
    ]
    return [call for call in calls if call and call[0] in CHEAP]


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_first_steps_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(tmp_path / "scans", 5, 1, (48, 48, 24))
    monkeypatch.chdir(tmp_path)
    steps = first_steps(ROOT / page)
    assert [call[0] for call in steps] == [*CHEAP]
    for call in steps:
        shown = CliRunner().invoke(app, call)
        assert shown.exit_code == 0, shown.output
        assert "wrote " in shown.output
    data = json.loads((tmp_path / "data.json").read_text())
    assert len(data["training"]) + len(data["validation"]) == 5
    assert list(tmp_path.glob("*.png"))
