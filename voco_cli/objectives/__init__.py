"""Pretext tasks behind one protocol, by name; an objective is one module and its entry here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from voco_cli.config import Settings
    from voco_cli.objectives.objective import Objective

    Build = Callable[[Settings, nn.Module], Objective]

REGISTRY = {
    "voco": "voco_cli.objectives.voco.objective",
    "rotation": "voco_cli.objectives.rotation",
    "mae": "voco_cli.objectives.mae",
    "contrast": "voco_cli.objectives.contrast",
    "genesis": "voco_cli.objectives.genesis",
    "fusion": "voco_cli.objectives.fusion",
    "supervised": "voco_cli.objectives.supervised",
    "pseudo": "voco_cli.objectives.pseudo",
    "weak": "voco_cli.objectives.weak",
}
"""Name, as in the settings ``objective.NAME``, to the module whose ``build`` makes it."""


def build_objective(settings: Settings, encoder: nn.Module) -> Objective:
    """Return what the settings ask for, over an encoder: one objective, or the weighted sum of several.

    Args:
        settings: every ``objective.NAME`` with a weight above 0 takes part.
        encoder: with fresh weights; what is put on top of it draws its own from torch's global generator.
    """
    weights = settings.objective.active()
    parts: dict[str, Objective] = {}
    for name in weights:
        build: Build = import_module(REGISTRY[name]).build
        parts[name] = build(settings, encoder)
    if len(parts) == 1:
        return next(iter(parts.values()))
    from voco_cli.objectives.objective import WeightedSum

    for part in parts.values():
        part.join(parts)
    return WeightedSum(parts, weights)
