"""Crops and labels of one scan under the settings: computed, as a scene to be drawn, as a record to be printed.

S random crops, K base crops, N = S + K in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.data.cache.grid import taps_at
from voco_cli.data.cache.preprocess import Preprocessed, preprocess
from voco_cli.data.io.image import Scan
from voco_cli.errors import GeometryError, UsageError
from voco_cli.objectives.draws import AugmentDraws, draw_augmentation
from voco_cli.objectives.voco.crops import CropDraws, draw_crops

TIMES = "\N{MULTIPLICATION SIGN}"

IntTriple = tuple[int, int, int]


@dataclass(frozen=True)
class AugmentedCrops:
    """Crops as the network gets them.

    Attributes:
        crops_NXYZ: intensities, about [0, 1].
        captions: what was drawn for each crop, such as ``flip x, 90°, +0.03``.
    """

    crops_NXYZ: NDArray[np.float32]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class LabelScene:
    """One preprocessed scan, its base grid, and random crops with their labels.

    Attributes:
        name: of the scan, as it is to be shown.
        settings_line: recipe and seed, as they are to be shown.
        intensity_line: which window or percentiles became black and white.
        volume_xyz: intensities in [0, 1].
        spacing_mm: of its voxels.
        region_start: lower corner of the region of the grid in the volume.
        grid: base crops along each axis.
        base_size: size of a base crop.
        crop_size: size of a random crop.
        starts_S3: lower corners of the random crops in the volume.
        labels_SK: their position labels; k = (ix * gy + iy) * gz + iz.
        augmented: what the network gets, if that is to be shown.
    """

    name: str
    settings_line: str
    intensity_line: str
    volume_xyz: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    region_start: IntTriple
    grid: IntTriple
    base_size: IntTriple
    crop_size: IntTriple
    starts_S3: NDArray[np.int64]
    labels_SK: NDArray[np.float64]
    augmented: AugmentedCrops | None = None

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Return the size of the volume."""
        x, y, z = (n * step for n, step in zip(self.volume_xyz.shape, self.spacing_mm, strict=True))
        return (x, y, z)

    @property
    def region_size(self) -> IntTriple:
        """Return the size of the region that the base crops tile, voxels."""
        x, y, z = (count * edge for count, edge in zip(self.grid, self.base_size, strict=True))
        return (x, y, z)


@dataclass(frozen=True)
class BaseCrop:
    """A base crop: its number as shown, from 1, its place in the grid, its lower corner in the volume, voxels."""

    number: int
    place: IntTriple
    start: IntTriple


@dataclass(frozen=True)
class Piece:
    """The part of a random crop that lies in one base crop: box in the volume, voxels, and its share of the crop."""

    base: BaseCrop
    low: IntTriple
    size: IntTriple
    share: float


def base_crops(scene: LabelScene, layer: int | None = None) -> list[BaseCrop]:
    """Return the base crops, or those of one layer of the grid, in the order of the labels."""
    found = []
    for number, place in enumerate(np.ndindex(*scene.grid), start=1):
        corner = np.asarray(scene.region_start) + np.asarray(place) * np.asarray(scene.base_size)
        if layer in (None, place[2]):
            found.append(BaseCrop(number, _triple(place), _triple(corner)))
    return found


def pieces(scene: LabelScene, crop: int) -> list[Piece]:
    """Return where random crop ``crop`` overlaps the base crops, with the shares of its label."""
    start, found = scene.starts_S3[crop], []
    for base, share in zip(base_crops(scene), scene.labels_SK[crop], strict=True):
        low = np.maximum(start, base.start)
        size = np.minimum(start + scene.crop_size, np.add(base.start, scene.base_size)) - low
        if share > 0 and (size > 0).all():
            found.append(Piece(base, _triple(low), _triple(size), float(share)))
    return found


def layer_slices(scene: LabelScene) -> list[int]:
    """Return for each layer of the grid the axial slice, an index of z, in its middle."""
    first = scene.region_start[2] + scene.base_size[2] // 2
    return [first + layer * scene.base_size[2] for layer in range(scene.grid[2])]


def summary_line(scene: LabelScene) -> str:
    """Return sizes and intensities in one line, as printed under the title."""
    grid = scene.grid if scene.grid[2] > 1 else scene.grid[:2]
    return (
        f"{scene.settings_line} · volume {times(scene.volume_xyz.shape)} voxels of {spacing_text(scene)} mm · "
        f"grid {times(grid)} of {times(scene.base_size)} · random crops {times(scene.crop_size)} · "
        f"{scene.intensity_line}"
    )


