"""The commented task file that `voco tasks new` writes."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.downstream.tasks.draft import Draft
from voco_cli.downstream.tasks.weights_network import Backbone, Network


@dataclass(frozen=True)
class Source:
    """Where a task's data lies, and how it is split.

    Attributes:
        name: short name of the task.
        data_file: data.json; none for a table.
        table, root, images: CSV of a classification, folder of its scans, and pattern of a scan in it.
        scans: how many were looked at.
        patients: how many patients there are to draw from.
        own_split: whether list or table say who validates.
        channels: names of the input channels.
        mixed_names: sentence on label maps that call one value by several names; none where they agree.
    """

    name: str
    scans: int
    patients: int
    own_split: bool
    data_file: Path | None = None
    table: Path | None = None
    root: Path | None = None
    images: str | None = None
    channels: tuple[str, ...] = ("image",)
    mixed_names: str | None = None


ENOUGH_TO_TEST = 20
"""Patients from which on a draft keeps some aside for the end."""
FEWEST_TO_SPLIT = 2


@dataclass(frozen=True)
class Start:
    """Weights that a task is drafted for.

    Attributes:
        weights: as they were named.
        network: theirs.
    """

    weights: str
    network: Network


def task_file(draft: Draft, source: Source, backbone: Backbone, output: Path, start: Start | None = None) -> str:
    """A task file with the reason of every value beside it; paths are relative to ``output``'s folder."""
    blocks = [
        _head(source, output, start),
        _task(draft, source),
        _where(source, output),
        _preprocess(draft, source),
        _augment(draft, source),
        _network(draft, backbone, start),
        _training(draft, backbone),
    ]
    return "\n".join(line for block in blocks for line in block) + "\n"


def relative(path: Path, output: Path) -> str:
    """A path from the folder of the task file, absolute where they share nothing but the root."""
    here, there = output.resolve().parent, path.resolve()
    shared = os.path.commonpath((here, there))
    return str(there) if shared == os.path.sep else os.path.relpath(there, here)


def _head(source: Source, output: Path, start: Start | None) -> list[str]:
    weights = f" --weights {shlex.quote(' '.join(start.weights.split()))}" if start else ""
    return [
        f"# Task {source.name}: a draft, read off {source.scans} scans. Check every value, then:",
        f"#   voco tasks check --task {output.name}     what of the data fits it",
        f"#   voco finetune --task {output.name}{weights}        train",
        "# Keys that are not here have the defaults that `voco config schema` describes.",
    ]


def _task(draft: Draft, source: Source) -> list[str]:
    whole = source.table is not None
    kind = "classification" if whole else "segmentation"
    values = "values in the column label" if whole else "label values in the files; values of one class may be many"
    lines = ["task:", f"  name: {json.dumps(source.name)}", f"  kind: {kind}"]
    lines += [f"  # Caution: {' '.join(source.mixed_names.split())}"] if source.mixed_names else []
    lines.append(f"  classes:  # {values}")
    lines += [f"    - {{name: {json.dumps(name)}, values: {list(numbers)}}}" for name, numbers in draft.classes.items()]
    if len(source.channels) > 1:
        lines.append(f"  channels: {json.dumps(source.channels)}  # in this order, also for voco predict")
    if draft.ignore_value is not None:
        lines.append(f"  ignore_value: {draft.ignore_value}  # voxels that nobody annotated: left out of everything")
    if not whole:
        lines += [
            f"  # The scans have about {_extent(draft.common_shape)} voxels at the spacing below.",
            f"  patch_size: {list(draft.size)}",
            "  patches_per_volume: 2",
            "  foreground_share: 0.75",
        ]
    if source.own_split:
        return [*lines, "  # The splits are those of the list; task.split=seeded would draw others by patient."]
    if source.patients < FEWEST_TO_SPLIT:
        return [*lines, "  choose: last  # there is one patient, so nobody validates and the last weights are kept"]
    tested = 0.2 if source.patients >= ENOUGH_TO_TEST else 0
    return [
        *lines,
        f"  split: seeded  # drawn by patient, of {source.patients}",
        "  validation_patients: 0.2  # a share, or a number of patients: they choose the weights",
        f"  test_patients: {tested}  # kept for the end: the number to report",
    ]


