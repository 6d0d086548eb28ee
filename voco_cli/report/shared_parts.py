"""Parts that sections of every kind have: data and splits, settings and sources, starting weights, pictures."""

from __future__ import annotations

import base64
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from PIL import Image, UnidentifiedImageError

from voco_cli.config import Settings
from voco_cli.config.load import field_descriptions
from voco_cli.config.sources import flatten
from voco_cli.data.index.datalist import SPLITS, Datalist, Entry, summarise
from voco_cli.data.index.trained_on import manifest_of
from voco_cli.document.blocks import Block, Column, EncodedPicture, Facts, PagePart, Sentence, Table, Value
from voco_cli.errors import DataError, VocoError
from voco_cli.object_stores import is_remote
from voco_cli.report.curves import finite
from voco_cli.report.run_record import RunRecord, read_object
from voco_cli.workflows.compare import TrainedAs, unlike_settings

Splits = dict[str, Sequence[Entry]]

TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
MOST_SKIPPED = 200
MOST_LOOKED_FOR = 1000
MOST_NAMED = 3
SIZES = (("shape", "size, voxels"), ("spacing_mm", "spacing, mm"), ("extent_mm", "extent, mm"))


def data_part(run: RunRecord) -> PagePart:
    """Return the part on data and splits of a run."""
    if run.datalist is None:
        blocks: list[Block] = [Sentence(f"What it was trained on is not known. {run.data_fault}", "warning")]
    else:
        blocks = [*_listed(run.datalist), *_skipped(run.datalist)]
    return PagePart("data", "Data and splits", [*blocks, *_trained_on(run)])


def _listed(datalist: Datalist) -> list[Block]:
    splits: Splits = {split: getattr(datalist, split) for split in SPLITS if getattr(datalist, split)}
    facts = [("dataset", datalist.name), ("modality", datalist.modality)]
    if datalist.split is not None:
        rule = datalist.split
        drawn = f"by patient, seed {rule.seed}: {rule.validation:.0%} for validation, {rule.test:.0%} for testing"
        facts.append(("split", drawn))
    blocks: list[Block] = [Facts(tuple(facts))]
    if not splits:
        return [*blocks, Sentence("data.json lists no scan.", "warning")]
    return [*blocks, _counts(splits), *_overlaps(splits), *_absent(splits), *_sizes(splits)]


def _counts(splits: Splits) -> Table:
    """Return a table of scans, patients and labels of each split, and of categories where there are any."""
    categories = sorted({one.category for entries in splits.values() for one in entries if one.category is not None})
    columns = [Column("split"), *(Column(name, True) for name in ("scans", "patients", "with label", *categories))]
    rows: list[list[Value]] = []
    for split, entries in splits.items():
        of = Counter(one.category for one in entries)
        labelled = sum(one.label is not None or one.category is not None for one in entries)
        patients = len({one.patient for one in entries})
        rows.append([split, len(entries), patients, labelled, *(of[name] for name in categories)])
    return Table.of("Scans of each split", columns, rows, anchor="splits")


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
    """Return a note on scans that are not where they were, on a disk; of very many only the first are looked for."""
    on_disk = (one for entries in splits.values() for one in entries if not is_remote(one.image))
    looked_for = list(islice(on_disk, MOST_LOOKED_FOR))
    # Unlike Path.exists, it holds for a name that no disk takes, too.
    gone = [one.name for one in looked_for if not os.path.exists(one.image)]  # noqa: PTH110
    if not gone:
        return []
    words = f"{len(gone)} of {len(looked_for)} scans are not any more where the run found them: {_some(gone)}."
    return [Sentence(words, "warning")]


def _sizes(splits: Splits) -> list[Block]:
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
        blocks.append(Table.of(caption, ["", "least", "median", "greatest"], rows, names=4, anchor="sizes"))
    orientations = {name: count for name, count in found["orientations"].items() if name != "unknown"}
    if orientations:
        words = ", ".join(f"{count:,} {name}" for name, count in orientations.items())
        blocks.append(Sentence(f"Orientations: {words}."))
    return blocks


def _skipped(datalist: Datalist) -> list[Block]:
    skipped = datalist.skipped
    if not skipped:
        return [Sentence("Nothing was skipped when the scans were listed.")] if datalist.statistics else []
    rows = [[str(one.path), one.reason] for one in skipped[:MOST_SKIPPED]]
    more = f", the first {MOST_SKIPPED}" if len(skipped) > MOST_SKIPPED else ""
    files = "file was" if len(skipped) == 1 else "files were"
    caption = f"{len(skipped):,} {files} skipped{more}"
    fold = caption if len(rows) > 5 else ""
    return [Table.of(caption, ["file", "reason"], rows, names=2, anchor="skipped", folded=fold)]


