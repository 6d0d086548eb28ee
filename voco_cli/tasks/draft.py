"""Settings for a data set of one's own, read off its scans: spacing, window, size of patches, classes."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import read_saved
from voco_cli.data.cache.grid import axes_to_ras
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.label_pairing import grid_fault
from voco_cli.data.io.image import SURELY_CT_BELOW, Scan, placement, ras_affine, stored_like, whole_labels
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import DataError, UsageError

Backbone = Literal["unet", "swinunetr"]
SETTINGS_FILE = "settings.yaml"
SWIN_MULTIPLE = 32


@dataclass(frozen=True)
class Network:
    """What a task file says of its network.

    Attributes:
        feature_size: channels of the first level.
        levels: of the unet; each but the first halves the volume.
    """

    backbone: Backbone
    feature_size: int
    levels: int

    @property
    def multiple(self) -> int:
        """Voxels that each edge of a patch is a multiple of."""
        return SWIN_MULTIPLE if self.backbone == "swinunetr" else 2 ** (self.levels - 1)


def network_of(weights: str, trust_pickle: bool = False) -> Network:
    """The network that weights were trained in.

    A run says it in its settings, so that nothing heavy is loaded; of other files the tensors tell.

    Args:
        trust_pickle: let a pickled file run the code that it names.
    Raises:
        DataError: there are no weights, or damaged ones.
        UsageError: they belong to a network that no task can have.
    """
    run = Path(weights)
    if (run / SETTINGS_FILE).is_file():
        if not any(run.glob("weights/*.safetensors")) and not any(run.glob("checkpoints/step-*/model.safetensors")):
            raise DataError(f"{run} has no weights yet.", "let the run come to its first checkpoint")
        model = read_saved(run / SETTINGS_FILE).model
        return Network(model.backbone, model.feature_size, model.levels)
    from voco_cli.models.weights.read import read_weights

    found = read_weights(weights, trust_pickle=trust_pickle).architecture
    if found is None:
        raise UsageError(f"{weights} does not tell its network.", "`voco weights inspect` shows what it holds")
    if not found.is_ours:
        raise UsageError(
            f"{weights} is of {found.encoder_words}, and no task has such a network.",
            f"in Python it is {found.monai_call()}",
        )
    backbone: Backbone = "swinunetr" if found.backbone == "swinunetr" else "unet"
    return Network(backbone, found.feature_size, len(found.filters))


SizeXYZ = tuple[int, int, int]
FloatXYZ = tuple[float, float, float]

SAMPLED_VOXELS = 5000
"""Voxels of a scan that its intensities are judged by."""
SAME_SPACING = 1.01
WINDOW_STEP_HU = 10
LEAST_WINDOW_HU = 100
LARGEST_EDGE = 96
LARGEST_WHOLE_EDGE = 128
PASSES = 100
STEP_RANGE = (1000, 30_000)
SIDES = re.compile(r"(^|[^a-z])(left|right|l|r)([^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFacts:
    """What one scan and its label map say.

    Attributes:
        shape_ras, spacing_ras_mm: along right, anterior, superior.
        lowest: least value of the scan.
        inside: some values of voxels within labels, or of any where there is no label map.
        values: label values, background left out.
    """

    shape_ras: SizeXYZ
    spacing_ras_mm: FloatXYZ
    lowest: float
    inside: NDArray[np.float32]
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Draft:
    """What a task file will say of preprocessing, network and training.

    Attributes:
        spacing_mm: none where all scans have one spacing.
        window_hu: of CT; none for percentiles.
        size: patch, or the whole scan of a classification, voxels.
        common_spacing_mm, common_shape: medians, for the comments.
        spacings: range of the spacings along each axis, for the comments.
        mixed_sides: whether names tell left from right, which a flip would mix up.
        classes: to their label values.
        ignore_value: label value of voxels that nobody annotated, if there is one.
    """

    spacing_mm: FloatXYZ | None
    window_hu: tuple[int, int] | None
    size: SizeXYZ
    levels: int
    feature_size: int
    steps: int
    common_spacing_mm: FloatXYZ
    common_shape: SizeXYZ
    spacings: tuple[tuple[float, float], ...]
    mixed_sides: bool = False
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignore_value: int | None = None


def look_at(entry: Entry, ignore_value: int | None = None) -> CaseFacts:
    """Read a scan and, if it has one, its label map.

    Args:
        ignore_value: label value of voxels that nobody annotated, which say nothing.
    Raises:
        DataError: either cannot be read, they lie on different grids, or the labels are not whole numbers.
    """
    scan = read_scan(entry.image, entry.files)
    axes, _ = axes_to_ras(ras_affine(scan))
    shape, spacing = scan.shape_xyz, scan.spacing_xyz_mm
    inside = scan.array_zyx.reshape(-1)
    values: tuple[int, ...] = ()
    if entry.label is not None:
        if fault := grid_fault(read_header(entry.label), read_header(entry.image, entry.files)):
            raise DataError(f"{entry.label} is a {fault}")
        labels = _labels(entry, scan)
        annotated = (labels > 0) & (labels != (0 if ignore_value is None else ignore_value))
        inside, values = scan.array_zyx[annotated], tuple(int(v) for v in np.unique(labels[annotated]))
    every = max(1, len(inside) // SAMPLED_VOXELS)
    return CaseFacts(
        shape_ras=(shape[axes[0]], shape[axes[1]], shape[axes[2]]),
        spacing_ras_mm=(spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]),
        lowest=float(scan.array_zyx.min()),
        inside=inside[::every].astype(np.float32),
        values=values,
    )


def _labels(entry: Entry, scan: Scan) -> NDArray[np.integer]:
    """The label map in the order in which its scan stores voxels."""
    assert entry.label is not None
    label = read_scan(entry.label)
    try:
        return whole_labels((stored_like(label, placement(scan), scan.shape_xyz, "its scan") or label).array_zyx)
    except ValueError as error:
        raise DataError(f"{entry.label} {error}.") from error


def guess_modality(facts: Sequence[CaseFacts], known: str) -> Literal["CT", "MR"]:
    """CT, or MR for all that is none: what is known, else CT where most scans hold air in HU."""
    if known not in ("unknown", "mixed"):
        return "CT" if known == "CT" else "MR"
    with_air = sum(one.lowest <= SURELY_CT_BELOW for one in facts)
    return "CT" if 2 * with_air > len(facts) else "MR"


def classes_of(facts: Sequence[CaseFacts], names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Class to its label values: those found, by the names of the list; values of one name are one class.

    Raises:
        UsageError: no label map holds anything but background.
    """
    found = sorted({value for one in facts for value in one.values})
    if not found:
        raise UsageError("The label maps hold nothing but background (0).", "check that the list names the right files")
    classes: dict[str, tuple[int, ...]] = {}
    for value in found:
        name = names.get(str(value), f"label {value}")
        classes[name] = (*classes.get(name, ()), value)
    return classes


