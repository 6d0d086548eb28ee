"""`voco locate` through the app: numbers, picture, refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.pretrain.made_run import MadeRun, made_run
from voco_cli.cli.app import app
from voco_cli.errors import DataError, UsageError, VocoError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return made_run(tmp_path_factory.mktemp("made"))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["locate", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: object) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return record


def test_table_and_picture(made: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = tmp_path / "$a_b$<x>[red].nii.gz"
    hostile.write_bytes(made.scans[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    output = run(made.run, hostile, "--at", "18,12", "--at", "30,30,12")
    record = run_json(made.run, hostile, "--at", "18,12", "--at", "30,30,12")
    assert "$a_b$<x>[red].nii.gz" in output
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    for crop in record["crops"]:
        centre = ", ".join(map(str, crop["centre"]))
        words = [str(crop["most_likely"]), f"{crop['logit']:.3f}", f"{crop['label']:.3f}"]
        assert [crop["name"], centre, *words, str(crop["true"]), f"{crop['rank']:g}"] in rows
    assert [crop["true"] for crop in record["crops"]] == [1, 4]
    assert f"mean rank {record['mean_rank']:.2f}; 0 is first, guessing gives 1.5" in output
    assert (tmp_path / "$a_b$<x>[red]_location.png").read_bytes().startswith(b"\x89PNG")
    assert record["picture"] is None


def test_options_count(made: MadeRun, tmp_path: Path) -> None:
    scan, other = made.scans
    assert len(run_json(made.run, scan)["crops"]) == 4
    drawn = run_json(made.run, scan, "--crops", 7, "-o", tmp_path / "x.svg")
    assert len(drawn["crops"]) == 7
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")
    own, against = (run_json(made.run, scan, *more)["crops"] for more in ([], ["--against", other]))
    assert [crop["centre"] for crop in own] == [crop["centre"] for crop in against]
    assert [crop["logits"] for crop in own] != [crop["logits"] for crop in against]
    assert run_json(made.run, scan, "--checkpoint", "best")["step"] == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--at", "5,24"), "reaches outside the preprocessed volume"),
        (("--at", "24"), "--at 24 is not the centre"),
        (("--at", "24,a"), "is not the centre"),
        (("--at", "24,24", "--crops", "2"), "exclude each other"),
        (("-o", "picture.txt"), "picture.txt does not end like a picture"),
    ],
)
def test_wrong_use_is_one_sentence(made: MadeRun, arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        run(made.run, made.scans[0], *arguments)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_wrong_runs_and_scans_are_named(made: MadeRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist") as caught:
        run(tmp_path / "gone", made.scans[0])
    assert "voco pretrain" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=r"is not a run folder: it has no settings\.yaml"):
        run(made.run / "weights", made.scans[0])
    with pytest.raises(VocoError, match=r"absent\.nii\.gz"):
        run(made.run, tmp_path / "absent.nii.gz")
    with pytest.raises(VocoError, match=r"absent\.nii\.gz"):
        run(made.run, made.scans[0], "--against", tmp_path / "absent.nii.gz")
    stopped = shutil.copytree(made.run, tmp_path / "run")
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(DataError, match="has no checkpoint"):
        run(stopped, made.scans[0])
