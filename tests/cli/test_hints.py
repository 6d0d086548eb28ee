"""The hints of the main refusals are typed as they are printed, and get past what was refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pretraining.tiny_run import TINY, tiny_run, write_data
from voco_cli.cli import app
from voco_cli.phantom.write import write_phantoms

Run = Callable[..., tuple[int, str]]
SET = [part for value in TINY for part in ("--set", value)]


@pytest.fixture
def voco(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the front door in this process; exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["voco", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            app.main()
        return int(leaving.value.code or 0), capsys.readouterr().err

    return run


def typed(err: str) -> list[list[str]]:
    """What stands in back quotes in the hint, as words of a shell."""
    hint = next(line for line in err.splitlines() if line.startswith("hint: "))
    return [shlex.split(words) for words in re.findall(r"`([^`]+)`", hint)]


def test_other_settings_and_a_longer_run(voco: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    run = ["pretrain", data, "--recipe", "debug", *SET, "--set", "train.steps=1", "-o", "run"]
    assert voco(*run)[0] == 0
    code, err = voco(*run, "--set", "seed=4")
    assert (code, typed(err)) == (2, [["--set", "seed=0"]])
    assert voco(*run, *typed(err)[0])[0] == 0
    code, err = voco(*run, "--set", "train.steps=2")
    assert (code, typed(err)) == (2, [["--weights", "run", "-o", "run-longer"]])
    assert voco(*run, "--set", "train.steps=2", *typed(err)[0])[0] == 0


def test_a_mix_of_modalities(voco: Run, tmp_path: Path) -> None:
    images = write_phantoms(tmp_path / "scans", 4, 1, (48, 48, 24))
    kinds = ["CT", "CT", "CT", "MR"]
    items = [
        {"image": str(path), "patient": path.stem, "modality": kind} for path, kind in zip(images, kinds, strict=True)
    ]
    (tmp_path / "data.json").write_text(json.dumps({"training": items}))
    run = ["pretrain", "data.json", "--recipe", "debug", *SET, "--set", "train.steps=1", "-o", "run"]
    code, err = voco(*run)
    assert code == 2
    assert "3 CT, 1 MR" in err
    assert not (tmp_path / "run").exists()
    alone, percentiles = typed(err)
    assert voco(*alone[1:])[0] == 0
    listed = json.loads((tmp_path / "data_CT.json").read_text())
    assert len(listed["training"]) + len(listed["validation"]) == 3
    assert voco(*run, *percentiles)[0] == 0


def test_mr_is_scaled_by_its_percentiles_and_the_run_says_why(voco: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    data.write_text(data.read_text().replace('"CT"', '"MR"'))
    code, err = voco("pretrain", data, "--recipe", "debug", *SET, "--set", "train.steps=1", "-o", "run")
    assert code == 0
    assert "MR is not in HU" in err
    saved = (tmp_path / "run" / "settings.yaml").read_text()
    assert "preprocess.intensity: modality of data.json (MR)" in saved


def test_no_recipe_and_no_gpu(voco: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    monkeypatch.setattr("voco_cli.pretraining.rough_time.crop_seconds", lambda settings: 1.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, err = voco("pretrain", data, "--set", "train.steps=600", "--device", "cpu")
    # 600 steps of 2 scans, 2 + 16 crops each; forward, twice that backward, and once through the teacher: 86,400 s.
    assert (code, "about 24 hours" in err) == (2, True)
    debug, long = typed(err)
    assert (debug[:2], debug[-2:], long[-2:]) == (["voco", "pretrain"], ["--recipe", "debug"], ["--recipe", "cvpr"])
    assert voco(*debug[1:], *SET, "--set", "train.steps=1", "-o", "run")[0] == 0


def test_weights_of_another_network(voco: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    tiny_run(data, tmp_path / "small", "train.steps=1")
    run = ["pretrain", data, "--recipe", "debug", "--weights", "small", "-o", "run"]
    code, err = voco(*run)
    assert code == 2
    assert not (tmp_path / "run").exists()
    words = [word for word in typed(err)[0] if word not in ("--recipe", "debug")]
    assert voco(*run, *words, *SET, "--set", "train.steps=1")[0] == 0
