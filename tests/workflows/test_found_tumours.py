"""The filter of `voco synthesize`: what a network whose answers are known finds of painted tumours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.tasks.made_run import known_network, make_run
from tests.workflows.test_synthesize import made_pair
from voco_cli.cli.app import app
from voco_cli.errors import UsageError, VocoError
from voco_cli.workflows import found_tumours

# The network calls spleen what lies between -69 and 37 HU. Liver has 110 HU; a tumour falls to 30 HU at the darkest.
DARK = "contrast_hu: [200, 200]\nleast_mean_hu: 10\ncapsule_share: 0\n"
FAINT = "contrast_hu: [30, 30]\ncapsule_share: 0\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load(path: Path, device: str | None = None) -> Any:
        return known_network(path)

    monkeypatch.setattr(found_tumours, "load_trained", load)
    return make_run(tmp_path / "run")


def synthesize(folder: Path, run: Path, rules: str, *words: str) -> Any:
    (folder / "rules.yaml").write_text(rules)
    asked = [*made_pair(folder), "-o", folder / "out", "--organ", "liver", "--size", "9", "--number", "2"]
    options = ["--lesion", "spleen", "--filter", run, "--rules", folder / "rules.yaml", *words]
    return CliRunner().invoke(app, ["synthesize", *map(str, [*asked, *options])])


def test_dark_tumours_are_kept(tmp_path: Path, run: Path) -> None:
    ran = synthesize(tmp_path, run, DARK, "--least-found", "0.6", "--json")
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert (told["painted"], told["rejected"], told["rejected_share"]) == (2, 0, 0.0)
    assert not list((tmp_path / "out").glob(".unfinished*"))


def test_faint_ones_are_not_and_their_share_is_said(tmp_path: Path, run: Path) -> None:
    ran = synthesize(tmp_path, run, FAINT)
    assert "The network did not find 2 of 2 (100%)." in ran.output
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.message == "Nothing was painted: the network found none of them."
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_a_run_without_the_lesion_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        found_tumours.finder(run, "tumour", None, tmp_path)
    assert raised.value.message == f"{run} finds no class 'tumour': its classes are spleen, liver."