def _where(source: Source, output: Path) -> list[str]:
    if source.data_file is not None:
        return ["data:", f"  file: {json.dumps(relative(source.data_file, output))}"]
    assert source.table is not None
    assert source.root is not None
    return [
        f"  table: {json.dumps(relative(source.table, output))}",
        "  layouts:",
        f"    - {{image: {json.dumps(source.images)}}}",
        "data:",
        f"  root: {json.dumps(relative(source.root, output))}",
    ]


def _preprocess(draft: Draft, source: Source) -> list[str]:
    lines = ["preprocess:"]
    ranges = ", ".join(f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}" for low, high in draft.spacings)
    if draft.spacing_mm is not None:
        lines += [f"  # The median; the scans have {ranges} mm.", f"  spacing_mm: {_numbers(draft.spacing_mm)}"]
    else:
        why = "scans are brought to one size anyway" if source.table is not None else "no need to resample"
        lines += [f"  # The scans have {ranges} mm: {why}.", "  spacing_mm: null"]
    if draft.window_hu is not None:
        inside = "all voxels" if source.table is not None else "the voxels within labels"
        lines += [f"  # Percentiles 0.5 and 99.5 of {inside}, HU.", f"  window_hu: {list(draft.window_hu)}"]
    else:
        lines += [
            "  # Not HU: the range is that of each scan.",
            "  intensity: percentiles",
            "  percentiles: [0.5, 99.5]",
        ]
    # Without a fixed window, and in crops that are all body, a box above 0 means nothing.
    lines.append("  foreground_above: null  # 0.0 cuts away the air around the body (CT)")
    if source.table is not None:
        lines += [
            f"  # The scans have about {_extent(draft.common_shape)} voxels.",
            f"  resize_vox: {list(draft.size)}",
        ]
    return lines


def _augment(draft: Draft, source: Source) -> list[str]:
    square = draft.size[0] == draft.size[1]
    sides = draft.mixed_sides and source.table is None
    return [
        "augment:",
        f"  flip_prob: {0.0 if sides else 0.2}"
        + ("  # the names tell left from right, which a flip would mix up" if sides else ""),
        f"  rotate_prob: {0.2 if square and not sides else 0.0}"
        + ("" if square else "  # quarter turns need patches that are square in the plane"),
        "  shift_prob: 0.1",
        "  scale_prob: 0.1",
        "  affine_prob: 0.3",
    ]


def _network(draft: Draft, backbone: Backbone, start: Start | None) -> list[str]:
    why = f"that of {start.weights}" if start else "for fresh weights; `voco tasks new --weights RUN` takes RUN's"
    lines = [
        "model:",
        f"  # The network: {' '.join(why.split())}.",
        f"  backbone: {backbone}",
        f"  feature_size: {draft.feature_size}",
    ]
    return [*lines, f"  levels: {draft.levels}"] if backbone == "unet" else lines


def _training(draft: Draft, backbone: Backbone) -> list[str]:
    every = max(50, draft.steps // 20)
    return [
        "train:",
        f"  steps: {draft.steps}  # about 100 passes; more for many scans and a GPU, fewer to try",
        "  batch_size: 2",
        f"  lr: {'1.0e-3' if backbone == 'unet' else '3.0e-4'}",
        "  weight_decay: 1.0e-5",
        "  amsgrad: false",
        "  clip_norm: 1.0",
        "  warmup_share: 0.02",
        f"  checkpoint_every: {every}",
        f"  validate_every: {every}",
    ]


def _extent(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
