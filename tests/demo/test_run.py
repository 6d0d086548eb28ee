"""How a demo goes on: what is skipped, refused, and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from voco_cli.demo import run
from voco_cli.demo.run import DemoResult, StageTime, run_demo
from voco_cli.demo.stages import Stage
from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError, VocoError

STAGES = ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new", "study", "compare", "report"]


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.skipped: list[str] = []

    def generating(self, total: int) -> AbstractContextManager[Callable[[], object]]:
        return nullcontext(lambda: None)

    def stage_started(self, stage: Stage, number: int, total: int) -> None:
        assert STAGES[number - 1] == stage.name
        self.started.append(stage.name)

    def stage_skipped(self, stage: Stage, number: int, total: int) -> None:
        self.skipped.append(stage.name)

    def stage_ended(self, stage: Stage, took: StageTime) -> None:
        assert took.done


class Commands:
    """Stands in for `voco`: leaves what a stage leaves, or ends with a code, or is interrupted."""

    def __init__(self, out: Path, fails_at: str | None = None, code: int | None = None) -> None:
        self.out, self.fails_at, self.code = out, fails_at, code

    def __call__(self, arguments: Sequence[str]) -> int:
        name = "tasks new" if arguments[0] == "tasks" else arguments[0]
        if name == self.fails_at:
            if self.code is None:
                raise KeyboardInterrupt
            return self.code
        leaves = {
            "index": ("data.json", {}),
            "preview-labels": ("preview.png", {}),
            "pretrain": (
                "runs/pretrain/weights/encoder.json",
                {"verdict": {"status": "learned", "sentence": "It did."}},
            ),
            "locate": ("location.png", {}),
            "tasks new": ("task.yaml", {}),
            "study": ("runs/study/study.json", {"conclusions": ["4 labelled cases: no difference shown."]}),
            "compare": ("comparison/comparison.json", {}),
            "report": ("report.html", {}),
        }
        place, content = leaves[name]
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        (self.out / place).write_text(json.dumps(content))
        return 0


@pytest.fixture(autouse=True)
def _few_scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(folder: Path, unlabelled: int, advance: Callable[[], object]) -> None:
        for place in (folder / "unlabelled" / "x", folder / "labelled" / "dataset.json"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    monkeypatch.setattr(run, "write_scans", write)
    monkeypatch.chdir(tmp_path)


def demo(out: str = "d", heard: Heard | None = None, commands: Commands | None = None) -> DemoResult:
    return run_demo(Path(out), heard or Heard(), commands or Commands(Path(out)))


def times() -> dict[str, StageTime]:
    """What demo.json says of each stage."""
    stages = json.loads(Path("d/demo.json").read_text())["stages"]
    return {name: StageTime(**one) for name, one in stages.items()}


def test_all_stages_run_once_in_their_order_and_the_words_are_those_of_the_runs() -> None:
    heard = Heard()
    result = demo(heard=heard)
    assert heard.started == STAGES
    assert result.verdict == ("learned", "It did.")
    assert result.conclusions == ("4 labelled cases: no difference shown.",)
    assert [stage.name for stage, took in result.stages if took.done] == STAGES
    assert (Path("d") / "commands.sh").read_text().count("\nvoco ") == 7  # tasks new stands behind a test


@pytest.mark.parametrize("code", [75, 130, None])
def test_a_stopped_demo_goes_on_where_it_was(code: int | None) -> None:
    with pytest.raises(Interrupted, match="stopped in its stage study") as stopped:
        demo(commands=Commands(Path("d"), "study", code))
    assert stopped.value.exit_code == 75
    assert not times()["study"].done
    assert times()["tasks new"].done
    heard = Heard()
    demo(heard=heard)
    assert heard.skipped == ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new"]
    assert heard.started == ["study", "compare", "report"]


def test_a_demo_that_is_killed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written at the end of the stage that is killed; those before it are done."""

    write = run._write_times

    class Killed(BaseException):
        """Stands for the end of the process."""

    def kill(arguments: Sequence[str]) -> int:
        if arguments[0] == "pretrain":
            monkeypatch.setattr(run, "_write_times", lambda *of: None)
            raise Killed
        return Commands(Path("d"))(arguments)

    with pytest.raises(Killed):
        run_demo(Path("d"), Heard(), kill)
    monkeypatch.setattr(run, "_write_times", write)
    assert [name for name, took in times().items() if took.done] == ["scans", "index", "preview-labels"]


def test_a_stage_that_fails_ends_the_demo_with_its_code() -> None:
    with pytest.raises(VocoError, match="The stage pretrain ended with exit code 4") as failed:
        demo(commands=Commands(Path("d"), "pretrain", 4))
    assert failed.value.exit_code == 4
    assert demo().stages[3][1].done


@pytest.mark.parametrize("code", [75, 130, 143])
def test_a_stage_that_is_stopped_stops_a_demo_that_goes_on(code: int) -> None:
    with pytest.raises(Interrupted, match="The demo was stopped in its stage preview-labels"):
        demo(commands=Commands(Path("d"), "preview-labels", code))


def test_a_finished_demo_is_told_again_and_does_nothing() -> None:
    first = demo()
    heard = Heard()
    again = demo(heard=heard)
    assert (heard.started, heard.skipped) == ([], STAGES)
    assert again.stages == first.stages


def test_a_stage_whose_result_is_gone_runs_again() -> None:
    demo()
    Path("d/preview.png").unlink()
    heard = Heard()
    demo(heard=heard)
    assert heard.started == ["preview-labels"]


def test_settings_that_a_reader_has_changed_stay() -> None:
    demo()
    Path("d/study.yaml").write_text("train: {lr: 0.01}")
    demo()
    assert Path("d/study.yaml").read_text() == "train: {lr: 0.01}"


def test_foreign_files_are_left_alone() -> None:
    Path("d").mkdir()
    Path("d/thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds files but no demo \(thesis.tex\)"):
        demo()
    assert [path.name for path in Path("d").iterdir()] == ["thesis.tex"]
    Path("file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        demo("file")


def test_too_small_a_disk_is_said_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: SimpleNamespace(free=0.2e9))
    with pytest.raises(ResourceError, match=r"The demo may need .* GB, and 0.2 GB are free"):
        demo()
    assert not Path("d").exists()


def test_a_damaged_record_is_one_sentence() -> None:
    Path("d").mkdir()
    for content in ("{", "[]", '{"format": "voco-demo/2"}', '{"format": "voco-demo/2", "stages": {"scans": 3}}'):
        Path("d/demo.json").write_text(content)
        with pytest.raises(DataError, match=r"demo\.json is damaged"):
            demo()
    Path("d/demo.json").write_text('{"format": "voco-demo/9"}')
    with pytest.raises(DataError, match="has the format 'voco-demo/9'"):
        demo()
