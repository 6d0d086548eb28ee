"""Shards of a command: which scans are whose, and the file that a shard leaves of what it found out about its own.

A part, ``OUTPUT.shards/2-of-4.json`` beside the OUTPUT of the whole command, holds the outcome of each job that the
shard did. `voco merge` runs the whole command once more and takes the outcomes from the parts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter

from voco_cli import __version__, errors
from voco_cli.atomic_files import write_atomic
from voco_cli.data.index.datalist import Entry
from voco_cli.data.parallel import Runner, WorkerKilledError
from voco_cli.errors import DataError, ResourceError, UsageError, VocoError

Thing = TypeVar("Thing")

FORMAT = "voco-shard/1"
SAVE_EVERY_S = 10.0
"""What a killed shard has to do again, at most."""


@dataclass(frozen=True)
class Shard:
    """One of several parts of the work.

    Attributes:
        number: which, from 1.
        count: of how many.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that ``2/4`` names.

        Raises:
            UsageError: anything but I/N with 1 <= I <= N.
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UsageError(f"--shard {text} is none of several shards.", "give I/N with 1 <= I <= N, such as 2/4")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def owns(self, key: str) -> bool:
        """Return whether a scan belongs to this shard.

        The remainder of a hash: shards come out even, and a scan stays in its shard whatever is added to the list.

        Args:
            key: path of the scan, seen from its list or folder.
        """
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


def scan_key(scan: Path, top: Path) -> str:
    """Return the path of a scan seen from its list's folder, or the whole path where it lies elsewhere."""
    return scan.relative_to(top).as_posix() if scan.is_relative_to(top) else scan.as_posix()


def own_entries(entries: Sequence[Entry], inputs: Sequence[Path], runner: Runner) -> list[Entry]:
    """Return the scans of the runner's shard, or all where it has none.

    Args:
        inputs: folders, scans and lists that they come from.
    """
    tops = [str(one if one.is_dir() else one.parent) for one in map(Path.absolute, inputs)]
    scans = [scan_key(entry.image, Path(os.path.commonpath(tops))) for entry in entries]
    runner.begin({"scans": digest_of(scans)})
    return [entry for entry, scan in zip(entries, scans, strict=True) if runner.owns(scan)]


def parts_folder(output: Path) -> Path:
    """Return the folder of the parts of a command that writes ``output``."""
    return output.with_name(f"{output.name}.shards")


def part_file(output: Path, shard: Shard) -> Path:
    """Return the file of a part."""
    return parts_folder(output) / f"{shard.number}-of-{shard.count}.json"


def kept_folder(output: Path) -> Path:
    """Return the folder of what jobs leave for the merge that is too large for a part."""
    return parts_folder(output) / "kept"


@dataclass
class ShardPart:
    """The content of the file of a shard.

    Attributes:
        shard: whose it is.
        command: words of the command, without those that say where it is to run.
        machine: words that say where it ran.
        folder: working directory of the command.
        identity: what the outcomes depend on, each under the name by which a difference is told.
        is_whole: whether all was done.
        outcomes: by job, each with the stamp of the files that the job reads.
    """

    shard: Shard
    command: tuple[str, ...]
    machine: tuple[str, ...]
    folder: str
    identity: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    outcomes: dict[str, tuple[str, Any]] = field(default_factory=dict)
    version: str = __version__

    def write(self, path: Path) -> None:
        """Write the part, whole or not at all, with a checksum."""
        body = {**vars(self), "shard": [self.shard.number, self.shard.count]}
        text = json.dumps({"format": FORMAT, **body})
        digest = hashlib.sha256(text.encode()).hexdigest()
        write_atomic(path, f'{{"sha256": "{digest}", "part": {text}}}\n'.encode())

    @classmethod
    def read(cls, path: Path) -> ShardPart:
        """Read a part.

        Raises:
            DataError: it is damaged, or no part.
        """
        try:
            content = json.loads(path.read_bytes())
            body = content["part"]
            is_intact = hashlib.sha256(json.dumps(body).encode()).hexdigest() == content["sha256"]
            if not is_intact or body.pop("format") != FORMAT:
                raise ValueError("its checksum is another")
            body["shard"] = Shard(*body["shard"])
            for words in ("command", "machine"):
                body[words] = tuple(map(str, body[words]))
            return cls(**body)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is damaged: {error}.", "remove it and run that shard again") from error

    def difference(self, other: ShardPart) -> str | None:
        """Return what two parts do not have in common, in a few words; none where they belong together."""
        if self.version != other.version:
            return f"voco {other.version}, not {self.version}"
        if self.command != other.command:
            return f"another command (voco {' '.join(other.command)})"
        if self.folder != other.folder:
            return f"another working directory ({other.folder})"
        return identity_difference(self.identity, other.identity)


