"""`voco embed`: turn scans into embeddings with a pre-trained network, for other programs to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.options import DeviceOption, JsonOption
from voco_cli.document.terminal import done, err, note, out, print_json, progress, shell_words
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Entry, Skipped

SHOWN_FAULTS = 20


def embed(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco pretrain.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Scans: NIfTI, NRRD, MetaImage, DICOM series, folders, data.json."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write: .npz or .parquet.")],
    bases: Annotated[bool, typer.Option("--bases", help="One row for each base crop of a scan: the default.")] = False,
    crops: Annotated[
        int | None,
        typer.Option("--crops", min=1, help="This many random crops of each scan, not its base crops."),
    ] = None,
    projected: Annotated[
        bool,
        typer.Option(
            "--projected",
            help="The projector's output; a scan's crops are projected together, its base crops always among them.",
        ),
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the encoder's features of scans, crop by crop.

    Features are the means over space of all levels of the encoder, side by side; no crop matters to another's.
    """
    if bases and crops is not None:
        raise UsageError("--bases and --crops exclude each other.", "leave one of them out")

    from voco_cli.config.load import read_resolved
    from voco_cli.data.index.intensity import suit_intensity, with_preprocess
    from voco_cli.predict.inputs import find_inputs
    from voco_cli.pretrain.embed import about, check_embedding_path, embed_entries, open_embedder, write_embeddings

    check_embedding_path(output)
    embedder = open_embedder(run, projected, device)
    found = find_inputs(inputs, embedder.settings.task, purpose="embedded")
    suited = suit_intensity(read_resolved(run / "settings.yaml"), found.entries, inputs, settable=False)
    for text in (*suited.notes, *suited.warnings):
        note(text)
    embedder = replace(embedder, settings=with_preprocess(embedder.settings, suited))
    failed = [*found.refused]

    def on_failed(entry: Entry, reason: str) -> None:
        failed.append((str(entry.image), reason))

    scans = rows = 0
    with progress("embedding", len(found.entries)) as advance:
        embedded = embed_entries(embedder, found.entries, crops, on_failed, advance)
        first = next(embedded, None)
        if first is not None:
            described = about(embedder, crops)
            scans, rows = write_embeddings(output, chain([first], embedded), embedder.width, described)
    _tell_left_out(failed, found.passed_over)
    if not scans:
        raise DataError(f"None of {len(failed)} scans could be embedded.", "The reasons are above.")
    width = embedder.width
    if as_json:
        record = {"run": run, "output": output, "scans": scans, "rows": rows, "width": width}
        faults = [{"scan": scan, "reason": reason} for scan, reason in failed]
        others = [{"path": one.path, "reason": one.reason} for one in found.passed_over]
        print_json({**record, "failed": faults, "passed_over": others})
        return
    out.print(f"{scans} scans embedded in {rows} rows of {width} numbers, {len(failed)} failed.", highlight=False)
    done([output], shell_words("voco", "locate", run, "SCAN"))


def _tell_left_out(failed: list[tuple[str, str]], passed_over: Sequence[Skipped]) -> None:
    """Print which scans failed, and what was passed over as no scan."""
    for scan, reason in failed[:SHOWN_FAULTS]:
        err.print(reason if scan in reason else f"{scan}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(failed) > SHOWN_FAULTS:
        err.print(f"and {len(failed) - SHOWN_FAULTS} more; --json lists all", highlight=False)
    if passed_over:
        first, *others = passed_over
        more = f"; and {len(others)} more, all in --json" if others else ""
        note = f"note: passed over {first.path}: {first.reason.rstrip('.')}{more}."
        err.print(note, markup=False, highlight=False, soft_wrap=True)
