"""A pre-training run as a section of a report, and what several of them have in common."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.config import read_saved
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.document.blocks import (
    Block,
    Cell,
    Column,
    Frame,
    PagePart,
    PageSection,
    Picture,
    PictureSeries,
    Sentence,
    Table,
    Tone,
    Value,
)
from voco_cli.document.charts import ROUNDING, short
from voco_cli.errors import DataError, VocoError
from voco_cli.report.curves import compared_charts, finite, pretraining_charts, shown_charts
from voco_cli.report.run_record import SETTINGS, RunRecord, ran_with, read_object, status_of, when_of
from voco_cli.report.shared_parts import data_part, difference_table, embed, settings_part, starting_weights

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
        """Return how good that is."""
        return TONES.get(self.status, "plain")

    @property
    def result(self) -> str:
        """Return the same in a few words."""
        if not self.end:
            return "no held-out figures"
        before = f"{self.start['rank']:.2f} to " if "rank" in self.start and self.end_step else ""
        rank = f"rank {before}{self.end['rank']:.2f}" if "rank" in self.end else ""
        found = f"correlation {self.end['correlation']:.2f}" if "correlation" in self.end else ""
        words = ", ".join(part for part in (rank, found) if part)
        return ": ".join(part for part in (self.status, words) if part) or "no rank"


def learning_of(run: RunRecord) -> Learning:
    """Return what the run has written of its learning: in metrics.jsonl, or else in encoder.json."""
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


def learning_part(learning: Learning, *, with_verdict: bool) -> PagePart:
    """Return the table of step 0, the last validation and chance, and the verdict where it stands nowhere else."""
    blocks: list[Block] = [_table(learning)] if learning.end else []
    if with_verdict or not blocks:
        blocks.insert(0, Sentence(learning.sentence, learning.tone))
    return PagePart("learning", "Did it learn?", blocks)


def chance_of(run: RunRecord) -> dict[str, float]:
    """Return what guessing among the base crops gives; nothing where the grid is not known."""
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


def _table(learning: Learning) -> Table:
    columns = [
        Column("figure"),
        *(Column(name, True) for name in ("step 0", f"step {learning.end_step:,}", "chance")),
        Column("better"),
    ]
    names = sorted(learning.end, key=lambda name: list(FIGURES).index(name) if name in FIGURES else len(FIGURES))
    rows: list[list[Value]] = []
    for name in names:
        title, better = FIGURES.get(name, (name, ""))
        values = (figures.get(name) for figures in (learning.start, learning.end, learning.chance))
        rows.append([title, *map(_value, values), better])
    marked = [n for n, name in enumerate(names) if name in ("rank", "correlation")]
    return Table.of("Held-out scans, always the same crops", columns, rows, marked=marked, anchor="figures")


def _value(value: float | None) -> Cell | None:
    """Return a cell with four digits; what rounding leaves below 0 is 0."""
    if value is None:
        return None
    shown = 0.0 if -ROUNDING < value < 0 else value
    return Cell(short(shown), shown)


def _figures(held: Any) -> dict[str, float]:
    """Return numbers by name."""
    if not isinstance(held, Mapping):
        return {}
    found = ((str(name), finite(value)) for name, value in held.items())
    return {name: value for name, value in found if value is not None}


MOST_TRIED = 3
WIDEST_PX = 1400


def label_picture(run: RunRecord) -> Block:
    """Draw it, or say in a sentence why it cannot be drawn."""
    entries = run.datalist.training if run.datalist is not None else ()
    if not entries:
        return Sentence("There is no list of training scans, so no labels can be drawn.", "warning")
    faults = []
    for entry in entries[:MOST_TRIED]:
        try:
            return _draw(run, entry)
        except VocoError as error:
            faults.append(error.message)
    if len(faults) == 1:
        return Sentence(f"The training scan cannot be drawn with its labels. {faults[0]}", "warning")
    return Sentence(
        f"None of the first {len(faults)} training scans can be drawn with its labels. {faults[0]}", "warning"
    )


def _draw(run: RunRecord, entry: Entry) -> Picture:
    """Draw the picture of one scan.

    Raises:
        DataError: the scan cannot be read or preprocessed.
        UsageError: the saved settings do not fit this version, or the grid does not fit the scan.
    """
    from voco_cli.figures.crops import label_scene, preview_scan
    from voco_cli.figures.position_labels import draw_label_preview

    settings = read_saved(run.path / SETTINGS)
    scene = label_scene(preview_scan(read_entry(entry), settings))
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "labels.png"
        draw_label_preview(scene, drawn)
        picture = embed(drawn.read_bytes(), drawn.name, WIDEST_PX)
    alt = (
        f"Position labels of {entry.name}: the scan with the grid of base crops, {len(scene.starts_S3)} random crops, "
        "and for each the share of its area that lies in every base crop."
    )
    caption = (
        f"{entry.name}: what the network has to tell of a random crop is in which base crops it lies, and how much."
    )
    return Picture(picture, alt, caption)


FOLDER = Path("figures") / "validation"
NAME = re.compile(r"step-(\d+)\.png")
MOST_FRAMES = 12
WIDEST_FRAME_PX = 1200


def location_frames(run: Path) -> list[Block]:
    """Return the panels of a run, or the sentence that there are none; one that cannot be read is named."""
    found = sorted((int(match[1]), path) for path in _files(run) if (match := NAME.fullmatch(path.name)))
    if not found:
        return [
            Sentence("The run drew no panels of logits against labels: it has no held-out scans, or no validation.")
        ]
    frames, blocks = [], list[Block]()
    for step, path in evenly(found, MOST_FRAMES):
        try:
            frames.append(Frame(f"step {step:,}", embed(path.read_bytes(), str(path), WIDEST_FRAME_PX, drawing=True)))
        except (OSError, DataError) as error:
            blocks.append(Sentence(error.message if isinstance(error, DataError) else f"{path}: {error}.", "warning"))
    if frames:
        part = "" if len(found) <= MOST_FRAMES else f" {len(frames)} of {len(found)} validations."
        caption = (
            f"The same crops of held-out scans at each validation: where they lie, and where they are believed.{part}"
        )
        alt = "Held-out crops with their labels over the base grid and the logits of the network,"
        blocks.insert(0, PictureSeries("Validation", alt, tuple(frames), len(frames) - 1, caption))
    return blocks


def evenly(items: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """Return at most so many of a series, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _files(run: Path) -> list[Path]:
    folder = run / FOLDER
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def pretraining_section(anchor: str, run: RunRecord) -> PageSection:
    """Return everything about one run; what is missing is said where it would stand."""
    learning = learning_of(run)
    status, tone, standing = status_of(run)
    finished = status == "done"
    parts = [
        learning_part(learning, with_verdict=not finished),
        PagePart("location", "Learning to locate", location_frames(run.path)),
        PagePart("curves", "Curves", [shown_charts(pretraining_charts(run.metrics, learning.chance))]),
        PagePart("labels", "What it is asked: position labels", [label_picture(run)]),
        data_part(run),
        settings_part(run),
        PagePart("about", "Start, machine and versions", [standing, starting_weights(run), ran_with(run)]),
    ]
    return PageSection(
        anchor=anchor,
        title=run.name,
        kind="pre-training",
        parts=parts,
        status=status,
        tone=tone,
        lead=learning.sentence if finished else standing.text,
        lead_tone=learning.tone if finished else standing.tone,
        result=learning.result,
        place=str(run.path),
        when=when_of(run),
    )


def compared_section(runs: Sequence[RunRecord]) -> PageSection:
    """Return several runs side by side: their curves in the same drawings, and the settings that differ."""
    chance = [chance_of(run) for run in runs]
    same = chance[0] if all(one == chance[0] for one in chance) else {}
    charts = compared_charts([(run.name, run.metrics) for run in runs], same)
    parts = [
        PagePart("curves", "Curves together", [shown_charts(charts)]),
        PagePart("settings", "Settings that differ", [difference_table(runs)]),
    ]
    return PageSection("together", "Pre-training runs together", "side by side", parts)