def _trained_on(run: RunRecord) -> list[Block]:
    """Return what went into the weights, for those who will evaluate with them."""
    try:
        manifest = manifest_of(run.path)
    except VocoError as error:
        return [Sentence(error.message, "warning")]
    if manifest is None:
        return [Sentence("The run has no weights yet that say what they were trained on.")]
    stages = [f"{len(one):,} scans in the {one.stage} ({one.dataset})" for one in manifest.stages]
    lines = [f"Its weights were trained on {', and '.join(stages)}."] if stages else []
    lines += [f"{one.weights} was trained on {one.collection}, by {one.evidence}." for one in manifest.collections]
    lines += [f"{name} does not say what it was trained on." for name in manifest.unknown]
    return [Sentence(line, "warning" if manifest.unknown else "plain") for line in lines]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


NOT_THERE = "\N{EN DASH}"


def settings_part(run: RunRecord) -> PagePart:
    """Return two tables: what differs from the defaults or was set, with its source; and all else."""
    defaults, meanings = dict(flatten(Settings().model_dump(mode="json"))), dict(field_descriptions())
    changed = [key for key in run.settings if key in run.sources or run.settings[key] != defaults.get(key)]
    changed.sort(key=lambda key: run.settings[key] == defaults.get(key))
    rows = [
        [
            key,
            value_words(run.settings[key]),
            value_words(defaults[key]) if key in defaults else NOT_THERE,
            run.sources.get(key, "default"),
            meanings.get(key, ""),
        ]
        for key in changed
    ]
    blocks: list[Block] = []
    if rows:
        columns = [*map(Column, ("setting", "value", "default", "source", "meaning"))]
        marked = [n for n, key in enumerate(changed) if key in defaults and run.settings[key] != defaults[key]]
        caption = f"{len(rows)} settings that were set; a marked value differs from its default"
        blocks.append(Table.of(caption, columns, rows, marked=marked, anchor="set", searched=True))
    else:
        blocks.append(Sentence("All settings have their defaults."))
    others = {key: value for key, value in run.settings.items() if key not in changed}
    if others:
        words = f"{len(others)} settings at their defaults"
        blocks.append(settings_table(words, others, anchor="defaults", folded=words))
    return PagePart("settings", "Settings and their sources", blocks)


def settings_table(caption: str, settings: Mapping[str, Any], *, anchor: str, folded: str) -> Table:
    """Return a table of a row for each setting: name, value, meaning."""
    meanings = dict(field_descriptions())
    rows = [[key, value_words(value), meanings.get(key, "")] for key, value in settings.items()]
    columns = [*map(Column, ("setting", "value", "meaning"))]
    return Table.of(caption, columns, rows, anchor=anchor, folded=folded, searched=True)


def difference_table(runs: Sequence[RunRecord]) -> Table | Sentence:
    """Return a table of settings that are not the same in all runs, one column a run."""
    unlike = unlike_settings([TrainedAs(run.settings) for run in runs])
    if not unlike:
        return Sentence("The settings of these runs are the same.")
    return unlike_table([run.name for run in runs], unlike)


def unlike_table(names: Sequence[str], unlike: Mapping[str, Sequence[Any]]) -> Table:
    """Return a table of settings that are not the same in all runs, one column a run."""
    rows = [[key, *map(value_words, values)] for key, values in unlike.items()]
    caption = f"{len(rows)} settings that differ between the runs"
    return Table.of(caption, ["setting", *names], rows, names=len(names) + 1, anchor="settings")


def value_words(value: Any) -> str:
    """Return a value as it would stand in a settings file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def starting_weights(run: RunRecord) -> Block:
    """Return the name of the weights, the share of the encoder that they filled, and the notes on loading them."""
    weights = run.settings.get("model.weights")
    if weights is None:
        return Sentence("It started from fresh weights.")
    report = read_object(run.path / "weights_report.json")
    facts = [("started from", str(weights))]
    share, notes = finite(report.get("encoder_share")), report.get("notes")
    if share is not None:
        facts.append(("loaded of the encoder", f"{share:.1%} of its parameters"))
    facts += [("note", str(note)) for note in (notes if isinstance(notes, list) else [])]
    return Facts(tuple(facts))


WEBP_QUALITY = 84


def webp_source(content: bytes) -> str:
    """Return the data URI of a WebP picture."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def embed(content: bytes, name: str, widest_px: int = 1600, *, drawing: bool = False) -> EncodedPicture:
    """Return a picture of any common format as the page holds it: WebP, no wider than ``widest_px``.

    Args:
        name: for messages.
        drawing: lines and text rather than grey values; it is kept without loss.
    Raises:
        DataError: it is no picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} is no picture that can be read: {error}.") from error
    if picture.width > widest_px:
        picture = picture.resize(
            (widest_px, round(picture.height * widest_px / picture.width)), Image.Resampling.LANCZOS
        )
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=drawing, quality=80 if drawing else WEBP_QUALITY, method=4)
    return EncodedPicture(webp_source(stream.getvalue()), picture.width, picture.height)
