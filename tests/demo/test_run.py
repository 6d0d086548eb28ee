"""How a demo goes on: what is skipped, refused, and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from voco_cli.demo import run as demo_run
from voco_cli.demo.record import DemoRecord, StageTime, read_record
from voco_cli.demo.run import DemoResult, run_demo
from voco_cli.demo.size import SIZES, Size, Speed
from voco_cli.demo.stages import Stage
from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError

SPEED = Speed(0.2, 0.1, 5.0)
STAGES = ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new", "study", "compare", "report"]


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.skipped: list[str] = []
        self.sizes: list[Size] = []
        self.measured = 0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        self.measured += 1
        yield

    def chosen(self, record: DemoRecord, expected: float, before: bool) -> None:
        self.sizes.append(record.size)

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
    """Stands in for `voco`: leaves what a stage leaves, or fails at one."""

    def __init__(self, out: Path, fails_at: str | None = None, error: Exception | None = None) -> None:
        self.out, self.fails_at, self.error = out, fails_at, error

    def __call__(self, name: str, arguments: Sequence[str]) -> None:
        if name == self.fails_at:
            assert self.error is not None
            raise self.error
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


@pytest.fixture(autouse=True)
def _few_scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(folder: Path, unlabelled: int, advance: Callable[[], object]) -> None:
        for place in (folder / "unlabelled" / "x", folder / "labelled" / "dataset.json"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    monkeypatch.setattr(demo_run, "write_scans", write)
    monkeypatch.chdir(tmp_path)


def demo(
    out: str = "d", minutes: float | None = None, heard: Heard | None = None, commands: Commands | None = None
) -> DemoResult:
    return run_demo(
        Path(out), minutes, heard or Heard(), measure=lambda: SPEED, command=commands or Commands(Path(out))
    )


def test_all_stages_run_once_in_their_order_and_the_words_are_those_of_the_runs() -> None:
    heard = Heard()
    result = demo(heard=heard)
    assert heard.started == STAGES
    assert result.verdict == ("learned", "It did.")
    assert result.conclusions == ("4 labelled cases: no difference shown.",)
    assert [stage.name for stage, took in result.stages if took.done] == STAGES
    assert (Path("d") / "commands.sh").read_text().count("\nvoco ") == 7  # tasks new stands behind a test


def test_a_stopped_demo_goes_on_where_it_was_with_the_size_of_before() -> None:
    with pytest.raises(Interrupted):
        demo(minutes=5, commands=Commands(Path("d"), "study", Interrupted("stopped", "go on")))
    record = read_record(Path("d/demo.json"))
    assert record is not None
    assert not record.of("study").done
    assert record.of("tasks new").done
    heard = Heard()
    demo(heard=heard)
    assert heard.measured == 0
    assert heard.sizes == [record.size] != [SIZES[-1]]
    assert heard.skipped == ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new"]
    assert heard.started == ["study", "compare", "report"]


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


def test_other_minutes_in_the_same_folder_are_refused() -> None:
    demo(minutes=10)
    demo(minutes=10)
    with pytest.raises(UsageError, match="holds a demo of 10 minutes") as refusal:
        demo(minutes=20)
    assert refusal.value.hint is not None
    assert "one of 20" in refusal.value.hint


def test_an_unfinished_demo_is_not_gone_on_with_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study would take the encoder's other path for other weights."""
    with pytest.raises(Interrupted):
        demo(commands=Commands(Path("d"), "study", Interrupted("stopped")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=f"was started in {tmp_path} with --out d"):
        demo("../d")


def test_foreign_files_are_left_alone() -> None:
    Path("d").mkdir()
    Path("d/thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds files but no demo \(thesis.tex\)"):
        demo()
    assert [path.name for path in Path("d").iterdir()] == ["thesis.tex"]
    Path("file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        demo("file")


def test_too_few_minutes_leave_nothing_behind() -> None:
    with pytest.raises(UsageError, match=r"--minutes 0\.5 is too little"):
        demo(minutes=0.5)
    assert not Path("d").exists()


def test_too_small_a_disk_is_said_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run.shutil, "disk_usage", lambda path: SimpleNamespace(free=0.2e9))
    heard = Heard()
    with pytest.raises(ResourceError, match=r"The demo may need .* GB, and 0.2 GB are free"):
        demo(heard=heard)
    assert heard.measured == 0
    assert not Path("d").exists()


def test_a_damaged_record_is_one_sentence() -> None:
    Path("d").mkdir()
    for content in ("{", "[]", '{"format": "voco-demo/1"}', '{"format": "voco-demo/1", "minutes": 1, "speed": 3}'):
        Path("d/demo.json").write_text(content)
        with pytest.raises(DataError, match=r"demo\.json is damaged"):
            demo()
    Path("d/demo.json").write_text('{"format": "voco-demo/9"}')
    with pytest.raises(DataError, match="has the format 'voco-demo/9'"):
        demo()


def test_the_demo_itself_holds_no_tensor_library() -> None:
    """It waits beside its stages for ten minutes, and that would take 200 MB of their memory."""
    code = "import sys, voco_cli.cli.demo, voco_cli.demo.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
