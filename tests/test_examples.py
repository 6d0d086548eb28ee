"""What lies in examples/ works as it stands there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pretraining.tiny_run import tiny_run, write_data
from voco_cli.settings import load_settings

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_settings_files_are_valid_and_every_value_in_them_counts(path: Path) -> None:
    is_task = "task" in yaml.safe_load(path.read_text())
    resolved = load_settings(task=str(path)) if is_task else load_settings(config=path)
    assert str(path) in set(resolved.sources.values())


def test_every_example_is_told_of() -> None:
    told = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in told] == ["README.md"]


def test_an_encoder_is_put_into_monais_network(tmp_path: Path) -> None:
    tiny_run(write_data(tmp_path / "scans"), tmp_path / "run", "train.steps=1")
    command = [sys.executable, str(EXAMPLES / "load_encoder.py"), str(tmp_path / "run")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLES.parent)
    assert "30" in shown.stdout  # five levels of six tensors
