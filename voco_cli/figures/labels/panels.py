"""The panels of the label preview. All are drawn in millimetres, patient's right on the left, front on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.labels.scene import Cell, LabelScene, Piece, crop_name, pieces, share_text
from voco_cli.figures.style import FAINT, INK, crop_colour, outline

GRID_COLOUR = "white"
AXIAL, CORONAL, SAGITTAL = (0, 1), (0, 2), (1, 2)
"""Planes by the axes that they show: across, up."""

Plane = tuple[int, int]
Pair = tuple[float, float]


def show_plane(ax: Axes, scene: LabelScene, plane: Plane, index: int, low: Sequence[int], high: Sequence[int]) -> None:
    """Draw the part [low, high) of one slice, voxels, in mm of the volume.

    The axis across runs backwards: patient's right at the left of an axial or coronal view, front at the left of a
    sagittal one.
    """
    across, up = plane
    selection: list[Any] = [slice(low[axis], high[axis]) for axis in range(3)]
    selection[3 - across - up] = index
    (left, right), (bottom, top) = ((low[a] * scene.spacing_mm[a], high[a] * scene.spacing_mm[a]) for a in plane)
    ax.imshow(
        np.asarray(scene.volume_xyz[tuple(selection)], dtype=np.float32).T,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        extent=(left, right, bottom, top),
        aspect="equal",
        interpolation="nearest",
    )
    ax.set_xlim(right, left)
    ax.set_ylim(bottom, top)
    bare(ax)


def name_slice(ax: Axes, text: str) -> None:
    """Which slice a view shows, in its lower right corner."""
    ax.text(
        0.99, 0.01, text, transform=ax.transAxes, ha="right", va="bottom", size=6, color="white", zorder=6
    ).set_path_effects(outline())


def bare(ax: Axes) -> None:
    """Take ticks and frame away."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_view(ax: Axes, scene: LabelScene, plane: Plane, index: int, crops: Sequence[int] | None = None) -> None:
    """One whole slice with what lies outside the grid dimmed, the grid, the random crops and the patient's sides.

    Args:
        crops: random crops that are shown; none is all.
    """
    show_plane(ax, scene, plane, index, (0, 0, 0), scene.volume_xyz.shape)
    _dim_outside(ax, scene, plane)
    _draw_grid(ax, scene, plane)
    for crop in range(len(scene.starts_S3)) if crops is None else crops:
        _draw_crop_box(ax, scene, plane, crop, scene.starts_S3[crop])
    draw_sides(ax, plane)


def number_cell(ax: Axes, scene: LabelScene, cell: Cell, size: float) -> None:
    """Number of a base crop, in its upper left corner of an axial view."""
    left = (cell.start[0] + 0.96 * scene.base_size[0]) * scene.spacing_mm[0]
    top = (cell.start[1] + 0.95 * scene.base_size[1]) * scene.spacing_mm[1]
    ax.text(left, top, str(cell.number), color="white", size=size, va="top", path_effects=outline())


def mark_shares(ax: Axes, scene: LabelScene, layer: int, size: float) -> None:
    """In an axial view, each random crop's shares in the base crops of a layer, in the crop's colour."""
    for crop in range(len(scene.starts_S3)):
        for piece in pieces(scene, crop):
            corner, extent = box_mm(scene, AXIAL, piece.low, piece.high)
            roomy = extent[0] > 0.3 * scene.base_size[0] * scene.spacing_mm[0] and extent[1] > 0.15 * (
                scene.base_size[1] * scene.spacing_mm[1]
            )
            if piece.cell.place[2] == layer and roomy:
                ax.text(
                    corner[0] + extent[0] / 2,
                    corner[1] + extent[1] / 2,
                    share_text(piece.share),
                    color=crop_colour(crop),
                    size=size,
                    weight="bold",
                    ha="center",
                    va="center",
                    path_effects=outline(),
                )


def draw_shares(ax: Axes, scene: LabelScene, crop: int, layer: int, size: float) -> None:
    """A random crop, seen from below in one layer of the grid: cut along the grid, each piece with its base's share."""
    inside = [piece for piece in pieces(scene, crop) if piece.cell.place[2] == layer]
    if not inside:
        bare(ax)
        ax.text(
            0.5, 0.5, "none in\nthis layer", transform=ax.transAxes, ha="center", va="center", color=FAINT, size=6.5
        )
        return
    low, high = scene.starts_S3[crop], scene.starts_S3[crop] + np.asarray(scene.crop_size)
    middle = (inside[0].low[2] + inside[0].high[2]) // 2
    show_plane(ax, scene, AXIAL, middle, low, high)
    for piece in inside:
        _draw_piece(ax, scene, piece, crop, size)
    _frame(ax, crop_colour(crop))


def draw_bars(ax: Axes, scene: LabelScene, crop: int, last: bool) -> None:
    """The label of a random crop: one bar a base crop."""
    label_K = scene.labels_SK[crop]
    numbers = np.arange(1, label_K.size + 1)
    crowded = label_K.size > 20
    turn, size = (90, 5.5) if crowded else (0, 6.5)
    ax.bar(numbers, label_K, width=0.72, color=crop_colour(crop), edgecolor=INK, linewidth=0.4)
    for number, value in zip(numbers, label_K, strict=True):
        if value > 0:
            text = f"{value:.2f}" if value >= 0.005 else "<.01"
            ax.text(number, value + 0.03, text, ha="center", va="bottom", size=size, rotation=turn)
    ax.set_xlim(0.3, label_K.size + 0.7)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.5, 1])
    ax.set_xticks(numbers[:: int(np.ceil(label_K.size / 36))])
    ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    ax.tick_params(axis="x", labelsize=size, labelrotation=turn)
    ax.spines[["top", "right"]].set_visible(False)
    ax.text(1.0, 1.0, f"sum {label_K.sum():.3f}", transform=ax.transAxes, ha="right", va="top", size=6.5, color=INK)
    if last:
        ax.set_xlabel("base crop", size=7, labelpad=1.5)


