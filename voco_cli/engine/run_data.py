"""A run folder and what belongs to it: the list of scans, and what scans and starting weights hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voco_cli.dataset.datalist import SPLITS, Datalist
from voco_cli.dataset.datalist_file import read_datalist, write_datalist
from voco_cli.dataset.intensity import Judge, judge_by_values
from voco_cli.engine.contents import Contents, Scans, read_contents, weights_digest, write_contents
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import DataError, UsageError
from voco_cli.settings import Resolved, Settings, read_saved

MOST_NAMED = 3
ANEW = "or another run.dir to start anew"

Names = Callable[[Datalist], Sequence[tuple[str, str]]]
"""Split and name of each scan: what tells one from another, wherever the files lie."""


def open_run_folder(folder: RunFolder, resolved: Resolved, datalist: Datalist, names: Names) -> None:
    """Start the run folder, or see that it belongs to this very run; before anything takes long.

    Raises:
        UsageError: the folder holds something else, or a run with other settings, weights or scans.
        DataError: weights that are not there.
        ResourceError: the disk is full.
    """
    model = resolved.settings.model
    if not folder.is_started():
        weights = weights_digest(model)
        folder.create(resolved)
        write_datalist(datalist, folder.data_file)
        write_contents(folder.contents_file, Contents(weights))
        return
    folder.check_same_settings(resolved.settings)
    _require_same_weights(folder, resolved.settings)
    _require_same_list(folder, datalist, names)


def settle_run_folder(folder: RunFolder, resolved: Resolved, datalist: Datalist, scans: Scans) -> None:
    """Keep what the scans hold as training sees them; a run that goes on must find what it began with.

    Where it does, the folder then says where data and weights lie now.

    Args:
        scans: of training and validation, in the order of the list.
    Raises:
        UsageError: scans or label maps have changed since the run began, under the same names.
        ResourceError: the disk is full.
    """
    before = read_contents(folder.contents_file)
    if before.scans is None:
        write_contents(folder.contents_file, Contents(before.weights, scans))
        return
    _require_same_content(folder, datalist, before.scans, scans)
    write_datalist(datalist, folder.data_file)
    folder.update_settings(resolved)


def _require_same_weights(folder: RunFolder, settings: Settings) -> None:
    """Starting weights by content; those that are gone are not needed any more, as long as they are the same by name.

    Raises:
        UsageError: other weights.
        DataError: weights of another name that are not there.
    """
    before = read_saved(folder.settings_file).model.weights
    try:
        digest = weights_digest(settings.model)
    except DataError:
        if before == settings.model.weights:
            return
        raise
    if digest != read_contents(folder.contents_file).weights:
        weights = settings.model.weights
        if weights == before:
            what = f"was started from other weights than {weights} holds now"
        else:
            what = f"was started from {before}, and {weights} holds other weights"
        raise UsageError(f"{folder.path} {what}.", f"give the old weights to resume, {ANEW}")


def _require_same_list(folder: RunFolder, datalist: Datalist, names: Names) -> None:
    before = read_datalist(folder.data_file, check_files=False)
    listed, known = list(names(datalist)), list(names(before))
    if listed == known:
        return
    new = [name for split, name in listed if (split, name) not in set(known)]
    gone = [name for split, name in known if (split, name) not in set(listed)]
    differ = [f"{word} are {_named(some)}" for word, some in (("new", new), ("gone", gone)) if some]
    raise UsageError(
        f"{folder.path} was started with other scans: {_counts(before)}, and now {_counts(datalist)}; "
        f"{' and '.join(differ) or 'they come in another order'}.",
        f"give the list that the run began with ({folder.data_file} has it) to resume, {ANEW}",
    )


def _require_same_content(folder: RunFolder, datalist: Datalist, before: Scans, now: Scans) -> None:
    listed = [
        (entry.name, then, here)
        for split in now
        for entry, then, here in zip(getattr(datalist, split), before.get(split, ()), now[split], strict=True)
    ]
    changed = [name for name, then, here in listed if then != here and None not in (then, here)]
    if changed:
        raise UsageError(
            f"{folder.path} was started with other voxels or labels than the files hold now of {_named(changed)}.",
            f"put the old files back to resume, {ANEW}",
        )
    usable = [sum(one is not None for one in side["training"]) for side in (before, now)]
    moved = [name for name, then, here in listed if then != here]
    if moved:
        raise UsageError(
            f"{folder.path} was trained on {usable[0]} usable scans and would go on with {usable[1]}; "
            f"what can be used has changed of {_named(moved)}.",
            f"see what was left out and mend it, {ANEW}",
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def judge_as_before(folder: RunFolder) -> Judge:
    """Who says whether scans of unknown modality are CT: the run that is gone on with, else their values."""
    if not folder.is_started():
        return judge_by_values
    was_ct = read_saved(folder.settings_file).preprocess.intensity == "window"
    return lambda entries: was_ct


def _counts(datalist: Datalist) -> str:
    """How many scans of each split."""
    counts = [f"{len(getattr(datalist, split))} {split}" for split in SPLITS if getattr(datalist, split)]
    *some, last = counts or ["none"]
    return f"{', '.join(some)} and {last}" if some else last
