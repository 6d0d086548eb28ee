"""The one validated settings model that every command shares, and where its values come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voco_cli.config.load import Resolved, load_settings, read_saved, recipe_names, task_names
    from voco_cli.config.validation import Settings

__all__ = ["Resolved", "Settings", "load_settings", "read_saved", "recipe_names", "task_names"]


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: help needs the settings, but no reader of YAML and environment."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from voco_cli.config import load

    return getattr(load, name)