def draw_network_crop(ax: Axes, crop_XYZ: NDArray[np.float32], aspect: float, colour: str | None) -> None:
    """The middle slice of a crop as the network gets it, in the orientation of the other panels."""
    middle = crop_XYZ[::-1, :, crop_XYZ.shape[2] // 2].T
    ax.imshow(middle, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect, interpolation="nearest")
    bare(ax)
    if colour:
        _frame(ax, colour)


def _frame(ax: Axes, colour: str) -> None:
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
        spine.set_linewidth(2.0)


def box_mm(scene: LabelScene, plane: Plane, low: Sequence[float], high: Sequence[float]) -> tuple[Pair, Pair]:
    """Lower corner and size of a box in a plane, mm."""
    (left, right), (bottom, top) = (
        (low[axis] * scene.spacing_mm[axis], high[axis] * scene.spacing_mm[axis]) for axis in plane
    )
    return (left, bottom), (right - left, top - bottom)


def _dim_outside(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    """A veil over what the base crops do not cover."""
    shape, start = scene.volume_xyz.shape, scene.region_start
    a, b = plane
    end = [start[axis] + scene.region_size[axis] for axis in range(3)]
    strips = (
        ((0, 0), (start[a], shape[b])),
        ((end[a], 0), (shape[a], shape[b])),
        ((start[a], 0), (end[a], start[b])),
        ((start[a], end[b]), (end[a], shape[b])),
    )
    step = (scene.spacing_mm[a], scene.spacing_mm[b])
    for low, high in strips:
        width, height = (high[0] - low[0]) * step[0], (high[1] - low[1]) * step[1]
        if width > 0 and height > 0:
            corner = (low[0] * step[0], low[1] * step[1])
            ax.add_patch(Rectangle(corner, width, height, facecolor="black", alpha=0.55, linewidth=0))


def _draw_grid(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    for across in range(scene.grid[plane[0]]):
        for up in range(scene.grid[plane[1]]):
            low = list(scene.region_start)
            low[plane[0]] += across * scene.base_size[plane[0]]
            low[plane[1]] += up * scene.base_size[plane[1]]
            corner, size = box_mm(scene, plane, low, [a + b for a, b in zip(low, scene.base_size, strict=True)])
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=GRID_COLOUR, linewidth=0.7, alpha=0.85))


def _draw_crop_box(ax: Axes, scene: LabelScene, plane: Plane, crop: int, start: NDArray[np.int64]) -> None:
    corner, size = box_mm(scene, plane, start.tolist(), (start + np.asarray(scene.crop_size)).tolist())
    colour = crop_colour(crop)
    ax.add_patch(
        Rectangle(
            corner,
            *size,
            fill=False,
            edgecolor=colour,
            linewidth=1.8,
            path_effects=outline(2.8),
            clip_on=False,
            zorder=4,
        )
    )
    # The name sits at the lower left corner of the box; the axis across runs backwards.
    tag = {"facecolor": colour, "edgecolor": "black", "linewidth": 0.5, "boxstyle": "square,pad=0.18"}
    at = (corner[0] + size[0], corner[1])
    ax.text(*at, crop_name(crop), size=7, weight="bold", color="black", va="bottom", bbox=tag, zorder=5)


def _draw_piece(ax: Axes, scene: LabelScene, piece: Piece, crop: int, size: float) -> None:
    corner, extent = box_mm(scene, AXIAL, piece.low, piece.high)
    ax.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=GRID_COLOUR, linewidth=1.0))
    ax.add_patch(Rectangle(corner, *extent, facecolor=crop_colour(crop), alpha=0.2 * piece.share, linewidth=0))
    wide, high = (extent[i] / (scene.crop_size[axis] * scene.spacing_mm[axis]) for i, axis in enumerate(AXIAL))
    # A sliver holds no text: its share is read off the bars.
    if wide > 0.22 and high > 0.22:
        text = f"{piece.cell.number}\n{share_text(piece.share)}"
    elif wide > 0.33 and high > 0.11:
        text = f"{piece.cell.number}: {share_text(piece.share)}"
    else:
        return
    middle = (corner[0] + extent[0] / 2, corner[1] + extent[1] / 2)
    ax.text(*middle, text, color="white", size=size, ha="center", va="center", path_effects=outline(), linespacing=1.0)


def draw_sides(ax: Axes, plane: Plane) -> None:
    """Letters of the patient's sides at the edges of a view."""
    left, right, bottom, top = {
        AXIAL: ("R", "L", "P", "A"),
        CORONAL: ("R", "L", "I", "S"),
        SAGITTAL: ("A", "P", "I", "S"),
    }[plane]
    for x, y, letter in ((0.015, 0.54, left), (0.985, 0.54, right), (0.47, 0.015, bottom), (0.47, 0.985, top)):
        side = "left" if x < 0.1 else "right" if x > 0.9 else "center"
        edge = "bottom" if y < 0.1 else "top" if y > 0.9 else "center"
        ax.text(
            x,
            y,
            letter,
            transform=ax.transAxes,
            color="#FFD34D",
            size=7,
            ha=side,
            va=edge,
            path_effects=outline(),
            zorder=6,
        )
