"""The hints of the main refusals are typed as they are printed, and get past what was refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from tests.tasks.made_run import make_run
from voco_cli.cli import app
from voco_cli.config import recipe_names
from voco_cli.data.synthetic.generate import write_cts

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
    images = write_cts(tmp_path / "scans", 4, 1, (48, 48, 24))
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
    monkeypatch.setattr("voco_cli.resources.costs.crop_seconds", lambda settings: 1.0)
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


def labelled(folder: Path, count: int = 3) -> Path:
    """A folder of generated CTs with label maps, and what says that they are CT."""
    write_cts(folder, count, 1, (40, 40, 20), labelled=True)
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"})
    )
    return folder


ONE_STEP = [
    part
    for value in ("train.steps=1", "run.device=cpu", "run.threads=1", "data.workers=0", "evaluate.resamples=100")
    for part in ("--set", value)
]
SMALL = ["--set", "model.feature_size=2", "--set", "model.levels=3"]


@pytest.fixture
def task(voco: Run, tmp_path: Path) -> list[str]:
    """A fine-tuning of one step on a task of one's own."""
    labelled(tmp_path / "scans")
    assert voco("index", "scans", "-o", "data.json")[0] == 0
    assert voco("tasks", "new", "data.json", "-o", "my.yaml")[0] == 0
    return ["finetune", "--task", "my.yaml", *ONE_STEP]


def test_a_patch_that_the_network_does_not_take(voco: Run, task: list[str], tmp_path: Path) -> None:
    run = [*task, *SMALL, "-o", "run"]
    code, err = voco(*run, "--set", "task.patch_size=17x17x14")
    assert code == 2
    near = re.search(r"not multiples of 4 \(unet\), where (task\.patch_size=\S+) would do", err)
    assert near is not None
    assert near[1] == "task.patch_size=16x16x16"  # 14 / 4 is 3.5, and a half is rounded up
    assert not (tmp_path / "run").exists()
    assert voco(*run, "--set", near[1])[0] == 0


def test_weights_of_another_network_in_finetune(voco: Run, task: list[str], tmp_path: Path) -> None:
    tiny_run(write_data(tmp_path / "data", 3, 0), tmp_path / "small", "train.steps=1")
    weights = ["--weights", "small"]
    code, err = voco(*task, *weights, "-o", "run")
    assert code == 2
    assert not (tmp_path / "run").exists()
    options, new = typed(err)
    assert voco(*task, *weights, *options, "-o", "run")[0] == 0
    assert new[:2] == ["voco", "tasks"]
    assert voco(*new[1:])[0] == 0
    assert voco("finetune", "--task", new[-1], *ONE_STEP, *weights, "-o", "other")[0] == 0


def test_no_label_maps(voco: Run, tmp_path: Path) -> None:
    images = sorted((labelled(tmp_path / "scans") / "imagesTr").iterdir())
    (tmp_path / "scans" / "dataset.json").unlink()
    for image, label in zip(images, sorted((tmp_path / "scans" / "labelsTr").iterdir()), strict=True):
        folder = tmp_path / "truth" / image.name.removesuffix(".nii.gz")
        folder.mkdir(parents=True)
        label.rename(folder / "organs.nii.gz")
    index = ["index", "scans/imagesTr", "--modality", "CT", "-o", "data.json"]
    assert voco(*index)[0] == 0
    code, err = voco("tasks", "new", "data.json")
    assert (code, typed(err)) == (2, [["voco", "index", "FOLDER", "--label-pattern", "PATTERN", "-o", "data.json"]])
    assert voco(*index, "--label-pattern", "../../truth/{stem}/organs.nii.gz")[0] == 0
    assert voco("tasks", "new", "data.json")[0] == 0


def test_a_modality_that_no_file_says(voco: Run, tmp_path: Path) -> None:
    write_cts(tmp_path / "some scans", 3, 1, (40, 40, 20))
    code, err = voco("index", "some scans", "-o", "data.json")
    hint = next(line for line in err.splitlines() if line.startswith("hint: "))
    command = shlex.split(hint.partition("say it: ")[2])
    assert (code, command[:3], command[-2:]) == (0, ["voco", "index", "some scans"], ["--modality", "CT"])
    code, err = voco(*command[1:])
    assert code == 0
    assert "hint: " not in err
    assert json.loads((tmp_path / "data.json").read_text())["modality"] == "CT"


def test_a_misspelt_option_recipe_and_setting(voco: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    run = ["pretrain", data, *SET, "-o", "run"]
    code, err = voco(*run, "--recipe", "debug", "--weigths", "none")
    assert code == 2
    assert "hint: did you mean --weights?" in err
    code, err = voco(*run, "--recipe", "debgu")
    assert code == 2
    assert f"hint: use one of {', '.join(recipe_names())}" in err
    code, err = voco(*run, "--recipe", "debug", "--set", "train.stesp=1")
    assert code == 2
    nearest = err.partition("the nearest is ")[2].rstrip(".\n")
    assert nearest == "train.steps"
    assert not (tmp_path / "run").exists()
    assert voco(*run, "--recipe", "debug", "--set", f"{nearest}=1")[0] == 0


def test_flips_that_training_never_showed(voco: Run, tmp_path: Path) -> None:
    make_run(tmp_path / "run", "augment.flip_prob=0", "preprocess.spacing_mm=null")
    write_cts(tmp_path / "scans", 1, 1, (40, 40, 20))
    predict = ["predict", "run", "scans", "--device", "cpu"]
    code, err = voco(*predict, "--flips", "-o", "refused")
    assert (code, typed(err)) == (2, [["--flips"], ["--set", "predict.flips=true"]])
    assert not (tmp_path / "refused").exists()
    assert voco(*predict, "-o", "without")[0] == 0
    assert voco(*predict, *typed(err)[1], "-o", "with")[0] == 0


def test_an_extra_that_is_not_installed(voco: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data", 3, 0)
    tiny_run(data, tmp_path / "run", "train.steps=1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, err = voco("embed", "run", data, "-o", "features.parquet")
    assert code == 2
    assert 'hint: pip install "voco-cli[parquet]", or end it with .npz' in err
    assert voco("embed", "run", data, "-o", "features.npz")[0] == 0


def test_fewer_scans_than_a_step_needs(voco: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 1, 0)
    run = ["pretrain", data, "--recipe", "debug", *SET, "--set", "train.steps=1", "-o", "run"]
    code, err = voco(*run)
    assert code == 2
    assert "A step needs 2 different scans (train.batch_size of 1 processes), but only 1 are there" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]  # before the cache and the run folder
    lower = ["--set", "train.batch_size=1", "--set", "objective.voco.inter_weight=0"]
    assert voco(*run, *lower)[0] == 0
