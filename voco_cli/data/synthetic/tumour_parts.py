"""The parts of a painted tumour, each a pure function of arrays: outline, texture, mass effect.

Boxes are centred on the tumour's middle voxel; axes are those of the scan, lengths are mm. Constants and their sources:
`TumourRules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtr, ndtri

from voco_cli.config.tumour_schema import TumourRules

Triple = tuple[float, float, float]
Voxel = tuple[int, int, int]
FloatArray = NDArray[np.float32]

FINEST = 33
"""Points of the coarse grid along an axis on which the outline is computed, before it is zoomed once."""
MOST_UNEVEN = 2.0
"""The noise of the surface is cut at so many of its standard deviations."""
OUTLINE_DIRECTIONS = 400
FAR_SDS = 3.0
"""Beyond so many standard deviations of its blur a border is not seen."""


@dataclass(frozen=True)
class Tumour:
    """Everything random about one tumour but its place.

    Attributes:
        radius_mm: nominal.
        half_axes_mm: of the ellipsoid.
        unevenness: standard deviation of the noise of the surface, of the radius.
        waves_W3, phases_W: the noise: sum of cosines over the direction from the middle.
        edge_mm: standard deviation of the blur of the border.
        contrast_hu: what is subtracted where the texture is 1.
        texture: number of the tile of texture.
        corner: where the tile is cut, as a share of its edge.
        mirrored: axes along which the cut is mirrored.
        capsule_hu: of the capsule; 0 is none.
    """

    radius_mm: float
    half_axes_mm: Triple
    unevenness: float
    waves_W3: NDArray[np.float64]
    phases_W: NDArray[np.float64]
    edge_mm: float
    contrast_hu: float
    texture: int
    corner: Triple
    mirrored: tuple[bool, bool, bool]
    capsule_hu: float


def draw_tumour(rng: np.random.Generator, radius_mm: float, rules: TumourRules, organ: str = "") -> Tumour:
    """Draw a tumour of a nominal radius in an organ, whose name may have a contrast of its own."""
    half_axes = rng.uniform(*rules.half_axes, 3) * radius_mm
    contrast = next((one.contrast_hu for one in rules.organ_contrasts if one.organ == organ), rules.contrast_hu)
    return Tumour(
        radius_mm=radius_mm,
        half_axes_mm=_triple(half_axes),
        unevenness=float(rng.uniform(*rules.unevenness)),
        waves_W3=rng.normal(0.0, rules.wave_number, (rules.waves, 3)),
        phases_W=rng.uniform(0.0, 2 * np.pi, rules.waves),
        edge_mm=float(rng.uniform(*rules.edge_mm)),
        contrast_hu=float(rng.uniform(*contrast)),
        texture=int(rng.integers(num_textures(rules))),
        corner=_triple(rng.random(3)),
        mirrored=_flags(rng.random(3) < 0.5),
        capsule_hu=rules.capsule_hu if rng.random() < rules.capsule_share else 0.0,
    )


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def _flags(values: NDArray[np.bool_]) -> tuple[bool, bool, bool]:
    x, y, z = (bool(value) for value in values)
    return (x, y, z)


def surface_mm(tumour: Tumour, directions_N3: NDArray[np.floating[Any]]) -> FloatArray:
    """Return how far the surface is from the middle in each direction of length 1, mm: ellipsoid, and noise on it.

    There is one surface in each direction, so that tissue which is pushed outwards never enters the tumour.
    """
    directions = directions_N3.astype(np.float32)
    ellipsoid = 1 / np.sqrt((directions**2) @ (1 / np.square(tumour.half_axes_mm)).astype(np.float32))
    waves = np.cos(directions @ tumour.waves_W3.T.astype(np.float32) + tumour.phases_W.astype(np.float32))
    noise = waves.sum(axis=-1) * np.float32(np.sqrt(2 / len(tumour.phases_W)))
    uneven = np.float32(1) + np.float32(tumour.unevenness) * np.clip(noise, -MOST_UNEVEN, MOST_UNEVEN)
    return np.asarray(ellipsoid * uneven, np.float32)


def outline_mm(tumour: Tumour, spacing_mm: Triple) -> FloatArray:
    """Return the distance of each voxel of the tumour's box from its surface along the ray from the middle, mm.

    It is negative inside. The box has an odd number of voxels along each axis and holds the tumour with its blurred
    border. Computed on a coarse grid and zoomed once, linearly: the distance is smooth where it matters.

    Differs from source [1], which bends a mask with three elastic grids: the same sizes of bumps, a hundredth of the
    time, and no voxel that is cut off.
    """
    widest_mm = extent_mm(tumour) + rim_mm(tumour, spacing_mm)
    half = [max(1, int(np.ceil(wide / step))) for wide, step in zip(widest_mm, spacing_mm, strict=True)]
    sizes = [2 * count + 1 for count in half]
    points = [min(size, FINEST) for size in sizes]
    axes = [
        np.linspace(-count * step, count * step, number, dtype=np.float32)
        for count, step, number in zip(half, spacing_mm, points, strict=True)
    ]
    offsets_XYZ3 = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = np.sqrt((offsets_XYZ3**2).sum(axis=-1))
    directions = offsets_XYZ3 / np.maximum(distance, np.float32(1e-6))[..., None]
    middle = distance < 1e-6
    directions[middle] = (1.0, 0.0, 0.0)
    return _zoomed(distance - surface_mm(tumour, directions), sizes)


def extent_mm(tumour: Tumour) -> NDArray[np.float64]:
    """Return how far the surface reaches from the middle along each axis, mm."""
    number = np.arange(OUTLINE_DIRECTIONS) + 0.5
    z, turn = 1 - 2 * number / OUTLINE_DIRECTIONS, np.pi * (1 + 5**0.5) * number  # a spiral over the sphere
    flat = np.sqrt(1 - z**2)
    directions_N3 = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    return np.asarray(np.abs(directions_N3 * surface_mm(tumour, directions_N3)[:, None]).max(axis=0) * 1.05)


def rim_mm(tumour: Tumour, spacing_mm: Triple) -> float:
    """Return the distance from the surface at which nothing is painted any more, mm."""
    return FAR_SDS * border_sd_mm(tumour.edge_mm, spacing_mm)


def border_sd_mm(blur_mm: float, spacing_mm: Triple) -> float:
    """Return the blur of a border on a grid: its own, and that of a voxel, which averages over its edge, mm."""
    return float(np.sqrt(blur_mm**2 + np.mean(np.square(spacing_mm)) / 12))


def _zoomed(coarse: FloatArray, sizes: Sequence[int]) -> FloatArray:
    """Interpolate linearly to more points with the same ends."""
    for axis, size in enumerate(sizes):
        if size != coarse.shape[axis]:
            matrix = _interpolation(coarse.shape[axis], size)
            coarse = np.moveaxis(np.tensordot(matrix, coarse, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(coarse)


def _interpolation(few: int, many: int) -> FloatArray:
    """Return the matrix from values at few places to values at many."""
    place = np.linspace(0, few - 1, many)
    low = np.minimum(place.astype(int), few - 2)
    matrix = np.zeros((many, few), np.float32)
    rows = np.arange(many)
    matrix[rows, low], matrix[rows, low + 1] = low + 1 - place, place - low
    return matrix


def covered(outline: FloatArray, tumour: Tumour, spacing_mm: Triple) -> FloatArray:
    """Return how much of each voxel is tumour, in [0, 1]; 0.5 at the surface.

    The profile of a border that was blurred by ``edge_mm``: a normal distribution, where the surface is flat. Source
    [2] blurs the mask; this needs no filter and is right at any spacing.
    """
    sd = np.float32(border_sd_mm(tumour.edge_mm, spacing_mm))
    share = (outline < 0).astype(np.float32)
    near = np.abs(outline) < FAR_SDS * sd
    share[near] = ndtr(-outline[near] / sd)
    return share


def capsule_hu(outline: FloatArray, tumour: Tumour, rules: TumourRules, spacing_mm: Triple) -> FloatArray:
    """Return what the capsule adds to each voxel, HU: the band of the border in ``capsule_band``, blurred in turn."""
    added = np.zeros_like(outline)
    if not tumour.capsule_hu:
        return added
    inner, outer = (float(-ndtri(share)) * tumour.edge_mm for share in rules.capsule_band[::-1])
    sd = border_sd_mm(rules.capsule_blur_mm, spacing_mm)
    near = (outline > inner - FAR_SDS * sd) & (outline < outer + FAR_SDS * sd)
    away = outline[near]
    added[near] = tumour.capsule_hu * (ndtr((away - inner) / sd) - ndtr((away - outer) / sd))
    return added


def num_textures(rules: TumourRules) -> int:
    """Return how many tiles of texture there are: one for each pair of scales."""
    return len(rules.grain_mm) * len(rules.patches_mm)


def texture_tile(number: int, spacing_mm: Triple, rules: TumourRules) -> FloatArray:
    """Return a tile of texture in [0, 1], grain of two scales; made once in a process, the same in every process.

    White noise is blurred to patches; where they are dense, specks are drawn more often; these are blurred to grain,
    and scaled. Blurred in a ring, so that the tile repeats without a seam. Source: [1].

    Args:
        number: which pair of scales, below `num_textures`.
    """
    rounded = tuple(round(step, 3) for step in spacing_mm)
    made_of = (rules.tile_vox, rules.density, rules.density_range, rules.texture_mean, rules.texture_from)
    scales = (rules.patches_mm[number % len(rules.patches_mm)], rules.grain_mm[number // len(rules.patches_mm)])
    return _tile(number, rounded, scales, *made_of)


@lru_cache(maxsize=32)
def _tile(
    number: int,
    spacing_mm: tuple[float, ...],
    scales_mm: tuple[float, float],
    edge_vox: int,
    density: tuple[float, float],
    density_range: tuple[float, float],
    mean: tuple[float, float],
    counted_from: float,
) -> FloatArray:
    rng = np.random.default_rng([number, edge_vox])
    patches_mm, grain_mm = scales_mm
    patches = _blurred_ring(rng.random((edge_vox,) * 3, np.float32), patches_mm, spacing_mm)
    patches -= patches.min()
    patches *= np.float32(rng.uniform(*density_range)) / max(patches.max(), np.float32(1e-6))
    patches += np.float32(rng.uniform(*density))
    specks = (rng.random((edge_vox,) * 3, np.float32) < patches).astype(np.float32)
    grain = _blurred_ring(specks, grain_mm, spacing_mm)
    grain *= np.float32(rng.uniform(*mean)) / grain[grain > counted_from].mean()
    tile = np.clip(grain, 0, 1)
    tile.setflags(write=False)
    return np.asarray(tile)


def _blurred_ring(noise: FloatArray, sd_mm: float, spacing_mm: Sequence[float]) -> FloatArray:
    """Blur a volume whose opposite faces meet."""
    spectrum = fft.rfftn(noise)
    for axis, (size, step) in enumerate(zip(noise.shape, spacing_mm, strict=True)):
        frequency = fft.rfftfreq(size) if axis == 2 else fft.fftfreq(size)
        keeps = np.exp(-2 * (np.pi * frequency * sd_mm / step) ** 2).astype(np.float32)
        spectrum *= keeps.reshape([-1 if one == axis else 1 for one in range(3)])
    return np.asarray(fft.irfftn(spectrum, noise.shape), np.float32)


def cut_texture(tile: FloatArray, tumour: Tumour, shape: Sequence[int]) -> FloatArray:
    """Return a part of a tile as large as the tumour's box, mirrored or not; a larger box goes round the tile."""
    places = []
    for size, edge, corner, mirrored in zip(shape, tile.shape, tumour.corner, tumour.mirrored, strict=True):
        run = (int(corner * edge) + np.arange(size)) % edge
        places.append(run[::-1] if mirrored else run)
    return tile[np.ix_(*places)]


def reads_at(distance: NDArray[Any], reach: float, push: float) -> NDArray[Any]:
    """Return at which share of its own distance from the middle an output voxel reads the input: the mass effect.

    ``k = 1 - push (1 - d / reach)^2`` below the reach, and 1 beyond. The middle grows by 1 / (1 - push); with a push of
    0.3 the largest shift outwards is 0.044 reach, at a third of it. Source: [2], in three dimensions.
    """
    return np.asarray(1 - push * np.square(np.clip(1 - distance / reach, 0, None)))
