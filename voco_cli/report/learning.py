"""Whether a pre-training learned: the verdict that was written with its weights, and its figures against chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voco_cli.report.blocks import Block, Cell, Column, Row, Sentence, Table, Tone
from voco_cli.report.chart import ROUNDING, short
from voco_cli.report.held import finite
from voco_cli.report.run_record import RunRecord, read_object
from voco_cli.report.sections import Part

FIGURES = {
    "rank": ("rank of the true base crop", "lower"),
    "cross_rank": ("the same among base crops of another scan", "lower"),
    "top1": ("top-1: the true base crop comes first", "higher"),
    "correlation": ("correlation of logits and labels", "higher"),
    "label_error": ("mean error of the logits", "lower, but logits of 0 score well"),
    "effective_rank": ("effective rank of the base embeddings", "falls while it learns; a few is collapse"),
    "base_cosine": ("mean cosine of two base crops of a scan", "lower"),
    "dead_true": ("true base crop without a gradient", "lower"),
    "teacher_distance": ("distance of student and teacher", ""),
}
"""Name of a figure to what people call it, and which way is better."""
TONES: Mapping[str, Tone] = {"learned": "good", "not yet": "warning", "collapsed": "bad"}


@dataclass(frozen=True)
class Learning:
    """What is known of a run's learning.

    Attributes:
        start, end: figures at step 0 and at the last validation; empty where there was none.
        end_step: of the last validation.
        chance: what guessing gives, where that is known.
        status: learned, not yet or collapsed; empty without a verdict.
        sentence: the verdict, or why there is none.
    """

    start: Mapping[str, float]
    end: Mapping[str, float]
    end_step: int
    chance: Mapping[str, float]
    status: str
    sentence: str

    @property
    def tone(self) -> Tone:
        """How good that is."""
        return TONES.get(self.status, "plain")

    @property
    def result(self) -> str:
        """The same in a few words."""
        if not self.end:
            return "no held-out figures"
        before = f"{self.start['rank']:.2f} to " if "rank" in self.start and self.end_step else ""
        rank = f"rank {before}{self.end['rank']:.2f}" if "rank" in self.end else ""
        found = f"correlation {self.end['correlation']:.2f}" if "correlation" in self.end else ""
        words = ", ".join(part for part in (rank, found) if part)
        return ": ".join(part for part in (self.status, words) if part) or "no rank"


def learning_of(run: RunRecord) -> Learning:
    """What the run has written of it: in encoder.json, and in metrics.jsonl where that is older or not there."""
    about = read_object(run.path / "weights" / "encoder.json")
    validated = run.metrics.validated
    start = run.metrics.figures(0) or _figures(about.get("start_figures"))
    end_step = validated[-1] if validated else 0
    end = run.metrics.figures(end_step)
    if not end:
        end, step = _figures(about.get("figures")), about.get("step")
        end_step = step if isinstance(step, int) else 0
    verdict = about.get("verdict")
    status, sentence = "", ""
    exported = about.get("step")
    # The weights' verdict is of the last validation before them; one that came later has none yet.
    if isinstance(verdict, Mapping) and isinstance(exported, int) and exported >= end_step:
        status, sentence = str(verdict.get("status", "")), str(verdict.get("sentence", ""))
    return Learning(start, end, end_step, chance_of(run), status, sentence or _without_verdict(run, end, end_step))


def learning_part(prefix: str, learning: Learning, *, with_verdict: bool) -> Part:
    """The table of step 0, the last validation and chance, and the verdict where it stands nowhere else."""
    blocks: list[Block] = [_table(f"{prefix}-figures", learning)] if learning.end else []
    if with_verdict or not blocks:
        blocks.insert(0, Sentence(learning.sentence, learning.tone))
    return Part(prefix, "Did it learn?", tuple(blocks))


def chance_of(run: RunRecord) -> dict[str, float]:
    """What guessing among the base crops gives; nothing where the grid is not known."""
    grid = run.settings.get("crops.grid")
    if not isinstance(grid, list) or not grid or not all(isinstance(edge, int) and edge > 0 for edge in grid):
        return {}
    bases = math.prod(grid)
    return {"rank": (bases - 1) / 2, "cross_rank": (bases - 1) / 2, "top1": 1 / bases, "correlation": 0.0}


def _without_verdict(run: RunRecord, end: Mapping[str, float], end_step: int) -> str:
    if end and end_step:
        return f"No verdict was written; the figures are those of the last validation, at step {end_step:,}."
    if end:
        return "Only step 0 was validated so far, which says nothing of learning."
    if run.datalist is not None and not run.datalist.validation:
        return "No scans were held out, so nothing is known of its learning: the loss alone does not tell."
    return "No validation has been written yet, so nothing is known of its learning."


def _table(anchor: str, learning: Learning) -> Table:
    columns = (
        Column("figure"),
        Column("step 0", True),
        Column(f"step {learning.end_step:,}", True),
        Column("chance", True),
        Column("better"),
    )
    rows = [
        Row(
            (
                Cell(FIGURES[name][0] if name in FIGURES else name),
                *(_value(figures.get(name)) for figures in (learning.start, learning.end, learning.chance)),
                Cell(FIGURES[name][1] if name in FIGURES else ""),
            ),
            marked=name in ("rank", "correlation"),
        )
        for name in sorted(learning.end, key=lambda name: list(FIGURES).index(name) if name in FIGURES else 99)
    ]
    return Table(anchor, "Held-out scans, always the same crops", columns, tuple(rows))


def _value(value: float | None) -> Cell:
    if value is None:
        return Cell("-")
    shown = 0.0 if -ROUNDING < value < 0 else value
    return Cell(short(shown), shown)


def _figures(held: Any) -> dict[str, float]:
    """Numbers by name."""
    if not isinstance(held, Mapping):
        return {}
    found = ((str(name), finite(value)) for name, value in held.items())
    return {name: value for name, value in found if value is not None}
