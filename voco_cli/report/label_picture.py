"""The label preview of a run: grid, crops and labels of its first training scan that can be read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.errors import VocoError
from voco_cli.report.blocks import Block, Picture, Sentence
from voco_cli.report.kinds import SETTINGS
from voco_cli.report.pictures import embed
from voco_cli.report.run_record import RunRecord
from voco_cli.settings import read_saved

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
    """The picture of one scan.

    Raises:
        DataError: the scan cannot be read or preprocessed.
        UsageError: the saved settings do not fit this version, or the grid does not fit the scan.
    """
    from voco_cli.figures.labels.crops import label_scene, preview_scan
    from voco_cli.figures.labels.preview import draw_label_preview

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
