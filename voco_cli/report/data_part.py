"""Which scans a run was trained on: counts, sizes, what was skipped and why, and what its weights have seen."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import Any

from voco_cli.dataset.datalist import SPLITS, Datalist, Entry
from voco_cli.dataset.seen import seen_by
from voco_cli.dataset.statistics import summarise
from voco_cli.errors import VocoError
from voco_cli.report.blocks import Block, Cell, Column, Facts, Row, Sentence, Table
from voco_cli.report.rows import cell, text_table
from voco_cli.report.run_record import RunRecord
from voco_cli.report.sections import Part

Splits = dict[str, Sequence[Entry]]

TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
MOST_SKIPPED = 200
MOST_LOOKED_FOR = 1000
MOST_NAMED = 3
SIZES = (("shape", "size, voxels"), ("spacing_mm", "spacing, mm"), ("extent_mm", "extent, mm"))


def data_part(prefix: str, run: RunRecord) -> Part:
    """Data and splits of a run."""
    if run.datalist is None:
        blocks: tuple[Block, ...] = (Sentence(f"What it was trained on is not known. {run.data_fault}", "warning"),)
    else:
        blocks = (*_listed(prefix, run.datalist), *_skipped(prefix, run.datalist))
    return Part(prefix, "Data and splits", (*blocks, *_seen(run)))


def _listed(prefix: str, datalist: Datalist) -> list[Block]:
    splits: Splits = {split: getattr(datalist, split) for split in SPLITS if getattr(datalist, split)}
    facts = [("dataset", datalist.name), ("modality", datalist.modality)]
    if datalist.split is not None:
        rule = datalist.split
        drawn = f"by patient, seed {rule.seed}: {rule.validation:.0%} for validation, {rule.test:.0%} for testing"
        facts.append(("split", drawn))
    blocks: list[Block] = [Facts(tuple(facts))]
    if not splits:
        return [*blocks, Sentence("data.json lists no scan.", "warning")]
    blocks.append(_counts(f"{prefix}-splits", splits))
    blocks += [*_overlaps(splits), *_absent(splits), *_sizes(f"{prefix}-sizes", splits)]
    return blocks


def _counts(anchor: str, splits: Splits) -> Table:
    """Scans, patients and labels of each split; categories where there are any."""
    categories = sorted({one.category for entries in splits.values() for one in entries if one.category is not None})
    columns = (Column("split"), *(Column(name, True) for name in ("scans", "patients", "with label", *categories)))
    rows = []
    for split, entries in splits.items():
        of = Counter(one.category for one in entries)
        labelled = sum(one.label is not None or one.category is not None for one in entries)
        numbers = [len(entries), len({one.patient for one in entries}), labelled, *(of[name] for name in categories)]
        rows.append(Row((Cell(split), *map(cell, numbers))))
    return Table(anchor, "Scans of each split", columns, tuple(rows))


def _overlaps(splits: Splits) -> list[Block]:
    of_patient: dict[str, set[str]] = defaultdict(set)
    for split, entries in splits.items():
        for one in entries:
            of_patient[one.patient].add(split)
    torn = {patient for patient, found in of_patient.items() if len(found) > 1}
    if torn:
        scans = [one.name for entries in splits.values() for one in entries if one.patient in torn]
        words = f"{len(torn)} patients are in more than one split, by their scans: {_some(scans)}."
        return [Sentence(words, "bad")]
    return [Sentence("No patient is in more than one split.")] if len(splits) > 1 else []


def _absent(splits: Splits) -> list[Block]:
    """Scans that are not where they were; of very many only the first are looked for."""
    looked_for = list(islice((one for entries in splits.values() for one in entries), MOST_LOOKED_FOR))
    # Unlike Path.exists, it holds for a name that no disk takes, too.
    gone = [one.name for one in looked_for if not os.path.exists(one.image)]  # noqa: PTH110
    if not gone:
        return []
    words = f"{len(gone)} of {len(looked_for)} scans are not any more where the run found them: {_some(gone)}."
    return [Sentence(words, "warning")]


def _sizes(anchor: str, splits: Splits) -> list[Block]:
    found: dict[str, Any] = summarise(splits)
    blocks: list[Block] = []
    rows = [
        [
            title,
            *(TIMES.join(f"{edge:g}" for edge in found[name][which]) for which in ("least", "median", "greatest")),
        ]
        for name, title in SIZES
        if name in found
    ]
    if rows:
        caption = "Least, median and greatest along x, y and z"
        blocks.append(text_table(anchor, caption, ["", "least", "median", "greatest"], rows, names=4))
    orientations = {name: count for name, count in found["orientations"].items() if name != "unknown"}
    if orientations:
        words = ", ".join(f"{count:,} {name}" for name, count in orientations.items())
        blocks.append(Sentence(f"Orientations: {words}."))
    return blocks


def _skipped(prefix: str, datalist: Datalist) -> list[Block]:
    skipped = datalist.skipped
    if not skipped:
        return [Sentence("Nothing was skipped when the scans were listed.")] if datalist.statistics else []
    rows = [[str(one.path), one.reason] for one in skipped[:MOST_SKIPPED]]
    more = f", the first {MOST_SKIPPED}" if len(skipped) > MOST_SKIPPED else ""
    files = "file was" if len(skipped) == 1 else "files were"
    caption = f"{len(skipped):,} {files} skipped{more}"
    fold = caption if len(rows) > 5 else ""
    return [text_table(f"{prefix}-skipped", caption, ["file", "reason"], rows, names=2, folded=fold)]


def _seen(run: RunRecord) -> list[Block]:
    """What went into the weights, for those who will evaluate with them."""
    try:
        seen = seen_by(run.path)
    except VocoError as error:
        return [Sentence(error.message, "warning")]
    if seen is None:
        return [Sentence("The run has no weights yet that say what they have seen.")]
    stages = [f"{len(one):,} scans in the {one.stage} ({one.dataset})" for one in seen.stages]
    lines = [f"Its weights have seen {', and '.join(stages)}."] if stages else []
    lines += [f"{name} does not say what it was trained on." for name in seen.unknown]
    return [Sentence(line, "warning" if seen.unknown else "plain") for line in lines]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