def crop_name(index: int) -> str:
    """Return r1, r2, ... for 0, 1, ...: neither a base crop's number nor a letter of the patient's sides."""
    return f"r{index + 1}"


def share_text(share: float) -> str:
    """Return a share in percent: whole numbers, but never 0 % or 100 % for what is merely close to it."""
    if share < 0.01:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def crop_title(scene: LabelScene, crop: int) -> str:
    """Return name and centre of a random crop."""
    centre = scene.starts_S3[crop] + np.asarray(scene.crop_size) // 2
    return f"{crop_name(crop)}  centre ({', '.join(str(int(place)) for place in centre)})"


def times(size: tuple[int, ...]) -> str:
    """Return a size as people write it."""
    return TIMES.join(str(edge) for edge in size)


def spacing_text(scene: LabelScene) -> str:
    """Return the spacing of a scan as people write it, without the unit."""
    return TIMES.join(f"{step:.3g}" for step in scene.spacing_mm)


def _triple(values: Any) -> IntTriple:
    x, y, z = (int(value) for value in values)
    return (x, y, z)


FIRST_STEP = 0


@dataclass(frozen=True)
class LabelPreview:
    """Crops and labels of one case.

    Attributes:
        case: name that the random draws depend on.
        settings: everything else that they depend on.
        volume: the preprocessed scan.
        crops: where the crops lie, and their labels.
    """

    case: str
    settings: Settings
    volume: Preprocessed
    crops: CropDraws

    @property
    def changes(self) -> AugmentDraws:
        """Draw the augmentation of all crops, the same at every call."""
        count = len(self.crops.starts_N3)
        return draw_augmentation(self.settings.seed, FIRST_STEP, self.case, count, self.settings.augment)


def preview_scan(scan: Scan, settings: Settings, centres: Sequence[Sequence[int]] = ()) -> LabelPreview:
    """Preprocess a scan and draw the crops of the first step, or cut crops around ``centres``.

    Args:
        centres: (x, y) or (x, y, z), voxels of the preprocessed volume; without z a crop lies half way up the grid.
    Raises:
        UsageError: the grid does not fit the volume, or a centre lies too near to the edge of the grid.
        DataError: the scan cannot be preprocessed.
    """
    volume = preprocess(scan, settings.preprocess)
    case, shape = scan.path.name, volume.array_xyz.shape
    try:
        crops = draw_crops(settings.seed, FIRST_STEP, case, shape, settings.crops)
        if centres:
            inside = [_in_region(centre, crops.region_start_3.tolist(), settings) for centre in centres]
            crops = draw_crops(settings.seed, FIRST_STEP, case, shape, settings.crops, inside)
    except GeometryError as error:
        # The scan is sound: it is the settings that do not suit it.
        raise UsageError(error.message, error.hint) from error
    return LabelPreview(case, settings, volume, crops)


