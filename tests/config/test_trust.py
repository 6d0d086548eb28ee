"""Only somebody who types --trust-pickle lets a file of weights run its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from voco_cli.config import load_settings, read_saved
from voco_cli.config.load import commented_file, saved_file
from voco_cli.errors import UsageError

FLAG = {"model.trust_pickle": True}


def refused(**sources: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_settings(**sources)
    return caught.value


@pytest.mark.parametrize(
    "written", ["model:\n  trust_pickle: true\n", "model.trust_pickle: 1\n", "model: {trust_pickle: 'yes'}\n"]
)
@pytest.mark.parametrize("kind", ["config", "recipe", "task"])
def test_a_file_that_trusts_itself_is_refused_by_name_and_line(kind: str, written: str, tmp_path: Path) -> None:
    path = tmp_path / "sent.yaml"
    path.write_text(written)
    error = refused(**{kind: path if kind == "config" else str(path)})
    line = 2 if "\n  " in written else 1
    assert error.message == f"{path}:{line}: model.trust_pickle counts only where --trust-pickle is typed."
    assert error.hint == "take it out, and give --trust-pickle if you trust whoever made the weights"


def test_it_is_refused_even_where_the_flag_is_typed_as_well(tmp_path: Path) -> None:
    path = tmp_path / "sent.yaml"
    path.write_text("model: {trust_pickle: true}\n")
    assert "sent.yaml:1" in refused(config=path, flags=FLAG).message


def test_a_file_called_as_the_command_line_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("command line").write_text("model: {trust_pickle: true}\n")
    assert "counts only" in refused(config=Path("command line")).message


def test_neither_the_environment_nor_set_gives_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(overrides=["model.trust_pickle=true"]).message.startswith("--set: model.trust_pickle counts only")
    monkeypatch.setenv("VOCO_MODEL__TRUST_PICKLE", "true")
    assert refused().message.startswith("environment: model.trust_pickle counts only")


def test_the_flag_counts_and_no_trust_may_be_written_down(tmp_path: Path) -> None:
    assert load_settings(flags=FLAG).settings.model.trust_pickle is True
    path = tmp_path / "careful.yaml"
    path.write_text("model: {trust_pickle: false}\n")
    assert load_settings(config=path).settings.model.trust_pickle is False


def test_trust_is_never_saved(tmp_path: Path) -> None:
    """A run folder that is sent to somebody else must not carry it, nor the file that a user starts from."""
    trusting = load_settings("debug", flags=FLAG)
    saved = tmp_path / "settings.yaml"
    saved.write_text(saved_file(trusting, {"voco": "0"}))
    assert "trust_pickle" not in yaml.safe_load(saved.read_text())["settings"]["model"]
    assert "trust_pickle" not in commented_file(trusting)
    assert read_saved(saved).model.trust_pickle is False
    assert load_settings(config=saved).settings.model.trust_pickle is False


def test_saved_settings_that_somebody_has_changed_are_refused(tmp_path: Path) -> None:
    saved = tmp_path / "settings.yaml"
    content = yaml.safe_load(saved_file(load_settings("debug"), {"voco": "0"}))
    content["settings"]["model"]["trust_pickle"] = True
    saved.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=r"model\.trust_pickle counts only where --trust-pickle is typed"):
        read_saved(saved)
