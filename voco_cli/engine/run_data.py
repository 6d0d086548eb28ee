"""A run folder and the list of scans that belongs to it."""

from __future__ import annotations

from collections.abc import Callable

from voco_cli.dataset.datalist import SPLITS, Datalist, Entry
from voco_cli.dataset.datalist_file import read_datalist, write_datalist
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import UsageError
from voco_cli.settings import Resolved


def open_run_folder(
    folder: RunFolder, resolved: Resolved, datalist: Datalist, known_by: Callable[[Entry], object]
) -> None:
    """Start the run folder, or see that it belongs to this very run.

    Args:
        known_by: what tells a scan from another: its path, its name.
    Raises:
        UsageError: the folder holds something else, or a run with other settings or scans.
        ResourceError: the disk is full.
    """
    if not folder.is_started():
        folder.create(resolved)
        write_datalist(datalist, folder.data_file)
        return
    folder.check_same_settings(resolved.settings)
    if not folder.data_file.is_file():
        write_datalist(datalist, folder.data_file)  # killed between the two files
    before = read_datalist(folder.data_file, check_files=False)
    listed = [[(split, known_by(entry)) for split, entry in one.entries()] for one in (before, datalist)]
    if listed[0] != listed[1]:
        raise UsageError(
            f"{folder.path} was started with other scans: {_counts(before)}, and now {_counts(datalist)}.",
            f"give {folder.data_file} to resume, or another run.dir to start anew",
        )


def _counts(datalist: Datalist) -> str:
    """How many scans of each split."""
    *some, last = (f"{len(getattr(datalist, split))} {split}" for split in SPLITS if getattr(datalist, split))
    return f"{', '.join(some)} and {last}" if some else last
