"""`voco config`: every value with its source, the schema, and a file to start from."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from voco_cli.cli.app import app
from voco_cli.cli.config import USUAL, USUAL_IN_PRETRAINING, USUAL_WITH_TASK
from voco_cli.config import Settings, load_settings
from voco_cli.config.load import field_descriptions
from voco_cli.errors import UsageError


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str) -> str:
    shown = CliRunner().invoke(app, ["config", *arguments], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def rows(text: str) -> dict[str, list[str]]:
    """Columns of the table by the setting's name."""
    split = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return {columns[0]: columns[1:] for columns in split if len(columns) == 3}


def test_show_prints_every_setting_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my.yaml").write_text("train:\n  lr: 0.002\n")
    monkeypatch.setenv("VOCO_TRAIN__BATCH_SIZE", "3")
    table = rows(
        run("show", "--all", "--recipe", "debug", "--config", "my.yaml", "--set", "seed=5", "--set", "crops.grid=2x2")
    )
    assert set(table) >= {key for key, _ in field_descriptions()}
    assert table["seed"] == ["5", "--set"]
    assert table["crops.grid"] == ["(2, 2)", "--set"]
    assert table["recipe"] == ["debug", "command line"]
    assert table["train.lr"] == ["0.002", "my.yaml"]
    assert table["train.batch_size"] == ["3", "environment"]
    assert table["train.steps"] == ["320", "recipe debug"]
    assert table["train.accumulate"] == ["1", "default"]


def test_show_leaves_out_what_nobody_set_and_few_change() -> None:
    shown = run("show", "--recipe", "tpami")
    assert shown.endswith("next: voco config show --recipe tpami --all\n")
    usual, everything = rows(shown), rows(run("show", "--all", "--recipe", "tpami"))
    assert {"train.steps", "crops.grid", "run.device", "train.warmup_share"} <= set(usual) < set(everything)
    assert {key for key, (_, source) in everything.items() if source != "default"} <= set(usual)
    assert {"cache.codec", "task.split", "predict.flips"}.isdisjoint(usual)
    with_task = rows(run("show", "--task", "mmwhs", "--set", "cache.codec=lz4"))
    assert {"task.split", "predict.flips", "cache.codec"} <= set(with_task)
    assert "crops.grid" not in with_task


def test_the_usual_settings_exist() -> None:
    assert {key for key, _ in field_descriptions()} >= USUAL | USUAL_IN_PRETRAINING | USUAL_WITH_TASK


def test_show_as_json() -> None:
    shown = json.loads(run("show", "--json", "--recipe", "tpami"))
    assert shown["settings"] == load_settings("tpami").settings.model_dump(mode="json")
    assert shown["sources"]["crops.grid"] == "recipe tpami"
    assert set(shown["sources"]) == {key for key, _ in field_descriptions()}


def test_schema_describes_every_field() -> None:
    schema = json.loads(run("schema"))
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["$defs"]["Train"]["properties"]["lr"]["exclusiveMinimum"] == 0.0
    for key, description in field_descriptions():
        section, _, name = key.rpartition(".")
        properties = schema["properties"]
        for part in filter(None, section.split(".")):
            properties = schema["$defs"][properties[part]["$ref"].rpartition("/")[2]]["properties"]
        assert properties[name]["description"] == description


@pytest.mark.parametrize("recipe", ["cvpr", "tpami", "paper", "debug"])
def test_init_writes_a_file_that_loads_back(recipe: str) -> None:
    shown = run("init", "-o", "my.yaml", "--recipe", recipe)
    assert shown.splitlines() == ["wrote my.yaml", "next: voco pretrain data.json --config my.yaml"]
    expected = load_settings(recipe).settings
    assert load_settings(config=Path("my.yaml")).settings == expected
    # With every line uncommented it says the same, now by itself.
    text = Path("my.yaml").read_text()
    names = "|".join({key.rpartition(".")[2] for key, _ in field_descriptions()})
    everything = re.sub(rf"^( *)# (({names}): .*)$", r"\1\2", text, flags=re.MULTILINE)
    Path("all.yaml").write_text(everything)
    resolved = load_settings(config=Path("all.yaml"))
    assert resolved.settings == expected
    # Trust in a pickle is typed, and never read from a file.
    assert {key for key, source in resolved.sources.items() if source != "all.yaml"} == {"model.trust_pickle"}


def test_init_comments_say_what_each_setting_is() -> None:
    run("init")
    lines = [line.strip() for line in Path("voco.yaml").read_text().splitlines()]
    for key, description in field_descriptions():
        name = key.rpartition(".")[2]
        if name not in ("recipe", "trust_pickle"):
            assert any(
                line == f"# {description}" and after.startswith(f"# {name}: ") for line, after in pairwise(lines)
            ), key


def test_init_replaces_a_file_only_when_asked() -> None:
    Path("voco.yaml").write_text("seed: 4\n")
    with pytest.raises(UsageError, match=r"voco\.yaml exists already"):
        run("init")
    assert Path("voco.yaml").read_text() == "seed: 4\n"
    run("init", "--force")
    assert "seed: 4" not in Path("voco.yaml").read_text()


def test_a_typo_ends_with_code_2() -> None:
    with pytest.raises(UsageError, match=r"train\.stpes is not a setting; the nearest is train\.steps") as caught:
        run("show", "--set", "train.stpes=3")
    assert caught.value.exit_code == 2


def test_a_file_that_starts_from_a_task_gives_its_settings_back() -> None:
    run("init", "--task", "mmwhs", "-o", "mine.yaml")
    assert load_settings(config=Path("mine.yaml")).settings == load_settings(task="mmwhs").settings
    # Nested values stand there as they can be edited.
    assert '"values": [420, 421]' in Path("mine.yaml").read_text()


def test_show_tells_what_comes_from_a_task() -> None:
    table = rows(run("show", "--task", "mmwhs"))
    assert table["preprocess.window_hu"] == ["(0.0, 1700.0)", "task mmwhs"]
    assert table["run.dir"] == ["runs/finetune", "task mmwhs"]
