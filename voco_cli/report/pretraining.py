"""A pre-training run as a section of a report, and what several of them have in common."""

from __future__ import annotations

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

TONES: Mapping[str, Tone] = {"learned": "good", "not yet": "warning", "collapsed": "bad"}


@dataclass(frozen=True)
class FigureText:
    """What the run says of one of its held-out figures, see `voco_cli.objectives.objective.FigureInfo`."""

    label: str
    better: str = ""
    chance: float | None = None
    short: str = ""


def figure_texts(run: RunRecord) -> dict[str, FigureText]:
    """Return what objective.json says of each figure, in its order; what is damaged there is left out."""
    held = read_object(run.path / "objective.json").get("figures")
    found = {}
    for name, info in held.items() if isinstance(held, Mapping) else ():
        if isinstance(info, Mapping):
            label, better, short = (str(info.get(key) or "") for key in ("label", "better", "short"))
            found[str(name)] = FigureText(label or str(name), better, finite(info.get("chance")), short)
    return found


@dataclass(frozen=True)
class Learning:
    """What is known of a run's learning.

    Attributes:
        start, end: figures at step 0 and at the last validation; empty where there was none.
        end_step: of the last validation.
        texts: what the figures are called.
        status: learned, not yet or collapsed; empty without a verdict.
        sentence: the verdict, or why there is none.
    """

    start: Mapping[str, float]
    end: Mapping[str, float]
    end_step: int
    texts: Mapping[str, FigureText]
    status: str
    sentence: str

    @property
    def chance(self) -> dict[str, float]:
        """Return what guessing gives, where that is known."""
        return {name: text.chance for name, text in self.texts.items() if text.chance is not None}

    @property
    def tone(self) -> Tone:
        """Return how good that is."""
        return TONES.get(self.status, "plain")

    @property
    def result(self) -> str:
        """Return the status and the figures that it rests on, in a few words."""
        if not self.end:
            return "no held-out figures"
        shown = []
        for name, text in self.texts.items():
            if text.short and name in self.end:
                before = f"{self.start[name]:.2f} to " if name in self.start and self.end_step else ""
                shown.append(f"{text.short} {before}{self.end[name]:.2f}")
        return ": ".join(part for part in (self.status, ", ".join(shown)) if part) or "no verdict"


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
    return Learning(start, end, end_step, figure_texts(run), status, sentence or _without_verdict(run, end, end_step))


def learning_part(learning: Learning, *, with_verdict: bool) -> PagePart:
    """Return the table of step 0, the last validation and chance, and the verdict where it stands nowhere else."""
    blocks: list[Block] = [_table(learning)] if learning.end else []
    if with_verdict or not blocks:
        blocks.insert(0, Sentence(learning.sentence, learning.tone))
    return PagePart("learning", "Did it learn?", blocks)


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
    names = [
        *(name for name in learning.texts if name in learning.end),
        *sorted(set(learning.end) - set(learning.texts)),
    ]
    rows: list[list[Value]] = []
    for name in names:
        text = learning.texts.get(name, FigureText(name))
        values = (figures.get(name) for figures in (learning.start, learning.end, learning.chance))
        rows.append([text.label, *map(_value, values), text.better])
    marked = [n for n, name in enumerate(names) if name in learning.texts and learning.texts[name].short]
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
NAME = re.compile(r"(?:(\w+)-)?step-(\d+)\.png")
MOST_FRAMES = 12
WIDEST_FRAME_PX = 1200


def validation_pictures(run: Path) -> list[Block]:
    """Return what a run drew at its validations, a series for each objective, or the sentence that it drew nothing."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in _files(run):
        if match := NAME.fullmatch(path.name):
            found.setdefault(match[1] or "", []).append((int(match[2]), path))
    if not found:
        return [Sentence("The run drew no pictures of its validations: it has no held-out scans, or no validation.")]
    return [block for name in sorted(found) for block in _series(name, sorted(found[name]))]


def _series(objective: str, pictures: Sequence[tuple[int, Path]]) -> list[Block]:
    """Return the pictures of an objective as one series; one that cannot be read is named."""
    frames, blocks = [], list[Block]()
    for step, path in evenly(pictures, MOST_FRAMES):
        try:
            frames.append(Frame(f"step {step:,}", embed(path.read_bytes(), str(path), WIDEST_FRAME_PX, drawing=True)))
        except (OSError, DataError) as error:
            blocks.append(Sentence(error.message if isinstance(error, DataError) else f"{path}: {error}.", "warning"))
    if frames:
        part = "" if len(pictures) <= MOST_FRAMES else f" {len(frames)} of {len(pictures)} validations."
        of = f"{objective}: the" if objective else "The"
        caption = (
            f"{of} same crops of held-out scans at each validation, with what is asked and what is answered.{part}"
        )
        alt = "Held-out crops with what is asked of them and what the network answers,"
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


def _locates(run: RunRecord) -> bool:
    """Return whether crops were located among base crops, which has a picture of its own."""
    return bool(run.settings.get("objective.voco.weight", 1.0))


def pretraining_section(anchor: str, run: RunRecord) -> PageSection:
    """Return everything about one run; what is missing is said where it would stand."""
    learning = learning_of(run)
    status, tone, standing = status_of(run)
    finished = status == "done"
    labels = {name: text.label for name, text in learning.texts.items()}
    parts = [
        learning_part(learning, with_verdict=not finished),
        PagePart("validation", "What it answers on held-out scans", validation_pictures(run.path)),
        PagePart("curves", "Curves", [shown_charts(pretraining_charts(run.metrics, learning.chance, labels))]),
        *([PagePart("labels", "What it is asked: position labels", [label_picture(run)])] if _locates(run) else []),
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
    chance = [learning_of(run).chance for run in runs]
    same = chance[0] if all(one == chance[0] for one in chance) else {}
    charts = compared_charts([(run.name, run.metrics) for run in runs], same)
    parts = [
        PagePart("curves", "Curves together", [shown_charts(charts)]),
        PagePart("settings", "Settings that differ", [difference_table(runs)]),
    ]
    return PageSection("together", "Pre-training runs together", "side by side", parts)
