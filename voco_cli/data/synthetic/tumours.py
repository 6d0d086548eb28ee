"""Paint tumours into organs: place, push the tissue aside, paint texture and capsule, label.

Pure functions of arrays, replayable from a generator; the rules, their constants and sources are in `TumourRules`.
Differs from its sources in the order: the tissue is pushed aside before a tumour is painted, not with it, so that a
label map holds exactly the shape that was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.config.tumour_schema import TumourRules, TumourSize
from voco_cli.data.synthetic.tumour_parts import (
    FloatArray,
    Triple,
    Tumour,
    Voxel,
    capsule_hu,
    covered,
    cut_texture,
    draw_tumour,
    outline_mm,
    reads_at,
    rim_mm,
    texture_tile,
)

Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class PaintedTumour:
    """A tumour in its place.

    Attributes:
        tumour: its shape, texture and contrast.
        organ: name of the organ.
        centre: voxel of the painted array.
        voxels, volume_ml: of its label.
        drop_hu: mean of its organ's voxels before anything was painted, less the mean of its labelled voxels after;
            negative where it is lighter than the organ.
    """

    tumour: Tumour
    organ: str
    centre: Voxel
    voxels: int = 0
    volume_ml: float = 0.0
    drop_hu: float = 0.0


@dataclass(frozen=True)
class Painting:
    """A scan with painted tumours.

    Attributes:
        image_hu: float32; voxels that no tumour reaches are as they were.
        labels: of the kind of the label map that was given.
        tumours: in the order in which they were painted.
        unplaced_mm: radii of those that no place was found for.
    """

    image_hu: FloatArray
    labels: NDArray[Any]
    tumours: tuple[PaintedTumour, ...]
    unplaced_mm: tuple[float, ...] = ()


@dataclass(frozen=True)
class Canvas:
    """Arrays that are painted on, all of one shape, copies of what was given.

    Attributes:
        organs: name of each organ to its label values.
        lesion: label value of a tumour.
        vessels: voxels that no tumour may touch.
        mean_hu: of each organ.
    """

    image_hu: FloatArray
    labels: NDArray[Any]
    vessels: Mask
    spacing_mm: Triple
    organs: Mapping[str, tuple[int, ...]]
    lesion: int
    mean_hu: Mapping[str, float]
    rules: TumourRules

    def is_organ(self, organ: str, box: Box | tuple[()] = ()) -> Mask:
        """Return where an organ lies, in the whole or in a box."""
        return is_any(self.labels[box], self.organs[organ])


def is_any(labels: NDArray[Any], values: Sequence[int]) -> Mask:
    """Return where a label map has one of a few values."""
    found = np.zeros(labels.shape, bool)
    for value in values:
        found |= labels == value
    return found


def draw_radii(rng: np.random.Generator, sizes: Sequence[TumourSize], mixed: float) -> list[float]:
    """Draw the nominal radii of the tumours of a scan or patch, mm, the largest first, as it is hardest to place.

    Args:
        sizes: one class of sizes serves all, each with equal chance.
        mixed: chance that each tumour has a class of its own; then there are as many as the first that was drawn has.
    """
    chosen = sizes[int(rng.integers(len(sizes)))]
    is_mixed = rng.random() < mixed
    classes = [
        sizes[int(rng.integers(len(sizes)))] if is_mixed else chosen
        for _ in range(rng.integers(chosen.number[0], chosen.number[1] + 1))
    ]
    return sorted((float(rng.uniform(*one.radius_mm)) for one in classes), reverse=True)


def prepare(
    image_hu: NDArray[Any],
    labels: NDArray[Any],
    spacing_mm: Triple,
    organs: Mapping[str, Sequence[int]],
    lesion: int,
    rules: TumourRules,
) -> Canvas:
    """Copy a scan and its label map to be painted on, and find the vessels of its organs.

    Args:
        image_hu, labels: of one shape, in any order of axes.
        spacing_mm: in that order.
        organs: name to label values.
        lesion: label value of tumours, which the label map's number format must hold.
    """
    image = image_hu.astype(np.float32)
    vessels, means = np.zeros(image.shape, bool), {}
    for name, values in organs.items():
        inside = is_any(labels, values)
        box = box_around(inside, (4, 4, 4))
        if box is None:
            continue
        own = image[box][inside[box]]
        means[name] = float(own.mean())
        blur = rules.vessel_blur[0] + rules.vessel_blur[1] * float(own.std())
        smooth = ndimage.gaussian_filter(image[box], blur, truncate=3.0)
        vessels[box] |= inside[box] & (smooth > means[name] + rules.vessel_above_hu)
    held = {name: tuple(values) for name, values in organs.items() if name in means}
    return Canvas(image, labels.copy(), vessels, spacing_mm, held, lesion, means, rules)


def box_around(mask: Mask, margin_vox: Sequence[int]) -> Box | None:
    """Return the box of a mask, widened and cut to the array; none where it is empty."""
    found: list[slice] = []
    for axis, (margin, size) in enumerate(zip(margin_vox, mask.shape, strict=True)):
        held = np.flatnonzero(mask.any(axis=tuple(one for one in range(3) if one != axis)))
        if not held.size:
            return None
        found.append(slice(max(0, int(held[0]) - margin), min(size, int(held[-1]) + 1 + margin)))
    return (found[0], found[1], found[2])


def paint_tumours(
    canvas: Canvas, radii_mm: Sequence[float], rng: np.random.Generator, within: Box | None = None
) -> Painting:
    """Paint tumours of these nominal radii, each into an organ that is drawn by its volume.

    A tumour that is larger than all of its organ, or finds no place in ``rules.tries`` tries, is left out and counted.

    Args:
        canvas: is painted on.
        within: part of the array in which the middles lie; none is all.
    """
    places = {name: possible_places(canvas, name, within) for name in canvas.organs}
    names = [name for name, found in places.items() if found.size]
    volumes = np.array([places[name].size for name in names], float)
    painted: list[PaintedTumour] = []
    unplaced: list[float] = []
    for radius_mm in radii_mm:
        if not names:
            unplaced.append(radius_mm)
            continue
        organ = names[rng.choice(len(names), p=volumes / volumes.sum())]
        tumour = draw_tumour(rng, radius_mm, canvas.rules, organ)
        outline = outline_mm(tumour, canvas.spacing_mm)
        centre = find_place(canvas, tumour, outline, places[organ], organ, rng)
        if centre is None:
            unplaced.append(radius_mm)
        else:
            painted.append(paint_one(canvas, PaintedTumour(tumour, organ, centre), outline))
    return Painting(canvas.image_hu, canvas.labels, tuple(painted), tuple(unplaced))


def repaint(canvas: Canvas, tumours: Sequence[PaintedTumour]) -> Painting:
    """Paint tumours again where they were."""
    again = [paint_one(canvas, one, outline_mm(one.tumour, canvas.spacing_mm)) for one in tumours]
    return Painting(canvas.image_hu, canvas.labels, tuple(again))


def possible_places(canvas: Canvas, organ: str, within: Box | None) -> NDArray[np.intp]:
    """Return voxels, as flat indices, in which the middle of a tumour may lie, before vessels are looked at."""
    rules = canvas.rules
    inside = canvas.is_organ(organ)
    held = np.flatnonzero(inside.any(axis=(0, 1)))
    if not held.size:
        return held
    low, high = (held[0] + share * (held[-1] - held[0]) for share in rules.middle)
    box = (slice(None), slice(None), slice(int(np.ceil(low)), int(np.floor(high)) + 1))
    inset = [round(rules.inset_mm / step) for step in canvas.spacing_mm[:2]]
    cut = inside[box]
    if any(inset):
        cut = ndimage.minimum_filter(cut, size=(2 * inset[0] + 1, 2 * inset[1] + 1, 1), mode="nearest")
    allowed = np.zeros_like(inside)
    allowed[box] = cut
    if within is not None:
        inner = np.zeros_like(inside)
        inner[within] = allowed[within]
        allowed = inner
    return np.flatnonzero(allowed)


def find_place(
    canvas: Canvas,
    tumour: Tumour,
    outline: FloatArray,
    places: NDArray[np.intp],
    organ: str,
    rng: np.random.Generator,
) -> Voxel | None:
    """Draw places until the tumour, with its blurred border, touches no vessel and pushes no other tumour; else none.

    Source [2] asks for a box of twice the radius without a vessel, from which uneven shapes reach out.
    """
    step_mm = canvas.spacing_mm
    if 4 / 3 * np.pi * tumour.radius_mm**3 > int(canvas.is_organ(organ).sum()) * np.prod(step_mm):
        return None
    touches = outline < rim_mm(tumour, step_mm)
    reach = [int(np.ceil(canvas.rules.reach * tumour.radius_mm / step)) for step in step_mm]
    lesion = canvas.labels == canvas.lesion
    has_lesions = bool(lesion.any())
    for flat in places[rng.integers(len(places), size=canvas.rules.tries)]:
        centre = _voxel(np.unravel_index(flat, canvas.labels.shape))
        if canvas.vessels[centre] or not canvas.is_organ(organ, _box_at(centre, (0, 0, 0), lesion.shape)[0]).any():
            continue
        box, part = _box_at(centre, [size // 2 for size in outline.shape], lesion.shape)
        if (canvas.vessels[box] & touches[part]).any():
            continue
        pushed, _ = _box_at(centre, reach, lesion.shape)
        if has_lesions and (lesion[pushed].any() or (lesion[box] & touches[part]).any()):
            continue
        return centre
    return None


def _voxel(place: Sequence[Any]) -> Voxel:
    x, y, z = (int(index) for index in place)
    return (x, y, z)


def _box_at(centre: Voxel, half: Sequence[int], shape: Sequence[int]) -> tuple[Box, Box]:
    """Return the part of an array within ``half`` voxels of a place, and that part of a box around the place."""
    outer, inner = [], []
    for middle, reach, size in zip(centre, half, shape, strict=True):
        low, high = max(0, middle - reach), min(size, middle + reach + 1)
        outer.append(slice(low, high))
        inner.append(slice(low - middle + reach, high - middle + reach))
    return (outer[0], outer[1], outer[2]), (inner[0], inner[1], inner[2])


def push_aside(canvas: Canvas, centre: Voxel, radius_mm: float) -> None:
    """Push the tissue around a place outwards: image by linear interpolation, labels and vessels by the nearest voxel.

    Nothing beyond the reach moves, and every voxel reads one nearer to the middle.
    """
    reach_mm = canvas.rules.reach * radius_mm
    half = [int(np.ceil(reach_mm / step)) for step in canvas.spacing_mm]
    box, _ = _box_at(centre, half, canvas.labels.shape)
    axes = [np.arange(one.start, one.stop, dtype=np.float32) - middle for one, middle in zip(box, centre, strict=True)]
    squares = [np.square(axis * np.float32(step)) for axis, step in zip(axes, canvas.spacing_mm, strict=True)]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    moved = np.nonzero(distance < reach_mm)
    share = reads_at(distance[moved], reach_mm, canvas.rules.push).astype(np.float32)
    from_P3 = [
        share * axis[place] + np.float32(middle - one.start)
        for axis, place, middle, one in zip(axes, moved, centre, box, strict=True)
    ]
    image = canvas.image_hu[box]
    image[moved] = ndimage.map_coordinates(image, from_P3, order=1, mode="nearest")
    nearest = tuple(np.rint(one).astype(np.intp) for one in from_P3)
    for whole in (canvas.labels, canvas.vessels):
        part = whole[box]
        part[moved] = part[nearest]


def paint_one(canvas: Canvas, one: PaintedTumour, outline: FloatArray) -> PaintedTumour:
    """Push the tissue aside, paint a tumour inside its organ, and label it; return it with what came of it."""
    tumour, rules = one.tumour, canvas.rules
    push_aside(canvas, one.centre, tumour.radius_mm)
    box, part = _box_at(one.centre, [size // 2 for size in outline.shape], canvas.labels.shape)
    inside, outline = canvas.is_organ(one.organ, box), outline[part]
    tile = texture_tile(tumour.texture, canvas.spacing_mm, rules)
    contrast = contrast_hu(tumour, canvas.mean_hu[one.organ], float(tile.mean()), rules)
    change = capsule_hu(outline, tumour, rules, canvas.spacing_mm)
    change -= (
        covered(outline, tumour, canvas.spacing_mm) * np.float32(contrast) * cut_texture(tile, tumour, outline.shape)
    )
    canvas.image_hu[box][inside] += change[inside]
    label = inside & (outline < 0)
    canvas.labels[box][label] = canvas.lesion
    voxels = int(label.sum())
    volume_ml = voxels * float(np.prod(canvas.spacing_mm)) / 1000
    painted_hu = float(canvas.image_hu[box][label].mean(dtype=np.float64)) if voxels else canvas.mean_hu[one.organ]
    return replace(one, voxels=voxels, volume_ml=volume_ml, drop_hu=canvas.mean_hu[one.organ] - painted_hu)


def contrast_hu(tumour: Tumour, organ_hu: float, tile_mean: float, rules: TumourRules) -> float:
    """Return what is subtracted where the texture is 1, so that the texture alone keeps to the least mean and drop, HU.

    Args:
        organ_hu: mean of the organ.
        tile_mean: mean of the tile of texture.
    """
    most = max(rules.least_drop_hu, organ_hu - rules.least_mean_hu)
    return float(np.clip(tumour.contrast_hu, rules.least_drop_hu / tile_mean, most / tile_mean))


def tumour_voxels(labels: NDArray[Any], lesion: int, one: PaintedTumour, spacing_mm: Triple) -> tuple[Box, Mask]:
    """Return a box of a painted label map, and where in it one of its tumours is."""
    outline = outline_mm(one.tumour, spacing_mm)
    box, part = _box_at(one.centre, [size // 2 for size in outline.shape], labels.shape)
    return box, (outline[part] < 0) & (labels[box] == lesion)
