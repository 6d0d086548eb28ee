import dataclasses
from pathlib import Path

import pytest

from tests.study.made_study import plan
from voco_cli.errors import UsageError
from voco_cli.study.arms import Arm
from voco_cli.study.plan import make_plan
from voco_cli.study.record import fixed_settings


def test_runs_go_seed_by_seed_with_the_arms_interleaved(tmp_path: Path) -> None:
    asked = make_plan(tmp_path, "btcv", ["runs/voco"], [10, 5], 2)
    assert [run.place.as_posix() for run in asked.runs()] == [
        *("none/n005-seed0", "voco/n005-seed0", "none/n010-seed0", "voco/n010-seed0"),
        *("none/n005-seed1", "voco/n005-seed1", "none/n010-seed1", "voco/n010-seed1"),
    ]


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (["none"], ["none"]),
        (["runs/pretrain/"], ["none", "pretrain"]),
        (["runs/a/weights/encoder.safetensors", "none"], ["none", "a"]),
        (["runs/a/checkpoints/step-000100"], ["none", "a-step-000100"]),
        (["hf://Luffy03/VoCo/VoCo_10k.pt", "x/VoCo_10k.pt"], ["none", "VoCo_10k", "VoCo_10k-2"]),
        (["model.pt.gz"], ["none", "weights"]),
        (["../none.pt"], ["none", "none-2"]),
        (["a b/ü:x.pth"], ["none", "x"]),
        (["VoCo v1.5.pt"], ["none", "VoCo-v1.5"]),
    ],
)
def test_arms_have_short_names_of_their_own(weights: list[str], names: list[str], tmp_path: Path) -> None:
    assert [arm.name for arm in make_plan(tmp_path, "btcv", weights, [5], 1).arms] == names


def test_an_earlier_study_keeps_its_names(tmp_path: Path) -> None:
    known = {"none": None, "voco": "old/voco.pt"}
    asked = make_plan(tmp_path, "btcv", ["new/voco.pt", "old/voco.pt"], [5], 1, known=known)
    assert asked.arms == (Arm("none"), Arm("voco-2", "new/voco.pt"), Arm("voco", "old/voco.pt"))


def test_settings_of_a_run(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["runs/voco"])
    run = asked.runs()[-1]
    settings = asked.settings_of(run, tmp_path / "a b" / "data.json", tmp_path / "cache").settings
    assert settings.run.dir == tmp_path / "study" / "voco" / "n010-seed1"
    assert (settings.seed, settings.task.cases, settings.model.weights) == (1, 10, "runs/voco")
    assert (settings.data.file, settings.cache.dir) == (tmp_path / "a b" / "data.json", tmp_path / "cache")
    assert settings.task.split is None


def test_runs_differ_in_nothing_else(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["runs/voco"])
    first, *others = (fixed_settings(asked.settings_of(run).settings) for run in asked.runs())
    assert all(other == first for other in others)
    assert {"task.choose", "train.lr", "preprocess.spacing_mm"} <= first.keys()
    assert not {"seed", "task.cases", "model.weights", "run.dir"} & first.keys()


@pytest.mark.parametrize("own", ["seed=3", "task.cases=2", "model.weights=mine.pt", "run.dir=elsewhere"])
def test_what_belongs_to_the_study_may_not_be_set(own: str, tmp_path: Path) -> None:
    asked = plan(tmp_path, [], (5,), 1, own)
    with pytest.raises(UsageError, match="a study sets it for each run itself"):
        asked.settings_of(asked.runs()[0])


def test_weights_of_a_task_file_do_not_slip_into_the_baseline(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["runs/voco"])
    config = tmp_path / "config.yaml"
    config.write_text("model: {weights: sneaky.pt}\n")
    asked = dataclasses.replace(asked, config=config)
    with pytest.raises(UsageError, match=r"model\.weights is set to sneaky\.pt by .*config\.yaml"):
        asked.settings_of(asked.runs()[0])


def test_a_fresh_encoder_is_not_frozen_where_others_are(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["runs/voco"], (5,), 1, "task.freeze_encoder=true")
    frozen = {run.arm.name: asked.settings_of(run).settings.task.freeze_encoder for run in asked.runs()}
    assert frozen == {"none": False, "voco": True}
    assert fixed_settings(asked.shared_settings())["task.freeze_encoder"]
    alone = plan(tmp_path, [], (5,), 1, "task.freeze_encoder=true")
    with pytest.raises(UsageError, match=r"task\.freeze_encoder needs model\.weights"):
        alone.shared_settings()


@pytest.mark.parametrize(("sizes", "seeds"), [([], 1), ([0, 5], 1), ([5], 0)])
def test_numbers_that_cannot_be(sizes: list[int], seeds: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A study needs"):
        make_plan(tmp_path, "btcv", [], sizes, seeds)
