"""The one validated settings model that every command shares, and where its values come from."""

from voco_cli.config.load import Resolved, load_settings, read_saved, recipe_names, task_names
from voco_cli.config.validation import Settings

__all__ = ["Resolved", "Settings", "load_settings", "read_saved", "recipe_names", "task_names"]
