"""`voco pretrain`: from a data file to an encoder, and proof of what it learned."""

from __future__ import annotations

from dataclasses import replace
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.option_groups import PretrainOptions, with_option_group
from voco_cli.cli.options import DryRunOption, JsonOption, RecheckOption
from voco_cli.cli.plan import show_dry_run
from voco_cli.document.terminal import done, print_blocks, print_json, shell_words
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block, Value
    from voco_cli.workflows.pretrain import PretrainResult


@going_on()
@with_option_group
def pretrain(
    options: PretrainOptions, recheck: RecheckOption = False, dry_run: DryRunOption = False, json: JsonOption = False
) -> None:
    """Pre-train an encoder on unlabelled scans.

    Builds the cache it needs, trains, and ends with figures on held-out scans against step 0 and chance. The same
    command resumes a run that was stopped.
    """
    resolved = options.resolve()

    from voco_cli.cli.progress import PretrainProgress
    from voco_cli.resources.costs import require_choice
    from voco_cli.workflows.pretrain import run_pretraining

    if dry_run:
        from voco_cli.resources.dry_run import dry_pretraining

        show_dry_run(lambda: dry_pretraining(resolved, PretrainProgress()), json)
        return
    if resolved.settings.data.file is not None and resolved.settings.data.file.is_file():
        require_choice(resolved, shell_words("voco", "pretrain", *replace(options, recipe=None).words()))
    result = run_pretraining(resolved, PretrainProgress(), recheck=recheck)
    if result.is_main_process:
        _print_result(result, json, _with_labels(resolved.settings.data.file))
    if result.verdict is not None and result.verdict.status == "collapsed":
        raise VocoError(result.verdict.sentence)


def _print_result(result: PretrainResult, json: bool, labelled: Path | None) -> None:
    if json:
        chance = {name: info.chance for name, info in result.infos.items() if info.chance is not None}
        print_json(
            {
                "run": result.folder,
                "weights": result.weights,
                "verdict": result.verdict.status if result.verdict else None,
                "sentence": result.verdict.sentence if result.verdict else None,
                "figures": {"step 0": result.start, "end": result.end, "chance": chance},
            }
        )
        return
    print_blocks(result_blocks(result))
    encoder = loads(result.weights.with_suffix(".json").read_text())
    weights = f"{result.weights}: {len(encoder['names'])} tensors with the names of {encoder['loads_into']}"
    tuning = shell_words("voco", "tasks", "new", labelled or "LABELLED.json", "--weights", result.folder)
    following = f"{shell_words('voco', 'report', result.folder)}, or with labels: {tuning}"
    if encoder.get("classes"):
        scans = shell_words("voco", "predict", result.folder, "SCANS", "-o", "predictions")
        following = f"{scans}, or on what is held out: {shell_words('voco', 'evaluate', result.folder)}"
    pictures = [result.folder / "figures" / "validation"] if result.verdict else []
    done([weights, result.folder / "metrics.jsonl", *pictures], following)


def result_blocks(result: PretrainResult) -> list[Block]:
    """Return the figures on held-out scans at the start, at the end and by chance, and the verdict."""
    from voco_cli.document.blocks import Column, Sentence, Table, Tone

    if result.verdict is None:
        text = "No scans are held out, so nothing says whether it learned; `voco index --validation 0.1` holds some."
        return [Sentence(text)]
    rows: list[list[Value]] = [
        [info.label, result.start.get(name), result.end[name], "" if info.chance is None else f"{info.chance:.3g}"]
        for name, info in result.infos.items()
        if name in result.end
    ]
    figures = (Column(heading, True, "z.3f") for heading in ("step 0", "end", "chance"))  # z: no sign before a zero
    tones: dict[str, Tone] = {"learned": "good", "not yet": "warning", "collapsed": "bad"}
    return [
        Table.of("", [Column("on held-out scans"), *figures], rows),
        Sentence(result.verdict.sentence, tones[result.verdict.status]),
    ]


def _with_labels(data: Path | None) -> Path | None:
    """Return the list, where it names label maps, too."""
    from voco_cli.data.index.datalist_file import read_datalist

    if data is None:
        return None
    listed = read_datalist(data, check_files=False)
    return data if any(entry.label for split, entry in listed.entries() if split != "test") else None
