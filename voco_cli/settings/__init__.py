"""The one validated settings model that every command shares, and where its values come from."""

from voco_cli.settings.model import Settings
from voco_cli.settings.sources import Resolved, load_settings, read_saved, recipe_names, task_names

__all__ = ["Resolved", "Settings", "load_settings", "read_saved", "recipe_names", "task_names"]
