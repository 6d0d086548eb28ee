"""The best, the median and the worst case of an evaluation as slices with label and prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from voco_cli.config import Settings
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.document.blocks import Block, Layered, LegendEntry, Sentence, Slices, SlicesRow
from voco_cli.errors import DataError, VocoError
from voco_cli.evaluate.read_results import Stored
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.figures.case import window_words
from voco_cli.figures.slices import SIDES, ShownStructure, draw_case_slices, shown_structures
from voco_cli.report.run_record import RunRecord
from voco_cli.report.shared_parts import webp_source

MOST_SLICES = 24


def case_pictures(run: RunRecord, settings: Settings, stored: Stored) -> list[Block]:
    """Return up to three cases side by side; one whose files are gone is named with the reason."""
    split = stored.folder.name
    entries = {entry.name: entry for entry in getattr(run.datalist, split, ())}
    structures = shown_structures((one.name, one.values) for one in settings.task.classes)
    drawn, faults = [], []
    for title, case, mean in telling_cases(stored.table):
        note = f"mean Dice {mean:.3f}"
        try:
            scans = _scans(run.path, settings, split, case, entries.get(case))
            drawn.append(_slices(title, note, case, scans, structures, settings))
        except VocoError as error:
            faults.append(Sentence(f"{title}, {case} ({note}), cannot be shown. {error.message}", "warning"))
    if not drawn and not faults:
        return [Sentence("No case has a Dice, so there is no best and no worst one to show.")]
    legend = tuple(LegendEntry(one.name, one.colour) for one in structures)
    return [*([SlicesRow(legend, tuple(drawn))] if drawn else []), *faults]


def telling_cases(table: ResultTable) -> list[tuple[str, str, float]]:
    """Return worst, median and best case by mean Dice over the classes: title, name, mean. Each case once.

    Of an even number of cases the median is the lower of the two in the middle.
    """
    found = [
        (mean, case) for mean, case in zip(table.case_means("dice"), table.cases, strict=True) if not math.isnan(mean)
    ]
    if not found:
        return []
    found.sort()
    places = {len(found) - 1: "Best case", (len(found) - 1) // 2: "Median case", 0: "Worst case"}
    if len(found) == 1:
        places = {0: "The only case"}
    return [(title, found[place][1], found[place][0]) for place, title in sorted(places.items(), reverse=True)]


def _scans(
    run: Path, settings: Settings, split: str, case: str, entry: Entry | None
) -> tuple[Scan, Scan | None, Scan | None]:
    """Read image, label map and prediction of a case; a prediction that was removed is None.

    Raises:
        DataError: the image or the label map is gone or damaged.
    """
    if entry is None:
        raise DataError(f"data.json lists no such case in its {split} split.")
    predicted = run / "predictions" / split / f"{case}{settings.predict.suffix}"
    label = read_scan(entry.label) if entry.label is not None else None
    return read_entry(entry), label, read_scan(predicted) if predicted.is_file() else None


def _slices(
    title: str,
    note: str,
    case: str,
    scans: tuple[Scan, Scan | None, Scan | None],
    structures: Sequence[ShownStructure],
    settings: Settings,
) -> Slices:
    image, label, prediction = scans
    low, high = window_of(image, settings)
    drawn = draw_case_slices(image, label, prediction, structures, (low, high), MOST_SLICES)
    lacking = "" if prediction is not None else "; its prediction was removed"
    return Slices(
        title=title,
        note=f"{note}; window {window_words(low, high)}{lacking}".replace("-", "\N{MINUS SIGN}"),
        case=case,
        width_px=drawn.width_px,
        height_px=drawn.height_px,
        sides=SIDES,
        slices=tuple(
            Layered(one.index, webp_source(one.image), _source(one.label), _source(one.prediction))
            for one in drawn.slices
        ),
        shown=len(drawn.slices) // 2,
        has_label=label is not None,
        has_prediction=prediction is not None,
    )


def window_of(image: Scan, settings: Settings) -> tuple[float, float]:
    """Return the intensities that are black and white: the settings' window, or their percentiles of this scan."""
    if settings.preprocess.intensity == "window":
        return settings.preprocess.window_hu
    low, high = np.percentile(image.array_zyx, settings.preprocess.percentiles)
    return float(low), float(high) if high > low else float(low) + 1.0


def _source(content: bytes | None) -> str | None:
    return None if content is None else webp_source(content)