def draft(
    facts: Sequence[CaseFacts],
    classes: Mapping[str, tuple[int, ...]],
    modality: Literal["CT", "MR"],
    backbone: Backbone,
    whole_scans: bool = False,
    training: int | None = None,
    network: Network | None = None,
) -> Draft:
    """Settings by the medians of the scans.

    Args:
        whole_scans: a classification, which sees a scan at one size in place of patches.
        training: scans to train on, which the number of steps goes by; none is all.
        network: that of weights to start from, which sizes must suit; none is a network of ``backbone`` for the scans.
    """
    spacings = np.array([one.spacing_ras_mm for one in facts])
    common = _three(np.median(spacings, axis=0))
    equal = bool((spacings.max(axis=0) <= SAME_SPACING * spacings.min(axis=0)).all())
    shapes = np.array([one.shape_ras for one in facts])
    # Scans that are not resampled keep their sizes, whatever the digits of a rounded or 32-bit spacing are.
    extents = shapes if equal else shapes * spacings / common
    shape = np.median(extents, axis=0)
    levels = network.levels if network else 5 if shape.min() >= 64 else 4 if shape.min() >= 16 else 3
    size = _size(shape, network.multiple if network else _multiple(shape, backbone, levels), whole_scans)
    fresh_width = 48 if backbone == "swinunetr" else 32 if min(size) >= 64 else 16
    return Draft(
        spacing_mm=None if equal or whole_scans else common,
        window_hu=_window(facts) if modality == "CT" else None,
        size=size,
        levels=levels,
        feature_size=network.feature_size if network else fresh_width,
        steps=_steps(training or len(facts)),
        common_spacing_mm=common,
        common_shape=(round(shape[0]), round(shape[1]), round(shape[2])),
        spacings=tuple((float(low), float(high)) for low, high in zip(spacings.min(0), spacings.max(0), strict=True)),
        mixed_sides=any(SIDES.search(name) for name in classes),
        classes=dict(classes),
    )


def _window(facts: Sequence[CaseFacts]) -> tuple[int, int]:
    """Percentiles 0.5 and 99.5 of the voxels within labels, rounded outwards."""
    low, high = np.percentile(np.concatenate([one.inside for one in facts]), (0.5, 99.5))
    low = int(np.floor(low / WINDOW_STEP_HU)) * WINDOW_STEP_HU
    high = int(np.ceil(high / WINDOW_STEP_HU)) * WINDOW_STEP_HU
    widen = max(0, LEAST_WINDOW_HU - (high - low)) // 2
    return (low - widen, high + widen)


def _multiple(shape: NDArray[np.float64], backbone: Backbone, levels: int) -> int:
    """Of large scans the one that suits either network, so that other weights need no other patches."""
    return SWIN_MULTIPLE if backbone == "swinunetr" or shape.min() >= 64 else 2 ** (levels - 1)


def _size(shape: NDArray[np.float64], multiple: int, whole_scans: bool) -> SizeXYZ:
    """The scan's median size up to the next multiple, and not above what a GPU trains comfortably."""
    largest = max(1, (LARGEST_WHOLE_EDGE if whole_scans else LARGEST_EDGE) // multiple) * multiple
    x, y, z = (int(min(largest, max(1, np.ceil(n / multiple)) * multiple)) for n in shape)
    if (x, y, z) == (multiple, multiple, multiple):
        x = y = 2 * multiple  # one voxel at the last level would have no variance for its norm
    return (x, y, z)


def _steps(training: int) -> int:
    return int(np.clip(-(-PASSES * training // 2 // 100) * 100, *STEP_RANGE))


def _three(values: NDArray[np.float64]) -> FloatXYZ:
    """Three significant digits: more would say what headers do not know."""
    x, y, z = (float(f"{value:.3g}") for value in values)
    return (x, y, z)


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
