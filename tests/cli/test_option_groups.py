"""Options that several commands take: what Typer sees of a group, which settings it sets, and how it is typed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from voco_cli.cli.app import app
from voco_cli.cli.cache import LabelledCacheOptions
from voco_cli.cli.option_groups import FinetuneOptions, PretrainOptions
from voco_cli.errors import UsageError

ROOT: Any = typer.main.get_command(app)


def names(*path: str) -> list[str]:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return [one.name for one in command.params if one.name not in ("help", "quiet", "debug")]


def test_a_plan_takes_what_its_run_takes() -> None:
    own = ["data", "recipe", "objective", "config", "override", "run_dir", "steps", "weights", "weights_collection"]
    own += ["trust_pickle", "device"]
    assert names("pretrain") == [*own, "recheck", "dry_run", "json"]
    assert names("plan", "pretrain") == [*own, "seconds", "as_json"]
    shared = [name for name in names("finetune") if name not in ("require_clean", "recheck", "dry_run")]
    assert [name for name in names("plan", "finetune") if name != "seconds"] == shared
    assert set(names("probe")) < set(shared)
    assert names("cache", "prune") == ["data", "recipe", "config", "override", "folder", "labels", "yes", "as_json"]


def test_the_settings_of_the_options_that_were_given() -> None:
    options = FinetuneOptions(
        task="btcv", steps=5, freeze_encoder=True, run_dir=Path("a"), weights="w.pt", override=["seed=1"]
    )
    assert options.flags() == {
        "task.preset": "btcv",
        "run.dir": Path("a"),
        "model.weights": "w.pt",
        "train.steps": 5,
        "task.freeze_encoder": True,
    }
    resolved = options.resolve()
    settings = resolved.settings
    assert (settings.train.steps, settings.task.freeze_encoder, settings.seed) == (5, True, 1)
    assert resolved.sources["train.steps"] == "command line"
    assert resolved.sources["seed"] == "--set"


def test_the_command_that_is_typed_again() -> None:
    options = PretrainOptions(data=Path("a b.json"), override=["seed=1", "train.lr=2"], steps=5, trust_pickle=True)
    assert options.words() == [
        *("a b.json", "--set", "seed=1", "--set", "train.lr=2"),
        *("--steps", "5", "--trust-pickle"),
    ]
    cache = LabelledCacheOptions(data=Path("d.json"), recipe="tpami", folder=Path("c"), labels=True)
    assert cache.command("verify") == "voco cache verify d.json --recipe tpami --dir c --labels"
    assert cache.pretrain_command() == "voco pretrain d.json --recipe tpami --set cache.dir=c"


def test_an_option_and_the_same_setting_disagree() -> None:
    with pytest.raises(UsageError, match=r"train\.steps is given twice: 7 by --set, and 5 by an option of its own\."):
        PretrainOptions(steps=5, override=["train.steps=7"]).resolve()
