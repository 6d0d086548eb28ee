"""What a run began with, by content: its starting weights and its scans, wherever they lie now.

contents.json
  weights    SHA-256 of the file that the run started from; null where it started fresh
  scans      split to one text a scan, in the order of data.json; null until they are known, and for a scan left out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.atomic_files import write_atomic
from voco_cli.config import Resolved, Settings, read_saved
from voco_cli.config.schema import Model
from voco_cli.data.index.datalist import SPLITS, Datalist
from voco_cli.data.index.datalist_file import is_written, read_datalist, write_datalist
from voco_cli.data.index.intensity import Judge, judge_by_values
from voco_cli.errors import DataError, UsageError
from voco_cli.models.weights.container import find_file
from voco_cli.training.errors import translate_errors
from voco_cli.training.run_dir import RunFolder

if TYPE_CHECKING:
    from voco_cli.data.cache.manifest import VolumeFacts

FORMAT = "voco-contents/1"
Scans = Mapping[str, Sequence[str | None]]
"""Split to a fingerprint of each of its scans."""


@dataclass(frozen=True)
class Contents:
    """What a run began with.

    Attributes:
        weights: digest of the starting weights; none where it started fresh.
        scans: as training sees them; none until they are known.
    """

    weights: str | None = None
    scans: Scans | None = None


def weights_digest(model: Model) -> str | None:
    """Return the SHA-256 of the file that ``model.weights`` names; none where it names nothing.

    Raises:
        DataError, UsageError: as `find_file`.
    """
    if model.weights is None:
        return None
    path = find_file(model.weights, model.weights_branch)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def scan_content(channels: Sequence[VolumeFacts]) -> str:
    """Return a fingerprint of the channels and the label map of a case: hashes of voxels, and spacings."""
    parts = [":".join([one.voxel_hash, *(f"{mm:.3g}" for mm in one.spacing_mm)]) for one in channels]
    if (label := channels[0].label_hash) is not None:
        parts.append(label)
    return "/".join(parts)


def read_contents(path: Path) -> Contents:
    """Read what `write_contents` wrote.

    Raises:
        DataError: missing or damaged.
    """
    try:
        held = json.loads(path.read_bytes())
        scans = held["scans"]
        if held["format"] != FORMAT or not isinstance(scans, dict | None):
            raise ValueError(f"it is not of the format {FORMAT}")
        return Contents(held["weights"], scans)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}, which says what the run began with, cannot be read: {words}.", "start anew in another run.dir"
        ) from error


def write_contents(path: Path, contents: Contents) -> None:
    """Write contents.json, whole or not at all.

    Raises:
        ResourceError: the disk is full.
    """
    held: dict[str, Any] = {"format": FORMAT, "weights": contents.weights, "scans": contents.scans}
    with translate_errors(path.parent, f"{path.name} could not be written"):
        write_atomic(path, json.dumps(held, separators=(",", ":")).encode() + b"\n")


MOST_NAMED = 3
ANEW = "or another run.dir to start anew"

Names = Callable[[Datalist], Sequence[tuple[str, str]]]
"""Split and name of each scan, by which it is known wherever the files lie."""


def open_run_folder(folder: RunFolder, resolved: Resolved, datalist: Datalist, names: Names) -> bool:
    """Start the run folder, or see that it belongs to this very run; before anything takes long.

    Returns:
        whether the folder holds this very list, with each file where it lies now.
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
        return True
    folder.check_same_settings(resolved.settings)
    _require_same_weights(folder, resolved.settings)
    if is_written(datalist, folder.data_file):
        return True
    _require_same_list(folder, datalist, names)
    return False


def settle_run_folder(
    folder: RunFolder, resolved: Resolved, datalist: Datalist, scans: Scans, *, list_is_there: bool
) -> None:
    """Keep what the scans hold as training sees them; a run that goes on must find what it began with.

    Where it does, the folder then says where data and weights lie now.

    Args:
        scans: of training and validation, in the order of the list.
        list_is_there: what `open_run_folder` returned.
    Raises:
        UsageError: scans or label maps have changed since the run began, under the same names.
        ResourceError: the disk is full.
    """
    before = read_contents(folder.contents_file)
    if before.scans is None:
        write_contents(folder.contents_file, Contents(before.weights, scans))
        return
    _require_same_content(folder, datalist, before.scans, scans)
    if not list_is_there:
        write_datalist(datalist, folder.data_file)
    folder.update_settings(resolved)


def _require_same_weights(folder: RunFolder, settings: Settings) -> None:
    """Compare starting weights by content; those that are gone are not needed, as long as they are the same by name.

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
    """Return who says whether scans of unknown modality are CT: the run that goes on, else their values."""
    if not folder.is_started():
        return judge_by_values
    was_ct = read_saved(folder.settings_file).preprocess.intensity == "window"
    return lambda entries: was_ct


def _counts(datalist: Datalist) -> str:
    """Say how many scans each split has."""
    counts = [f"{len(getattr(datalist, split))} {split}" for split in SPLITS if getattr(datalist, split)]
    *some, last = counts or ["none"]
    return f"{', '.join(some)} and {last}" if some else last
