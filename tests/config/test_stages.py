from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.config import load_settings, read_saved
from voco_cli.config.load import Resolved, saved_file
from voco_cli.config.stages import objective_flags, parse_objectives, stage_runs
from voco_cli.errors import UsageError


def resolved(*overrides: str, objective: str | None = None) -> Resolved:
    return load_settings("debug", None, overrides, {"run.dir": Path("run"), **objective_flags(objective)})


def test_objectives_are_read_with_sums_stages_and_weights() -> None:
    assert parse_objectives("voco") == ({"voco": 1.0},)
    assert parse_objectives("voco + rotation=0.5") == ({"voco": 1.0, "rotation": 0.5},)
    assert parse_objectives("voco:rotation=2:voco+rotation") == (
        {"voco": 1.0},
        {"rotation": 2.0},
        {"voco": 1.0, "rotation": 1.0},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voc", "There is no objective 'voc' (in 'voc')."),
        ("voco:", "There is no objective '' (in 'voco:')."),
        ("voco+voco", "The objective voco is named twice in a stage of 'voco+voco'."),
        ("voco=0", "'voco=0' gives voco no weight above 0."),
        ("voco=nan", "'voco=nan' gives voco no weight above 0."),
        ("voco=inf", "'voco=inf' gives voco no weight above 0."),
        ("voco=a", "'voco=a' gives voco no weight above 0."),
    ],
)
def test_objectives_that_make_no_sense_get_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_objectives(text)
    assert refused.value.message == message


def test_objectives_replace_those_of_the_recipe() -> None:
    settings = resolved(objective="rotation=0.25").settings
    assert settings.objective.active() == {"rotation": 0.25}
    assert settings.stages == ()


def test_each_stage_starts_from_the_weights_of_the_one_before() -> None:
    first, second, third = stage_runs(resolved("model.weights=old.pt", objective="voco:rotation:voco+rotation"))
    assert [one.settings.run.dir for one in (first, second, third)] == [
        Path("run/stages/1-voco"),
        Path("run/stages/2-rotation"),
        Path("run"),
    ]
    assert [one.settings.model.weights for one in (first, second, third)] == [
        "old.pt",
        "run/stages/1-voco",
        "run/stages/2-rotation",
    ]
    assert [list(one.settings.objective.active()) for one in (first, second, third)] == [
        ["voco"],
        ["rotation"],
        ["voco", "rotation"],
    ]
    assert second.sources["objective.rotation.weight"] == "stage 2"


def test_a_stage_has_settings_of_its_own() -> None:
    stages = "stages=[{train: {steps: 7}}, {train: {lr: 0.5}, objective: {voco: {ema: 0.5}}}]"
    first, second = (one.settings for one in stage_runs(resolved("train.steps=9", stages)))
    assert (first.train.steps, second.train.steps) == (7, 9)
    assert (first.train.lr, second.train.lr) == (1e-3, 0.5)
    assert (first.objective.voco.ema, second.objective.voco.ema) == (0.9, 0.5)


def test_stages_are_saved_with_the_last_and_read_again(tmp_path: Path) -> None:
    last = stage_runs(resolved(objective="voco:rotation"))[-1]
    (tmp_path / "settings.yaml").write_text(saved_file(last, {}))
    assert read_saved(tmp_path / "settings.yaml") == last.settings
    assert len(last.settings.stages) == 2


def test_trust_that_was_typed_goes_on_to_every_stage() -> None:
    flags = {"model.trust_pickle": True, **objective_flags("voco:rotation")}
    runs = stage_runs(load_settings("debug", None, (), flags))
    assert [one.settings.model.trust_pickle for one in runs] == [True, True]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            "[{model: {backbone: swinunetr}}]",
            "stage 1 sets model, and a stage has only objective, crops, augment, train, health, as all stages share "
            "one network.",
        ),
        ("[{data: {}}]", "stage 1 sets data, and a stage has only objective, crops, augment, train, health."),
        ("[{train: {stepz: 3}}]", "stage 1: train.stepz: Extra inputs are not permitted."),
        ("[{}, {train: {steps: 0}}]", "stage 2: train.steps: Input should be greater than 0."),
        (
            "[{crops: {size: [5, 5, 5]}}]",
            "stage 1: crops reach the network as 5x5x5, less than 17 voxels an edge (unet).",
        ),
    ],
)
def test_stages_that_make_no_sense_get_one_sentence(stages: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolved(f"stages={stages}")
    assert refused.value.message == message
