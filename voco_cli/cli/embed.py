"""`voco embed`: turn scans into embeddings with a pre-trained network, for other programs to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.left_out import left_out_object, warn_of_failures, warn_of_passed_over
from voco_cli.cli.options import DeviceOption, InputsArgument, JsonOption, PretrainedArgument
from voco_cli.cli.shards import SchedulerOption, ShardOption, spread_out
from voco_cli.document.terminal import done, note, print_json, print_line, progress, shell_words
from voco_cli.errors import DataError, UsageError
from voco_cli.object_stores import location

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Entry
    from voco_cli.data.parallel import Runner
    from voco_cli.pretrain.embed import Embedder


def embed(
    context: typer.Context,
    run: PretrainedArgument,
    inputs: InputsArgument,
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
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the encoder's features of scans, crop by crop.

    Features are the means over space of all levels of the encoder, side by side; no
    other crop changes them.
    """
    if bases and crops is not None:
        raise UsageError("--bases and --crops exclude each other.", "leave one of them out")

    from voco_cli.config.load import read_resolved
    from voco_cli.data.index.intensity import suit_intensity, with_preprocess
    from voco_cli.data.shards import own_entries
    from voco_cli.predict.inputs import find_inputs
    from voco_cli.pretrain.embed import check_embedding_path, open_embedder
    from voco_cli.workflows.shards import is_merging

    inputs = [location(one) for one in inputs]
    check_embedding_path(output)
    embedder = open_embedder(run, projected, "cpu" if is_merging() else device)
    found = find_inputs(inputs, embedder.settings.task, purpose="embedded")
    suited = suit_intensity(read_resolved(run / "settings.yaml"), found.entries, inputs, settable=False)
    for text in (*suited.notes, *suited.warnings):
        note(text)
    embedder = replace(embedder, settings=with_preprocess(embedder.settings, suited))
    with spread_out(context, output, scheduler, shard) as spread:
        own = own_entries(found.entries, inputs, spread.runner)
        scans, rows, failed = _embed(embedder, own, crops, output, device, spread.runner)
        if spread.is_part:
            warn_of_failures(failed)
            spread.finish_part(as_json, "scans", len(own), len(failed))
            return
        if scans:
            spread.finish()
    failed = [*found.refused, *failed]
    warn_of_failures(failed)
    warn_of_passed_over(found.passed_over)
    if not scans:
        raise DataError(f"None of {len(failed)} scans could be embedded.", "The reasons are above.")
    width = embedder.width
    if as_json:
        record = {"run": run, "output": output, "scans": scans, "rows": rows, "width": width}
        print_json({**record, **left_out_object("scan", failed, found.passed_over)})
        return
    print_line(f"{scans} scans embedded in {rows} rows of {width} numbers, {len(failed)} failed.")
    done([output], shell_words("voco", "locate", run, "SCAN"))


def _embed(
    embedder: Embedder, entries: Sequence[Entry], crops: int | None, output: Path, device: str | None, runner: Runner
) -> tuple[int, int, list[tuple[str, str]]]:
    """Write embeddings, if there are any; return the numbers of scans and rows in the file, and what failed."""
    from voco_cli.data.parallel import HERE
    from voco_cli.data.shards import kept_folder
    from voco_cli.pretrain.embed import about, embed_entries, write_embeddings
    from voco_cli.pretrain.embed_elsewhere import embed_elsewhere

    failed: list[tuple[str, str]] = []

    def on_failed(entry: Entry, reason: str) -> None:
        failed.append((str(entry.image), reason))

    with progress("embedding", len(entries)) as advance:
        if runner == HERE:
            embedded = embed_entries(embedder, entries, crops, on_failed, advance)
        else:
            kept = kept_folder(output)
            embedded = embed_elsewhere(
                embedder, entries, crops, on_failed, advance, device=device, folder=kept, runner=runner
            )
        first = next(embedded, None)
        if first is None:
            return 0, 0, failed
        scans, rows = write_embeddings(output, chain([first], embedded), embedder.width, about(embedder, crops))
    return scans, rows, failed
