"""A study in a report, finished and not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.hostile_files import DEEP
from tests.report.made_runs import study_folder
from voco_cli.document.blocks import Bullets, PageSection, Picture, Sentence, Table
from voco_cli.errors import DataError, UsageError
from voco_cli.report.study import study_section


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = study_folder(tmp_path_factory.mktemp("study"))
    return folder, json.loads((folder / "study.json").read_text())


def copy(made: tuple[Path, dict[str, Any]], folder: Path, **changed: Any) -> Path:
    """The same study with other contents; without its picture."""
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({**made[1], **changed}))
    return folder


def tables(section: PageSection) -> dict[str, Table]:
    return {one.anchor: one for part in section.parts for one in part.blocks if isinstance(one, Table)}


def test_all_of_a_study(made: tuple[Path, dict[str, Any]]) -> None:
    section = study_section("s", made[0], "study")
    assert (section.status, section.tone) == ("done", "good")
    follows = section.parts[0].blocks
    assert isinstance(follows[0], Bullets)
    assert list(follows[0].lines) == made[1]["conclusions"]
    assert section.lead == made[1]["conclusions"][-1]
    assert isinstance(follows[1], Picture)
    found = tables(section)
    rows = [[cell.text for cell in row.cells[:4]] for row in found["sizes"].rows]
    assert [row[:3] for row in rows] == [
        ["5", "none", "2"],
        ["5", "voco", "2"],
        ["10", "none", "2"],
        ["10", "voco", "2"],
    ]
    assert rows[0][3].startswith("0.500 ± 0.000")
    assert rows[1][3].startswith("0.600 ± 0.000")
    assert [row.cells[0].text for row in found["structures"].rows] == ["liver", "spleen"]
    assert [cell.text for cell in found["seeds"].rows[1].cells] == ["5", "voco", "0.600", "0.600"]
    assert len(found["table"].rows) == 8
    assert found["table"].rows[0].cells[4].order == pytest.approx(0.5)
    (statements,) = (part.blocks[0] for part in section.parts if part.title == "How to read this")
    assert isinstance(statements, Bullets)
    assert list(statements.lines) == made[1]["statements"]


def test_several_arms_are_led_by_all_of_them_with_the_most_cases(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    pattern = next(one for one in made[1]["differences"] if one["labelled"] == 10)
    shown = {"low": 0.01, "high": 0.03, "p_holm": 0.01}
    arms = {"a": {"low": -0.01}, "b": shown, "c": {**shown, "low": -0.03, "high": -0.01}, "d": {**shown, "p_holm": 0.2}}
    given = [{**pattern, "arm": arm, "seeds": [0, 1], "difference": 0.1, **said} for arm, said in arms.items()]
    section = study_section("s", copy(made, tmp_path / "several", differences=given), "study")
    assert section.lead == "10 labelled cases, beside none: no difference shown: a, d; higher: b; lower: c."
    assert section.result == section.lead


def test_runs_that_failed_and_that_wait(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    waiting = [{**run, "status": "waiting"} for run in made[1]["runs"][:2]] + made[1]["runs"][2:]
    section = study_section("s", copy(made, tmp_path / "a", runs=waiting), "study")
    assert (section.status, section.tone) == ("2 of 8 runs not finished", "warning")
    failed = [{**made[1]["runs"][0], "status": "failed", "reason": "The loss became nan."}, *made[1]["runs"][1:]]
    section = study_section("s", copy(made, tmp_path / "b", runs=failed), "study")
    assert (section.status, section.tone) == ("1 of 8 runs failed", "bad")
    assert "The loss became nan." in {cell.text for row in tables(section)["table"].rows for cell in row.cells}
    assert Sentence("study.png is not in the folder any more.", "warning") in section.parts[0].blocks


def test_nothing_finished_yet(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    empty = {"scores": [], "differences": [], "differences_by_structure": [], "conclusions": [], "measured_on": None}
    section = study_section("s", copy(made, tmp_path / "a", **empty), "study")
    assert section.parts[0].blocks == [Sentence("No run is finished yet.", "warning")]
    assert section.lead == "No pair of runs is finished yet, so nothing follows."


def test_damage_and_other_formats_are_errors(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not of the format"):
        study_section("s", copy(made, tmp_path / "a", format="voco-study/9"), "study")
    with pytest.raises(DataError, match="damaged"):
        study_section("s", copy(made, tmp_path / "b", scores=[{"arm": "none"}]), "study")
    with pytest.raises(DataError, match="damaged"):
        study_section("s", copy(made, tmp_path / "c", metric="speed"), "study")
    changes: list[dict[str, Any]] = [{"settings": None}, {"settings": "x"}, {"arms": {}}]
    for number, changed in enumerate(changes):
        with pytest.raises(DataError, match=r"study\.json is damaged"):
            study_section("s", copy(made, tmp_path / f"changed{number}", **changed), "study")
    deep = copy(made, tmp_path / "deep")
    (deep / "study.json").write_text(DEEP)
    with pytest.raises(DataError, match=r"study\.json is damaged"):
        study_section("s", deep, "study")
