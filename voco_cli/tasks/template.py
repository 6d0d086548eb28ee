"""Settings for a data set of one's own, read off its scans: spacing, window, size of patches, classes, network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import read_saved
from voco_cli.config.backbones import BACKBONES, BackboneRules
from voco_cli.config.schema import Model
from voco_cli.data.cache.grid import axes_to_ras
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.label_pairing import grid_fault
from voco_cli.data.io.image import SURELY_CT_BELOW, Scan, placement, ras_affine, stored_like, whole_labels
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import DataError, UsageError

SETTINGS_FILE = "settings.yaml"
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
class Network:
    """The network of a task.

    Attributes:
        feature_size: channels of the first level.
        levels: each but the first halves the volume, in networks that are sized by them.
        size: depth of networks that are sized by it.
        weights: those that it was read off, as the user named them; empty for a fresh network.
    """

    backbone: str
    feature_size: int
    levels: int
    size: str = "L"
    weights: str = field(default="", compare=False)

    @property
    def rules(self) -> BackboneRules:
        """What the network asks of its settings."""
        return BACKBONES[self.backbone]

    @property
    def settings(self) -> dict[str, int | str]:
        """Settings of ``model`` that choose the network."""
        return {name: getattr(self, name) for name in ("backbone", "feature_size", *self.rules.sized_by)}

    @property
    def multiple(self) -> int:
        """Voxels that each edge of a patch must be a multiple of."""
        return self.rules.multiple(self.levels)


def network_of(weights: str, trust_pickle: bool = False) -> Network:
    """Return the network that weights were trained in.

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
        return Network(model.backbone, model.feature_size, model.levels, model.size, weights)
    from voco_cli.models.weights.read import read_weights

    found = read_weights(weights, trust_pickle=trust_pickle).architecture
    if found is None:
        raise UsageError(f"{weights} does not tell its network.", "`voco weights inspect` shows what it holds")
    if not found.is_ours:
        raise UsageError(
            f"{weights} is of {found.encoder_words}, and no task has such a network.",
            f"in Python it is {found.python_call()}",
        )
    model = Model(**found.settings())
    return Network(model.backbone, model.feature_size, model.levels, model.size, weights)


@dataclass(frozen=True)
class CaseFacts:
    """Facts of one scan and its label map.

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
class Template:
    """Preprocessing, network and training that suit some scans.

    Attributes:
        spacing_mm: none where all scans have one spacing.
        window_hu: of CT; none for percentiles.
        size: patch, or the whole scan of a classification, voxels.
        common_shape: median, for the comments.
        spacings: range of the spacings along each axis, for the comments.
        classes: to their label values.
    """

    spacing_mm: FloatXYZ | None
    window_hu: tuple[int, int] | None
    size: SizeXYZ
    network: Network
    steps: int
    common_shape: SizeXYZ
    spacings: tuple[tuple[float, float], ...]
    classes: Mapping[str, tuple[int, ...]]

    @property
    def mixed_sides(self) -> bool:
        """Whether names tell left from right, which a flip would mix up."""
        return any(SIDES.search(name) for name in self.classes)


def read_facts(entry: Entry, ignore_value: int | None = None) -> CaseFacts:
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
    """Read the label map in the order in which its scan stores voxels."""
    assert entry.label is not None
    label = read_scan(entry.label)
    try:
        return whole_labels((stored_like(label, placement(scan), scan.shape_xyz, "its scan") or label).array_zyx)
    except ValueError as error:
        raise DataError(f"{entry.label} {error}.") from error


def guess_modality(facts: Sequence[CaseFacts], known: str) -> Literal["CT", "MR"]:
    """Return CT, or MR for all that is none: what is known, else CT where most scans hold air in HU."""
    if known not in ("unknown", "mixed"):
        return "CT" if known == "CT" else "MR"
    with_air = sum(one.lowest <= SURELY_CT_BELOW for one in facts)
    return "CT" if 2 * with_air > len(facts) else "MR"


def classes_of(facts: Sequence[CaseFacts], names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the label values of each class: those found, by the names of the list; values of one name are one class.

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


def make_template(
    facts: Sequence[CaseFacts],
    classes: Mapping[str, tuple[int, ...]],
    modality: Literal["CT", "MR"],
    network: str | Network,
    whole_scans: bool = False,
    training: int | None = None,
) -> Template:
    """Choose settings by the medians of the scans.

    Args:
        network: that of weights to start from, which sizes must suit; or the kind of a fresh one, sized for the scans.
        whole_scans: a classification, which sees a scan at one size in place of patches.
        training: scans to train on, which the number of steps goes by; none is all.
    """
    spacings = np.array([one.spacing_ras_mm for one in facts])
    common = _three(np.median(spacings, axis=0))
    equal = bool((spacings.max(axis=0) <= SAME_SPACING * spacings.min(axis=0)).all())
    shapes = np.array([one.shape_ras for one in facts])
    # Scans that are not resampled keep their sizes, whatever the digits of a rounded or 32-bit spacing are.
    extents = shapes if equal else shapes * spacings / common
    shape = np.median(extents, axis=0)
    if isinstance(network, Network):
        size = _size(shape, network.multiple, whole_scans)
    else:
        levels = 5 if shape.min() >= 64 else 4 if shape.min() >= 16 else 3
        # Large scans get the multiple that suits every network, so that other weights need no other patches.
        suited = BACKBONES.values() if shape.min() >= 64 else [BACKBONES[network]]
        size = _size(shape, max(rules.multiple(levels) for rules in suited), whole_scans)
        network = Network(network, BACKBONES[network].draft_widths[min(size) >= 64], levels)
    return Template(
        spacing_mm=None if equal or whole_scans else common,
        window_hu=_window(facts) if modality == "CT" else None,
        size=size,
        network=network,
        steps=int(np.clip(-(-PASSES * (training or len(facts)) // 2 // 100) * 100, *STEP_RANGE)),
        common_shape=(round(shape[0]), round(shape[1]), round(shape[2])),
        spacings=tuple((float(low), float(high)) for low, high in zip(spacings.min(0), spacings.max(0), strict=True)),
        classes=dict(classes),
    )


def _window(facts: Sequence[CaseFacts]) -> tuple[int, int]:
    """Return percentiles 0.5 and 99.5 of the voxels within labels, rounded outwards."""
    low, high = np.percentile(np.concatenate([one.inside for one in facts]), (0.5, 99.5))
    low = int(np.floor(low / WINDOW_STEP_HU)) * WINDOW_STEP_HU
    high = int(np.ceil(high / WINDOW_STEP_HU)) * WINDOW_STEP_HU
    widen = max(0, LEAST_WINDOW_HU - (high - low)) // 2
    return (low - widen, high + widen)


def _size(shape: NDArray[np.float64], multiple: int, whole_scans: bool) -> SizeXYZ:
    """Return the scan's median size up to the next multiple, and not above what a GPU trains comfortably."""
    largest = max(1, (LARGEST_WHOLE_EDGE if whole_scans else LARGEST_EDGE) // multiple) * multiple
    x, y, z = (int(min(largest, max(1, np.ceil(n / multiple)) * multiple)) for n in shape)
    if (x, y, z) == (multiple, multiple, multiple):
        x = y = 2 * multiple  # one voxel at the last level would have no variance for its norm
    return (x, y, z)


def _three(values: NDArray[np.float64]) -> FloatXYZ:
    """Round to three significant digits: more would say what headers do not know."""
    x, y, z = (float(f"{value:.3g}") for value in values)
    return (x, y, z)
