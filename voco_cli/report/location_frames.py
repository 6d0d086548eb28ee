"""The panels of logits against labels that a pre-training draws at each validation, as a series to leaf through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from voco_cli.errors import DataError
from voco_cli.report.blocks import Block, Frame, Sentence, Series
from voco_cli.report.pictures import embed

FOLDER = Path("figures") / "location"
NAME = re.compile(r"step-(\d+)\.png")
MOST_FRAMES = 12
WIDEST_PX = 1200


def location_frames(anchor: str, run: Path) -> list[Block]:
    """The panels of a run, or the sentence that there are none; one that cannot be read is named."""
    found = sorted((int(match[1]), path) for path in _files(run) if (match := NAME.fullmatch(path.name)))
    if not found:
        return [
            Sentence("The run drew no panels of logits against labels: it has no held-out scans, or no validation.")
        ]
    frames, blocks = [], list[Block]()
    for step, path in evenly(found, MOST_FRAMES):
        try:
            frames.append(Frame(f"step {step:,}", embed(path.read_bytes(), str(path), WIDEST_PX, drawing=True)))
        except (OSError, DataError) as error:
            blocks.append(Sentence(error.message if isinstance(error, DataError) else f"{path}: {error}.", "warning"))
    if frames:
        part = "" if len(found) <= MOST_FRAMES else f" {len(frames)} of {len(found)} validations."
        caption = (
            f"The same crops of held-out scans at each validation: where they lie, and where they are believed.{part}"
        )
        alt = "Held-out crops with their labels over the base grid and the logits of the network,"
        blocks.insert(0, Series(anchor, "Validation", alt, tuple(frames), len(frames) - 1, caption))
    return blocks


def evenly(items: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most so many of a series, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _files(run: Path) -> list[Path]:
    folder = run / FOLDER
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