def identity_difference(ours: Mapping[str, str], others: Mapping[str, str]) -> str | None:
    """Return the name of the first thing that outcomes depend on and that differs."""
    names = dict.fromkeys([*ours, *others])
    return next((f"other {name}" for name in names if ours.get(name) != others.get(name)), None)


class ShardOutcomes:
    """Outcomes of one shard, kept in its part as they come, so that a shard that was killed goes on.

    Args:
        path: of the part.
        part: what is known of the command.
    """

    def __init__(self, path: Path, part: ShardPart) -> None:
        self.path, self.part = path, part
        self.saved_s = time.monotonic()

    is_part = True

    def owns(self, key: str) -> bool:
        """Return whether a scan belongs to the shard."""
        return self.part.shard.owns(key)

    def share(self, things: Sequence[Thing]) -> list[Thing]:
        """Return every n-th of n shards."""
        return list(things[self.part.shard.number - 1 :: self.part.shard.count])

    def begin(self, identity: Mapping[str, str]) -> None:
        """State what all outcomes depend on, before the first of them; several calls add up."""
        self.part.identity.update(identity)

    @cached_property
    def earlier(self) -> dict[str, tuple[str, Any]] | None:
        """Return the outcomes that an earlier call left under the same identity; none where there was no such call."""
        try:
            before = ShardPart.read(self.path) if self.path.exists() else None
        except DataError:
            before = None  # written anew
        goes_on = before is not None and self.part.difference(before) is None
        if not goes_on:
            self.save()  # from now on, what is made is known to be ours
        return before.outcomes if goes_on and before is not None else None

    @property
    def goes_on(self) -> bool:
        """Return whether an earlier call of the same shard has begun."""
        return self.earlier is not None

    def recall(self, work: Callable[[Any], Any], job: Any) -> tuple[Any] | None:
        """Return what an earlier call found out, if the files of the job are as they were; failures are tried again."""
        key = job_key(work, job)
        known = (self.earlier or {}).get(key)
        if known is None or "error" in known[1] or known[0] != stamp_of(job) or _is_lost(job, known[1]):
            return None
        self.part.outcomes[key] = known
        return (decoded(work, known[1]),)

    def record(self, work: Callable[[Any], Any], job: Any, outcome: Any) -> None:
        """Keep an outcome, but not that of a full disk, which ends the command."""
        if isinstance(outcome, ResourceError):
            return
        self.part.outcomes[job_key(work, job)] = (stamp_of(job), encoded(work, outcome))
        if time.monotonic() - self.saved_s > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the part as it is."""
        self.part.write(self.path)
        self.saved_s = time.monotonic()

    def finish(self) -> None:
        """Write the part as one in which nothing is missing."""
        self.part.is_whole = True
        self.save()

    def close(self) -> None:
        """Keep what was done, where the shard did not come to its end."""
        if self.part.outcomes and not self.part.is_whole:
            self.save()


class MergedOutcomes:
    """Outcomes of all shards of a command, in its place.

    Args:
        output: what the command writes.
        parts: of all shards, which belong together.
    """

    is_part = False
    goes_on = True

    def __init__(self, output: Path, parts: Sequence[ShardPart]) -> None:
        self.output, self.parts = output, parts
        self.shard_of = {key: part.shard for part in parts for key in part.outcomes}
        self.outcomes = {key: outcome for part in parts for key, outcome in part.outcomes.items()}

    def owns(self, key: str) -> bool:
        """Return True: the whole is put together."""
        return True

    def share(self, things: Sequence[Thing]) -> list[Thing]:
        """Return all."""
        return list(things)

    def begin(self, identity: Mapping[str, str]) -> None:
        """Refuse parts whose outcomes depend on something that is another now.

        Raises:
            DataError: what it is.
        """
        theirs = self.parts[0].identity
        difference = identity_difference(identity, {name: theirs.get(name, "") for name in identity})
        if difference is not None:
            raise DataError(
                f"The shards of {self.output} were run with {difference} than there is now.", "run all of them again"
            )

    def recall(self, work: Callable[[Any], Any], job: Any) -> tuple[Any] | None:
        """Return what a shard found out; none where no shard was asked.

        Raises:
            DataError: a file of the job has changed since, or what the shard made of it is gone.
        """
        key = job_key(work, job)
        known = self.outcomes.get(key)
        if known is None:
            return None
        scan, hint = files_of(job)[0], f"run shard {self.shard_of[key]} again, then merge"
        if known[0] != stamp_of(job):
            raise DataError(f"{scan} has changed since shard {self.shard_of[key]} read it.", hint)
        if _is_lost(job, known[1]):
            raise DataError(f"What shard {self.shard_of[key]} made of {scan} is not there any more.", hint)
        return (decoded(work, known[1]),)

    def record(self, work: Callable[[Any], Any], job: Any, outcome: Any) -> None:
        """Keep nothing: what no shard could know, such as the scan of a label map of another shard, is done here."""

    def finish(self) -> None:
        """Remove the parts, and what was kept beside them: their content is in the output."""
        shutil.rmtree(kept_folder(self.output), ignore_errors=True)
        for part in self.parts:
            part_file(self.output, part.shard).unlink(missing_ok=True)
        folder = parts_folder(self.output)
        if not any(folder.iterdir()):
            folder.rmdir()

    def close(self) -> None:
        """Leave the parts where they are, unless `finish` was called."""


def files_of(job: Any) -> tuple[Path, ...]:
    """Return the files that a job reads."""
    if isinstance(job, Path):
        return (job,)
    if isinstance(job, Entry):
        return (job.image, *job.files, *job.channels, *([job.label] if job.label is not None else []))
    files: tuple[Path, ...] = job.files
    return files


def _is_lost(job: Any, outcome: Mapping[str, Any]) -> bool:
    """Return whether a job that was done should have left a file that is not there; jobs that leave none are done."""
    return "value" in outcome and not getattr(job, "is_done", True)


def stamp_of(job: Any) -> str:
    """Return size and time of change of each file that a job reads."""
    return " ".join(map(_stamp, files_of(job)))


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


def job_key(work: Callable[[Any], Any], job: Any) -> str:
    """Return the name under which the outcome of a job is kept: what is done, with which options, to which files."""
    options = json.dumps(work.keywords, sort_keys=True) if isinstance(work, partial) else ""
    return " ".join([_function(work).__name__, options, *map(str, files_of(job))])


def digest_of(texts: Iterable[str]) -> str:
    """Return a digest of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def encoded(work: Callable[[Any], Any], outcome: Any) -> dict[str, Any]:
    """Return what a function returned or raised, as JSON holds it."""
    if isinstance(outcome, VocoError):
        return {"error": [type(outcome).__name__, outcome.message, outcome.hint]}
    if isinstance(outcome, Exception):
        return {"error": [type(outcome).__name__, str(outcome), None]}
    return {"value": _adapter(_function(work)).dump_python(outcome, mode="json")}


def decoded(work: Callable[[Any], Any], outcome: Mapping[str, Any]) -> Any:
    """Return the outcome that `encoded` was given; an exception of a library under its name and text."""
    if "value" in outcome:
        return _adapter(_function(work)).validate_python(outcome["value"])
    name, message, hint = outcome["error"]
    if name == WorkerKilledError.__name__:
        return WorkerKilledError()
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, VocoError):
        return kind(message, hint)
    return type(name, (Exception,), {})(message)


def _function(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return work.func if isinstance(work, partial) else work


@cache
def _adapter(function: Callable[[Any], Any]) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(function)["return"])
