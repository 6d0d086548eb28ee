"""`voco compare`: evaluations of the same cases, paired."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.compare_classifications import ComparedClassifications
from voco_cli.cli.compare_segmentations import ComparedSegmentations
from voco_cli.cli.options import JsonOption, RequireCleanOption
from voco_cli.cli.output import done, print_json, shell_words, warn
from voco_cli.errors import UsageError, VocoError
from voco_cli.foreign_text import visible

if TYPE_CHECKING:
    from voco_cli.evaluation.stored import Stored


def compare(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVALUATION",
            help="Folders that voco evaluate wrote, or runs of voco finetune; the first is compared with.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for comparison.json, comparison.md and comparison.png."
        ),
    ] = Path("comparison"),
    metric: Annotated[
        Literal["dice", "iou", "nsd", "hd95_mm", "asd_mm"] | None,
        typer.Option(
            metavar="METRIC",
            help="Metric of the tables and the picture of segmentations: dice (by default), iou, nsd (surface Dice), "
            "hd95_mm or asd_mm; comparison.json has all.",
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(
            min=100, help="Bootstrap resamples of the patients, and permutations where categories are compared."
        ),
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    split: Annotated[
        Literal["test", "validation"] | None,
        typer.Option(help="Which evaluation of runs (by default test where all have it, or else validation)."),
    ] = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare evaluations of the same cases, with paired tests.

    Differences with their intervals, tests over patients, the cases that changed most, and one picture.
    """
    from voco_cli.evaluation.result_folder import evaluation_folders
    from voco_cli.evaluation.stored import read_stored
    from voco_cli.whole_files import write_whole

    if len(evaluations) < 2:
        raise UsageError("One evaluation cannot be compared.", "Give two or more folders that voco evaluate wrote.")
    stored = [read_stored(folder) for folder in evaluation_folders(evaluations, split)]
    names = _names(evaluations)
    _tell_doubles(names, stored)
    _require_one_split(names, stored)
    if require_clean:
        _require_clean(names, stored)
    compared = _compared(names, stored, metric, resamples, seed)
    found = compared.to_json()
    contents = {
        "comparison.json": json.dumps(found, indent=2, allow_nan=False).encode() + b"\n",
        "comparison.md": visible(compared.markdown()).encode(),
        "comparison.png": compared.picture(),
    }
    for name, content in contents.items():
        write_whole(output / name, content)
    if as_json:
        print_json(found)
        return
    compared.show()
    done([output / name for name in contents], shell_words("voco", "report", output))


def _compared(
    names: Sequence[str], stored: Sequence[Stored], metric: str | None, resamples: int, seed: int
) -> ComparedSegmentations | ComparedClassifications:
    """The comparison of all of one kind."""
    from voco_cli.evaluation.classification_folder import StoredClassification
    from voco_cli.evaluation.result_folder import StoredEvaluation

    classifications = [one for one in stored if isinstance(one, StoredClassification)]
    segmentations = [one for one in stored if isinstance(one, StoredEvaluation)]
    if classifications and segmentations:
        kinds = ["classification" if isinstance(one, StoredClassification) else "segmentation" for one in stored]
        one, other = (names[kinds.index(kind)] for kind in ("classification", "segmentation"))
        raise UsageError(f"{one} is a classification and {other} a segmentation, which cannot be compared.")
    if not classifications:
        return ComparedSegmentations(names, segmentations, metric or "dice", resamples, seed)
    if metric is not None:
        raise UsageError(f"--metric {metric} is of segmentations, and these are classifications.", "leave it out")
    return ComparedClassifications(names, classifications, resamples, seed)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; with the folder above where two are the same, numbered where even that does not tell."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    counts = Counter(names)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(names)]


def _tell_doubles(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Say which evaluations are one and the same folder."""
    by_folder: dict[Path, list[str]] = {}
    for name, one in zip(names, stored, strict=True):
        by_folder.setdefault(one.folder.resolve(), []).append(name)
    for same in by_folder.values():
        if len(same) > 1:
            warn(f"note: {' and '.join(same)} are the same evaluation: every difference is 0.")


def _require_one_split(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Cases that weights were chosen on are not compared with cases that nobody looked at."""
    splits = {one.split: name for name, one in zip(names, stored, strict=True) if one.split}
    if len(splits) > 1:
        words = " and ".join(f"{name} is of its {split} split" for split, name in splits.items())
        raise VocoError(f"These evaluations cannot be paired: {words}.", "Evaluate both on the same split.")


def _require_clean(names: Sequence[str], stored: Sequence[Stored]) -> None:
    from voco_cli.finetuning.contamination import require_clean

    for name, one in zip(names, stored, strict=True):
        if one.contamination is None:
            raise VocoError(
                f"{name} was evaluated without looking whether its cases were seen in training.",
                "evaluate the run itself: voco evaluate RUN",
            )
        require_clean(one.contamination, name)