def _in_region(centre: Sequence[int], region_start: Sequence[int], settings: Settings) -> list[int]:
    """Turn a centre in the volume into one in the region of the grid."""
    size, region = settings.crops.size, settings.crops.region_vox
    inside = [place - start for place, start in zip(centre, region_start, strict=False)]
    if len(inside) == 2:
        inside.append((region[2] - size[2]) // 2 + size[2] // 2)
    floored = settings.crops.odd_box == "floored"
    for axis, place in enumerate(inside):
        # What must fit is the box of the label, which the released code rounds down to an even size.
        box = size[axis] // 2 * 2 if floored else size[axis]
        least, most = size[axis] // 2, region[axis] - box + size[axis] // 2
        if not least <= place <= most:
            given = ",".join(map(str, centre))
            raise UsageError(
                f"--at {given} puts a crop of {size[axis]} voxels along {'xyz'[axis]} partly outside the grid.",
                f"choose {'xyz'[axis]} between {least + region_start[axis]} and {most + region_start[axis]}",
            )
    return inside


def network_crops(preview: LabelPreview) -> AugmentedCrops:
    """Return all crops after everything that training does to them, the 256 steps of the cache included.

    Training does the same with tensors (`voco_cli.objectives.augment.network_input`); to load torch takes long.
    """
    changes, crops, settings = preview.changes, preview.crops, preview.settings.crops
    num_random, shown = len(crops.centres_S3), []
    for number, start in enumerate(crops.starts_N3 + crops.region_start_3):
        size = settings.size if number < num_random else settings.base_size_vox
        box = tuple(slice(low, low + edge) for low, edge in zip(start.tolist(), size, strict=True))
        stored = np.rint(preview.volume.array_xyz[box] * 255).astype(np.uint8)
        turned = np.rot90(np.flip(stored, tuple(np.flatnonzero(changes.flips_N3[number]))), changes.turns_N[number])
        crop = resized(turned * np.float32(1 / 255), settings.network_size_vox)
        shown.append(crop + changes.shifts_N[number])
    captions = tuple(caption(changes, number) for number in range(len(shown)))
    return AugmentedCrops(np.stack(shown), captions)


def resized(crop_XYZ: NDArray[np.float32], size_xyz: Sequence[int]) -> NDArray[np.float32]:
    """Interpolate linearly, axis by axis, corners on corners, as the crops of a training are resized."""
    for axis, edge in enumerate(size_xyz):
        taps = taps_at(np.linspace(0, crop_XYZ.shape[axis] - 1, edge), crop_XYZ.shape[axis])
        weight = np.expand_dims(taps.weight, [other for other in range(3) if other != axis])
        lower, upper = crop_XYZ.take(taps.lower, axis), crop_XYZ.take(taps.upper, axis)
        crop_XYZ = (1 - weight) * lower + weight * upper
    return crop_XYZ


def caption(changes: AugmentDraws, number: int) -> str:
    """Return in words what was drawn for a crop, such as ``flip xz 90° +0.031``."""
    flipped = "".join(axis for axis, flip in zip("xyz", changes.flips_N3[number], strict=True) if flip)
    turn, shift = int(changes.turns_N[number]) * 90, float(changes.shifts_N[number])
    parts = (f"flip {flipped}" if flipped else "", f"{turn}°" if turn else "", f"{shift:+.3f}" if shift else "")
    return " ".join(part for part in parts if part) or "unchanged"


def label_scene(preview: LabelPreview, augmented: AugmentedCrops | None = None) -> LabelScene:
    """Return the preview as plain arrays in voxels of the volume, ready to be drawn."""
    settings, crops = preview.settings, preview.crops
    start = crops.region_start_3.tolist()
    return LabelScene(
        name=preview.case,
        settings_line=f"recipe {settings.recipe} · seed {settings.seed}",
        intensity_line=intensity_line(settings),
        volume_xyz=preview.volume.array_xyz,
        spacing_mm=preview.volume.spacing_mm,
        region_start=(start[0], start[1], start[2]),
        grid=settings.crops.grid_xyz,
        base_size=settings.crops.base_size_vox,
        crop_size=settings.crops.size,
        starts_S3=crops.starts_N3[: len(crops.centres_S3)] + crops.region_start_3,
        labels_SK=crops.labels_SK,
        augmented=augmented,
    )


def intensity_line(settings: Settings) -> str:
    """Return in words which window or percentiles of a scan are black and white."""
    low, high = settings.preprocess.window_hu
    if settings.preprocess.intensity == "window":
        return f"window {low:g} to {high:g} HU".replace("-", "\N{MINUS SIGN}")
    low, high = settings.preprocess.percentiles
    return f"window: percentiles {low:g} to {high:g} of the scan"


def preview_record(preview: LabelPreview, augmented: bool) -> dict[str, Any]:
    """Return the preview for machines: places in voxels of the volume, labels in the order of the base crops."""
    settings, crops = preview.settings, preview.crops
    centres_S3 = crops.centres_S3 + crops.region_start_3
    starts_N3 = (crops.starts_N3 + crops.region_start_3).tolist()
    num_random = len(centres_S3)
    record: dict[str, Any] = {
        "recipe": settings.recipe,
        "seed": settings.seed,
        "volume_shape": list(preview.volume.array_xyz.shape),
        "spacing_mm": list(preview.volume.spacing_mm),
        "grid": list(settings.crops.grid),
        "crop_size": list(settings.crops.size),
        "base_size": list(settings.crops.base_size_vox),
        "region_start": crops.region_start_3.tolist(),
        "bases": [{"number": number, "start": start} for number, start in enumerate(starts_N3[num_random:], start=1)],
        "crops": [
            {"name": crop_name(number), "centre": centre, "start": starts_N3[number], "labels": labels}
            for number, (centre, labels) in enumerate(zip(centres_S3.tolist(), crops.labels_SK.tolist(), strict=True))
        ],
    }
    if augmented:
        changes = preview.changes
        drawn = zip(changes.flips_N3.tolist(), changes.turns_N.tolist(), changes.shifts_N.tolist(), strict=True)
        for entry, (flip, turns, shift) in zip([*record["crops"], *record["bases"]], drawn, strict=True):
            entry["augmentation"] = {"flip": flip, "quarter_turns": turns, "shift": shift}
    return record
