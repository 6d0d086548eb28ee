"""Where settings come from, which source wins, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.config import Settings, load_settings, read_saved, recipe_names
from voco_cli.config.load import field_descriptions, leaves, saved_file
from voco_cli.errors import UsageError


def write(text: str, name: str = "my.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def message(**sources: object) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(**sources)  # type: ignore[arg-type]
    return caught.value.message


def test_each_source_wins_over_the_ones_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # One setting more for each weaker source, so that every value says who won.
    recipe = write("train: {steps: 1, lr: 1.0, batch_size: 1, accumulate: 1, log_every: 1}\n", "recipe.yaml")
    for name, value in {"STEPS": "2", "LR": "2.0", "BATCH_SIZE": "2", "ACCUMULATE": "2"}.items():
        monkeypatch.setenv(f"VOCO_TRAIN__{name}", value)
    config = write("train: {steps: 3, lr: 3.0, batch_size: 3}\n")
    resolved = load_settings(str(recipe), config, ["train.steps=5"], {"train.steps": 4, "train.lr": 4.0})
    train, sources = resolved.settings.train, resolved.sources
    assert (train.steps, train.lr, train.batch_size, train.accumulate, train.log_every) == (5, 4.0, 3, 2, 1)
    assert train.keep_checkpoints == Settings().train.keep_checkpoints
    names = ("steps", "lr", "batch_size", "accumulate", "log_every", "keep_checkpoints")
    assert [sources[f"train.{name}"] for name in names] == [
        "--set",
        "command line",
        "my.yaml",
        "environment",
        "recipe.yaml",
        "default",
    ]


def test_flags_that_are_not_given_change_nothing() -> None:
    resolved = load_settings(flags={"train.steps": None, "data.file": None})
    assert resolved.settings == load_settings().settings
    assert resolved.sources["train.steps"] == "recipe cvpr"


def test_every_setting_has_a_source() -> None:
    resolved = load_settings("debug", overrides=["seed=4"])
    assert set(resolved.sources) == {key for key, _ in leaves(resolved.settings)}
    assert {value.split()[0] for value in resolved.sources.values()} == {"--set", "command", "recipe", "default"}


@pytest.mark.parametrize("where", ["file", "environment", "override"])
def test_recipe_is_a_setting_that_any_source_may_give(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "environment":
        monkeypatch.setenv("VOCO_RECIPE", "tpami")
    config = write("recipe: tpami\n") if where == "file" else None
    resolved = load_settings(config=config, overrides=["recipe=tpami"] if where == "override" else [])
    assert (resolved.settings.recipe, resolved.settings.crops.grid) == ("tpami", (3, 3))
    assert load_settings("debug", config).settings.recipe == "debug"  # --recipe is stronger than all but --set


def test_all_shipped_recipes_load_and_say_what_the_releases_do() -> None:
    names = "contrast cvpr debug fusion genesis mae omni paper rotation semi supervised tpami voco-omni voco-semi weak"
    assert recipe_names() == names.split()
    cvpr, tpami, paper = (load_settings(name).settings for name in ("cvpr", "tpami", "paper"))
    assert cvpr.crops.region_vox == (384, 384, 96)
    assert cvpr.crops.network_size_vox == (64, 64, 64)
    assert (cvpr.train.lr, cvpr.train.steps * cvpr.train.warmup_share, cvpr.objective.voco.ema) == (1e-4, 5000, 0.9)
    assert cvpr.preprocess.foreground_above == 0.3
    assert cvpr.model.projector_hidden == (2048, 2048)
    assert tpami.crops.region_vox == (192, 192, 64)
    assert (tpami.train.steps * tpami.train.warmup_share, tpami.objective.voco.dropout) == (5000, 0.2)
    assert (tpami.objective.voco.teacher, tpami.objective.voco.inter_weight) == ("projector", 1.0)
    assert (paper.objective.voco.teacher, paper.objective.voco.prediction, paper.objective.voco.symmetric) == (
        "none",
        "paper",
        False,
    )


def test_recipe_file_by_path_and_unknown_recipe() -> None:
    path = write("train: {steps: 12}\n", "own.yaml")
    assert load_settings(str(path)).settings.train.steps == 12
    with pytest.raises(UsageError, match="no recipe 'cvrp'") as caught:
        load_settings("cvrp")
    assert ", ".join(recipe_names()) in str(caught.value.hint)
    assert "gone.yaml cannot be read" in message(recipe="gone.yaml")


def test_values_as_a_person_types_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_MODEL__PROJECTOR_HIDDEN", "[32, 16]")
    monkeypatch.setenv("VOCO_PREPROCESS__RESIZE_VOX", "null")
    monkeypatch.setenv("VOCO_CROPS__INPUT_SIZE", "64x64x64")
    monkeypatch.setenv("VOCO_TRAIN__LR", "3e-4")
    overrides = ["crops.grid=4x4x2", "preprocess.window_hu=-1000,500", "model.checkpointing=off", "train.clip_norm=1"]
    settings = load_settings(overrides=overrides).settings
    assert settings.model.projector_hidden == (32, 16)
    assert settings.preprocess.resize_vox is None
    assert settings.crops.grid == (4, 4, 2)
    assert settings.crops.input_size == (64, 64, 64)
    assert settings.preprocess.window_hu == (-1000.0, 500.0)
    assert (settings.train.lr, settings.train.clip_norm) == (3e-4, 1.0)
    assert settings.model.checkpointing == "off"  # YAML reads a bare off as false


def test_all_errors_of_a_file_are_reported_at_once_with_their_lines() -> None:
    config = write(
        "train:\n  steps: 0\n  lrr: 1\ncrops:\n  grid: 4x4x4x4\n  size: 96x96\nmodle:\n  backbone: unet\nhealth: 3\n"
    )
    lines = message(config=config, overrides=["train.batch_size=two"]).splitlines()
    assert lines[0] == "7 settings are wrong:"
    assert set(lines[1:]) == {
        "  my.yaml:2: train.steps: input should be greater than 0 (got 0).",
        "  my.yaml:3: train.lrr is not a setting; the nearest is train.lr.",
        "  my.yaml:5: crops.grid: there should be at most 3 items (got '4x4x4x4').",
        "  my.yaml:6: crops.size: too few values (got '96x96').",
        "  my.yaml:8: modle.backbone is not a setting; the nearest is model.backbone.",
        "  my.yaml:9: health is a section of settings such as health.cases, not a single value.",
        "  --set: train.batch_size: input should be a valid integer (got 'two').",
    }


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("train.stpes", "train.steps"),
        ("trian.steps", "train.steps"),
        ("model.lr", "train.lr"),
        ("warmup_share", "train.warmup_share"),
        ("objective.iner_weight", "objective.voco.inter_weight"),
        ("sead", "seed"),
    ],
)
def test_unknown_key_names_the_nearest(typed: str, nearest: str) -> None:
    assert message(overrides=[f"{typed}=1"]) == f"--set: {typed} is not a setting; the nearest is {nearest}."


def test_misspelt_section_in_the_environment_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_TRIAN__STEPS", "4")
    assert message() == "environment: trian.steps is not a setting; the nearest is train.steps."


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_DEBUG", "1")
    monkeypatch.setenv("VOCO_REFERENCE", "somewhere")
    assert load_settings().settings == load_settings("cvpr").settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:\n  steps: 1\n  lr: 1\n  steps: 2\n", "my.yaml:4: train.steps is given twice, first on line 2."),
        ("seed: 1\nseed: 1\n", "my.yaml:2: seed is given twice, first on line 1."),
        ("- seed\n", "my.yaml holds no settings"),
        ("seed: [1\n", "my.yaml:2: this is not valid YAML: expected ',' or ']', but got '<stream end>'."),
        (
            "run: {device: gpu}\n",
            "my.yaml:1: run.device: it is auto (a GPU if there is one), cpu, cuda, cuda:N or mps (got 'gpu').",
        ),
        ("crops: {grid: '0x0'}\n", "my.yaml:1: crops.grid: input should be greater than 0 (got '0x0')."),
        ("crops: {grid: axb}\n", "my.yaml:1: crops.grid: input should be a valid integer (got 'axb')."),
        ("nope: {x: 1}\n", "my.yaml:1: nope.x is not a setting; `voco config show --all` lists all."),
        ("train:\n  steps: {a: 1}\n", "my.yaml:2: train.steps is a single value, so train.steps.a is not a setting."),
        ("run: {threads: 0}\n", "my.yaml:1: run.threads: input should be greater than 0 or input should be 'auto'"),
    ],
)
def test_files_that_are_not_settings(text: str, said: str) -> None:
    assert said in message(config=write(text))


@pytest.mark.parametrize("override", ["train.steps", "=3", "train.steps=[1"])
def test_override_that_cannot_be_read(override: str) -> None:
    assert repr(override) in message(overrides=[override])


@pytest.mark.parametrize("text", ["", "train:\n", "# only a comment\n"])
def test_empty_files_and_sections_change_nothing(text: str) -> None:
    assert load_settings(config=write(text)).settings == load_settings().settings


def test_files_that_cannot_be_read() -> None:
    Path("folder.yaml").mkdir()
    Path("picture.yaml").write_bytes(b"\x89PNG")
    said = "{} cannot be read as a settings file: {}."
    assert message(config=Path("gone.yaml")) == said.format("gone.yaml", "No such file or directory")
    assert message(task="gone.yaml") == said.format("gone.yaml", "No such file or directory")
    assert message(config=Path("folder.yaml")) == said.format("folder.yaml", "Is a directory")
    assert message(config=Path("picture.yaml")) == said.format("picture.yaml", "it is not text")


def test_saved_settings_come_back_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = load_settings("tpami", overrides=["train.clip_norm=0.5", "data.file=some/data.json", "seed=9"])
    path = write(saved_file(resolved, {"voco": "1", "torch": "2"}), "settings.yaml")
    monkeypatch.setenv("VOCO_SEED", "10")  # a run is what it was, whatever today's environment says
    assert read_saved(path) == resolved.settings
    # As a settings file it is above the environment and the recipe, and can be changed by a flag.
    again = load_settings(config=path, flags={"seed": 11})
    assert again.settings == resolved.settings.model_copy(update={"seed": 11})
    assert again.sources["train.clip_norm"] == "settings.yaml"


def test_errors_in_saved_settings_have_the_lines_of_the_file() -> None:
    path = write("settings:\n  train:\n    steps: x\nsources: {}\nversions: {}\n", "settings.yaml")
    with pytest.raises(UsageError, match=r"settings\.yaml:3: train\.steps"):
        read_saved(path)


def test_every_field_of_every_section_is_described() -> None:
    for name, info in Settings.model_fields.items():
        assert info.description, name
    assert [key for key, description in field_descriptions() if not description] == []
    assert [key for key, _ in field_descriptions()] == [key for key, _ in leaves(Settings())]


def test_a_rule_within_a_section_is_told_with_its_place() -> None:
    path = write("seed: 1\ntask:\n  classes:\n    - {name: a, values: 1}\n    - {name: a, values: 2}\n", "own.yaml")
    with pytest.raises(UsageError, match=r"^own\.yaml:2: the classes have the name 'a' more than once\.$"):
        load_settings(task=str(path))
