"""The picture of a validation, by what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from pathlib import Path
from typing import Any

from voco_cli.data.index.patients import case_of
from voco_cli.figures.image_grid import draw_image_grid
from voco_cli.figures.locate import LocationPanel, draw_location
from voco_cli.objectives.objective import Figures, ImageGrid
from voco_cli.objectives.voco.objective import LocatedCrops


@singledispatch
def draw_validation(picture: Any, step: int, figures: Figures, path: Path) -> None:
    """Write what an objective shows of its validation as a PNG; nothing where it shows nothing.

    Args:
        picture: a kind that is registered below, or a mapping of objectives to theirs, each for a file of its own.
        step: of the validation.
        figures: what was measured.
    Raises:
        TypeError: a kind of picture that nothing here draws.
    """
    if picture is not None:
        raise TypeError(f"no drawing for {type(picture).__name__}")


@draw_validation.register
def _(picture: ImageGrid, step: int, figures: Figures, path: Path) -> None:
    draw_image_grid(picture.columns, picture.rows, picture.captions, f"step {step:,}", path, picture.classes)


@draw_validation.register
def _(picture: LocatedCrops, step: int, figures: Figures, path: Path) -> None:
    crops = [replace(one, scan=case_of(Path(one.scan))) for one in picture.crops]
    panel = LocationPanel(step, figures["rank"], figures["correlation"], picture.grid_xyz, picture.base_size_mm, crops)
    draw_location(panel, path)


@draw_validation.register(Mapping)
def _(picture: Mapping[str, Any], step: int, figures: Figures, path: Path) -> None:
    for name, one in picture.items():
        own = {key.removeprefix(f"{name}/"): value for key, value in figures.items() if key.startswith(f"{name}/")}
        draw_validation(one, step, own, path.with_name(f"{name}-{path.name}"))
