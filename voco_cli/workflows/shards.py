"""What a command with `--shard` writes, told from its words, and the parts of its shards, checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from contextvars import ContextVar
from pathlib import Path

from voco_cli.data.shards import MergedOutcomes, Shard, ShardPart, part_file, parts_folder
from voco_cli.errors import DataError, UsageError

COMMON_FLAGS = ("--json", "--quiet", "-q", "--debug")
FLAGS = {
    "index": (),
    "cache build": ("--dry-run", "--labels"),
    "cache verify": ("--labels", "--repair"),
    "predict": ("--dry-run", "--flips", "--overwrite"),
    "evaluate": ("--require-all", "--require-clean"),
    "embed": ("--bases", "--projected"),
    "study": ("--prepare", "--trust-pickle"),
}
"""Commands with `--shard`, each with its options that take no value, beside those that all have."""
"""Commands with `--shard`."""
MERGING: ContextVar[MergedOutcomes | None] = ContextVar("MERGING", default=None)
"""What `voco merge` hands to the command that it runs."""


def merge_target(words: Sequence[str]) -> Path:
    """Return what `voco merge` is given after all shards of a command: its OUTPUT, defaults applied.

    Args:
        words: of the command, such as ``["index", "scans/", "-o", "data.json"]``, without ``voco``.
    Raises:
        UsageError: the command has no shards, or lacks the argument that tells.
    """
    name = next((one for one in FLAGS if list(words[: len(one.split())]) == one.split()), None)
    if name is None:
        raise UsageError(f"voco {' '.join(words[:2])} has no --shard.", f"these have: {', '.join(FLAGS)}")
    places, options = _parsed(words[len(name.split()) :], (*COMMON_FLAGS, *FLAGS[name]))
    if name.startswith("cache"):
        return _cache_folder(places, options)
    output = _last(options, "--output", "-o")
    if output is not None:
        return Path(output)
    if name in ("predict", "embed"):
        raise UsageError(f"voco {name} needs a place to write to.", "give one with -o")
    if name == "evaluate":
        return _evaluation_folder(places, options)
    return Path("runs/study" if name == "study" else "data.json")


def _evaluation_folder(places: Sequence[str], options: Mapping[str, Sequence[str]]) -> Path:
    if not places:
        return Path("evaluation")
    from voco_cli.workflows.evaluate import measured_split, open_run

    data = _last(options, "--data")
    run = open_run(Path(places[0]), Path(data) if data else None)
    return run.evaluation(measured_split(run, _last(options, "--split"))[0])


def _cache_folder(places: Sequence[str], options: Mapping[str, Sequence[str]]) -> Path:
    from voco_cli.config import load_settings
    from voco_cli.data.cache.store import cache_folder

    if not places:
        raise UsageError("voco cache needs the data.json whose scans it stores.", "give it as the first word")
    folder, config = _last(options, "--dir"), _last(options, "--config")
    flags = {} if folder is None else {"cache.dir": folder}
    resolved = load_settings(
        _last(options, "--recipe"), Path(config) if config else None, options.get("--set", ()), flags
    )
    return cache_folder(Path(places[0]), resolved.settings.cache)


def _last(options: Mapping[str, Sequence[str]], *names: str) -> str | None:
    return next((options[name][-1] for name in names if name in options), None)


def _parsed(words: Sequence[str], flags: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the arguments, and the values of each option under the name that it was given by."""
    places: list[str] = []
    options: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        if word == "--":
            places.extend(rest)
        elif not word.startswith("-") or word == "-":
            places.append(word)
        elif word not in flags:
            name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
            options.setdefault(name, []).append(value if equals else next(rest, ""))
    return places, options


def read_parts(output: Path) -> list[ShardPart]:
    """Read the parts of all shards of what is to be written to ``output``.

    Returns:
        all of them, in order: whole, of one command, of the same settings and inputs.
    Raises:
        UsageError: there are none.
        DataError: some are missing, damaged, not finished, or of another command, each with what makes it.
    """
    folder = parts_folder(output)
    counts = _counts(folder)
    if not counts:
        raise UsageError(f"{output} has no shards: there are none in {folder}.", "run the command with --shard I/N")
    if len(counts) > 1:
        found = " and ".join(f"of {count}" for count in sorted(counts))
        raise DataError(f"{folder} has shards {found}.", "remove those that do not belong to the others")
    (count,) = counts
    parts, faults = _read(output, count)
    whole = [part for part in parts.values() if part.is_whole]
    first = max(whole, key=lambda part: sum(part.difference(one) is None for one in whole), default=None)
    for number, part in parts.items():
        difference = first.difference(part) if first is not None else None
        if not part.is_whole:
            faults[number] = "is not finished"
        elif difference is not None:
            faults[number] = f"is of {difference}"
    model = first or next(iter(parts.values()), None)
    if faults:
        raise _incomplete(output, count, faults, model)
    _require_of(output, parts[1])
    return [parts[number] for number in sorted(parts)]


def _counts(folder: Path) -> set[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    matches = (re.fullmatch(r"[1-9][0-9]*-of-([1-9][0-9]*)\.json", name) for name in names)
    return {int(match[1]) for match in matches if match}


def _read(output: Path, count: int) -> tuple[dict[int, ShardPart], dict[int, str]]:
    """Return the parts that can be read, and what is wrong with the others, by their numbers."""
    parts: dict[int, ShardPart] = {}
    faults: dict[int, str] = {}
    for number in range(1, count + 1):
        shard = Shard(number, count)
        path = part_file(output, shard)
        if not path.exists():
            faults[number] = "is missing"
            continue
        try:
            part = ShardPart.read(path)
        except DataError:
            faults[number] = "is damaged"
            continue
        if part.shard == shard:
            parts[number] = part
        else:
            faults[number] = f"is shard {part.shard} under another name"
    return parts, faults


def _incomplete(output: Path, count: int, faults: Mapping[int, str], model: ShardPart | None) -> DataError:
    said = ", ".join(f"shard {number}/{count} {fault}" for number, fault in sorted(faults.items()))
    if model is None:
        return DataError(f"{output} cannot be merged: {said}.", "run these shards again")
    words = ["voco", *model.command, *model.machine]
    commands = [shlex.join([*words, "--shard", f"{number}/{count}"]) for number in sorted(faults)]
    return DataError(f"{output} cannot be merged: {said}.", "run " + "; ".join(commands))


def _require_of(output: Path, part: ShardPart) -> None:
    """Refuse parts of a command that writes something else: merging must write nowhere but where it was told to."""
    asked = output.resolve()
    if not Path(part.folder).is_dir():
        raise DataError(f"The shards of {output} were run in {part.folder}, which is not here.", "merge where they ran")
    with chdir(part.folder):
        written = merge_target(part.command).absolute()
    if written.resolve() != asked:
        raise DataError(
            f"The shards in {parts_folder(output)} are of a command that writes {written}.",
            "merge that, or move them back",
        )


def is_merging() -> bool:
    """Return whether the command takes its outcomes from parts."""
    return MERGING.get() is not None


@contextmanager
def merging(outcomes: MergedOutcomes) -> Iterator[None]:
    """Let the command that runs inside take its outcomes from parts."""
    token = MERGING.set(outcomes)
    try:
        yield
    finally:
        MERGING.reset(token)
