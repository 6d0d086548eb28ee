"""`voco weights`: what a file of weights holds and where it fits, and weights for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.options import ForceOption, JsonOption, TrustPickleOption
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, shell_words
from voco_cli.errors import UsageError
from voco_cli.models.weights.container import Format

if TYPE_CHECKING:
    from voco_cli.models.weights import LoadReport, Weights
    from voco_cli.models.weights.read import Branch, Merging

app = typer.Typer(help="Look into files of weights, and convert them.", no_args_is_help=True)


SourceArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="Run folder, .safetensors, the authors' files, hf://OWNER/REPO/FILE."),
]
BranchOption = Annotated[
    Literal["student", "teacher", "ema"],
    typer.Option(
        "--branch", help="Which network of a checkpoint: student (or raw), teacher, or ema, a copy averaged over steps."
    ),
]
MergingOption = Annotated[
    Literal["auto", "current", "legacy"],
    typer.Option(
        "--patch-merging",
        help="Slices that the patch merging of a SwinUNETR was trained with: current as in MONAI since 2025, legacy as "
        "before and in the released code; auto is what the file says, and legacy where it says nothing.",
    ),
]


@app.command()
def inspect(
    file: SourceArgument,
    branch: BranchOption = "student",
    patch_merging: MergingOption = "auto",
    trust_pickle: TrustPickleOption = False,
    json: JsonOption = False,
) -> None:
    """Print what a file of weights holds, and which network it fits."""
    from voco_cli.document.blocks import Facts
    from voco_cli.models.weights import load_into

    weights = _read(file, branch, patch_merging, trust_pickle)
    architecture = weights.architecture
    report = None if architecture is None else load_into(architecture.meta_tensors(), weights, min_loaded=0.0)
    facts = _facts(weights)
    if json:
        print_json({**facts, "settings": weights.settings, "report": report.to_json() if report else None})
        return
    shown = {**facts, "kind": weights.kind.words, "parameters": f"{facts['parameters']:,}"}
    print_blocks([Facts.of((name.replace("_", " "), value) for name, value in shown.items())])
    _print_report(report, weights)


@app.command()
def export(
    run: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    file_format: Annotated[
        Format, typer.Option("--format", help="Program that will read it; safetensors for any.")
    ] = Format.SAFETENSORS,
    branch: BranchOption = "student",
    patch_merging: MergingOption = "auto",
    plans: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For nnunet: nnUNetPlans.json of the data set to train on, in its folder of $nnUNet_preprocessed. "
            "Plans for the network of the weights are written beside it.",
        ),
    ] = None,
    axes: Annotated[
        Literal["xyz", "zyx"] | None,
        typer.Option(
            "--axes",
            help="For nnunet and nnssl: order of the axes of its arrays, for which the kernels are turned (by default "
            "as the plans say, or zyx as nnU-Net reads scans); xyz keeps the kernels.",
        ),
    ] = None,
    heads: Annotated[
        bool,
        typer.Option(
            "--heads",
            help="For safetensors and authors: write all that pre-training goes on from, of the run's last checkpoint: "
            "encoder, heads, teachers and decoders.",
        ),
    ] = False,
    trust_pickle: TrustPickleOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write weights for MONAI, the authors' code, nnU-Net or readers of nnssl's checkpoints."""
    if output.exists() and not force:
        raise UsageError(f"{output} exists already.", "choose another name with -o, or --force")
    if plans and file_format is not Format.NNUNET:
        raise UsageError("--plans is for nnU-Net.", "add --format nnunet, or leave it out")
    if axes and file_format not in (Format.NNUNET, Format.NNSSL):
        raise UsageError("--axes is for nnU-Net.", "add --format nnunet or --format nnssl, or leave it out")
    if heads and file_format not in (Format.SAFETENSORS, Format.AUTHORS):
        raise UsageError(
            f"--heads is for those who go on pre-training, and {file_format.value} is for other networks.",
            "leave out --format, or --format authors",
        )
    from voco_cli.data.index.trained_on import copy_manifest
    from voco_cli.models.weights import export_weights
    from voco_cli.models.weights.objectives import find_checkpoint
    from voco_cli.workflows.weights_origin import digest_of, known_manifest

    source = str(find_checkpoint(run)) if heads else run
    weights = _read(source, branch, patch_merging, trust_pickle)
    written = export_weights(weights, output, file_format, axes, plans, replace=force, heads=heads)
    files = [*written.files, *copy_manifest(run, output, known_manifest(run, lambda: digest_of(weights)))]
    if json:
        counts = {"tensors": written.tensors, "parameters": written.parameters}
        train = {"train": shell_words(*written.train)} if written.train else {}
        print_json({"files": [str(path) for path in files], **counts, "notes": list(written.notes), **train})
        return
    for line in (f"{written.tensors} tensors, {written.parameters:,} parameters", *weights.notes, *written.notes):
        print_line(line)
    following = ("pretrain", "DATA.json", "--weights", output) if heads else ("weights", "inspect", output)
    done(files, shell_words(*(written.train or ("voco", *following))))


def _read(file: str, branch: Branch, patch_merging: Merging | Literal["auto"], trust_pickle: bool) -> Weights:
    from voco_cli.models.weights import read_weights

    merging = None if patch_merging == "auto" else patch_merging
    return read_weights(file, trust_pickle=trust_pickle, branch=branch, patch_merging=merging)


def _facts(weights: Weights) -> dict[str, Any]:
    from voco_cli.models.weights.objectives import parts_of

    architecture = weights.architecture
    tensors = {**weights.tensors, **weights.heads}
    verdict = (weights.settings or {}).get("verdict")
    return {
        "file": weights.origin,
        "kind": weights.kind.value,
        "branch": weights.branch,
        "step": weights.step,
        "verdict": verdict.get("sentence") if isinstance(verdict, Mapping) else None,
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point()),
        "left_aside": len(weights.unused) or None,
        "to_go_on": ", ".join(parts_of(weights.objectives)) or None,
        "network": architecture.encoder_words if architecture else None,
        "input_channels": architecture.in_channels if architecture else None,
        "classes": architecture.out_channels if architecture else None,
        "fits": architecture.python_call() if architecture else None,
        "patch_merging": weights.patch_merging,
    }


def _print_report(report: LoadReport | None, weights: Weights) -> None:
    from voco_cli.document.blocks import Bullets, Heading

    if report is None:
        first = (f"  {name} {list(tensor.shape)}" for name, tensor in list(weights.tensors.items())[:10])
        unknown = Heading("Its names are of no network that is known here; the first are:", 3)
        print_blocks([unknown, Bullets(tuple(first))])
        return
    print_blocks([Heading("Loaded into that network:", 3), report.table(), Bullets(report.notes)])
    done([], shell_words("voco", "weights", "export", weights.origin, "-o", "encoder.pt", "--format", "monai"))
