"""A study whose networks are known beforehand: a stand-in for fine-tuning that writes the evaluation it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.evaluate.made_results import made_table
from voco_cli.config import Resolved, Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.study.plan import PlannedRun, StudyPlan, make_plan
from voco_cli.study.record import StudyRun
from voco_cli.tasks.find_data import TaskData
from voco_cli.training.callbacks import Callback

PRESET = """
task:
  name: tiny
  classes: [{name: liver, values: 1}, {name: spleen, values: 2}]
  split: seeded
preprocess: {spacing_mm: [2, 2, 2]}
model: {backbone: unet, feature_size: 2, levels: 3}
evaluate: {resamples: 200}
"""
CASES = 8
Score = Callable[[Settings], float]


@dataclass(frozen=True)
class Result:
    """What a study reads of a fine-tuning run."""

    evaluation: Path | None
    evaluated_split: str | None = "test"
    chosen_step: int = 10
    how_chosen: str = "the last step"


@dataclass
class StandIn:
    """Fine-tuning as a formula: Dice of a run by its settings, a little different for each case."""

    score: Score
    called: list[str] = field(default_factory=list)

    def __call__(self, resolved: Resolved) -> Result:
        settings = resolved.settings
        arm, run = settings.run.dir.parts[-2:]
        self.called.append(f"{arm}/{run}")
        return Result(write_scores(settings.run.dir / "evaluation" / "test", self.score(settings)))


@dataclass
class Heard(Callback):
    """What a watcher was told."""

    lines: list[str] = field(default_factory=list)

    def planned(self, total: int, finished: int, data: TaskData) -> None:
        self.lines.append(f"{finished} of {total} on {data.split_words}")

    def run_started(self, run: PlannedRun, number: int, total: int) -> None:
        self.lines.append(f"{number} of {total}: {run.title}")

    def run_ended(self, record: StudyRun, left_s: float) -> None:
        self.lines.append(record.status)


def write_scores(folder: Path, score: float, cases: int = CASES) -> Path:
    """An evaluation whose mean over cases and classes is ``score``: classes 0.05 about it, cases up to 0.07."""
    steps = np.linspace(-0.07, 0.07, cases)[:, None]
    table = made_table(score + steps + np.array([[-0.05, 0.05]]))
    options = EvaluationOptions(resamples=100)
    Evaluation(table, options).write(folder, "predictions", "labels")
    return folder


def weights_file(folder: Path, name: str = "voco.safetensors", content: bytes = b"weights") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def plan(
    folder: Path, weights: Sequence[str], sizes: Sequence[int] = (5, 10), seeds: int = 2, *overrides: str
) -> StudyPlan:
    """A plan in ``folder/study`` with the preset beside it."""
    preset = folder / "tiny.yaml"
    preset.write_text(PRESET)
    return make_plan(folder / "study", str(preset), weights, sizes, seeds, overrides=overrides)


def find(training: int = 20) -> Callable[[Settings], TaskData]:
    """As many training cases as told and ``CASES`` to test on; the files need not be there."""

    def entry(name: str) -> Entry:
        return Entry(image=Path(f"/scans/{name}.nii.gz"), label=Path(f"/labels/{name}.nii.gz"), patient=name, case=name)

    def found(settings: Settings) -> TaskData:
        train, test = ([entry(f"{kind}{i}") for i in range(n)] for kind, n in (("train", training), ("case", CASES)))
        return TaskData(Datalist(name="tiny", training=tuple(train), test=tuple(test)), "a folder", "a split")

    return found
