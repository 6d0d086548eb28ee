"""Settings for a data set of one's own, read off its scans: spacing, window, size of patches, classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voco_cli.cache.orientation import axes_to_ras, ras_affine
from voco_cli.dataset.datalist import Entry
from voco_cli.dataset.pairing import grid_fault
from voco_cli.downstream.tasks.weights_network import SWIN_MULTIPLE, Backbone, Network
from voco_cli.errors import DataError, UsageError
from voco_cli.scans.hounsfield import SURELY_CT_BELOW
from voco_cli.scans.label_map import whole_labels
from voco_cli.scans.read import read_header, read_scan
from voco_cli.scans.scan import Scan
from voco_cli.scans.stored_like import placement, stored_like

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
