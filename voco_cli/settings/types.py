"""Field types that say their unit and accept what a person would type on a command line."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the settings: frozen, and strict about keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _split_extent(value: Any) -> Any:
    """Read ``"4x4"``, ``"4x4x2"`` or ``"96,96,96"`` as a tuple; leave everything else to pydantic."""
    if isinstance(value, str):
        return tuple(part.strip() for part in re.split(r"[xX,]", value.strip("[]() ")))
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError(f"the lower end {value[0]:g} is not below the upper end {value[1]:g}")
    return value


def _switch(value: Any) -> Any:
    """YAML reads a bare ``on`` or ``off`` as a truth value."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
"""On, off, or whatever suits."""

SizeXYZ = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], BeforeValidator(_split_extent)]
"""Extent in voxels along x, y, z; ``96x96x96`` on a command line."""

SpacingXYZ = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(_split_extent)]
"""Distance of voxel centres in millimetres along x, y, z."""

GridShape = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3), BeforeValidator(_split_extent)]
"""Base crops along x, y and, where given, z; ``4x4`` or ``4x4x2`` on a command line."""

Interval = Annotated[tuple[float, float], BeforeValidator(_split_extent), AfterValidator(_ordered)]
"""Lower and upper end; ``-175,250`` on a command line."""
