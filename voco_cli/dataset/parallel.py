"""The same function over many files, in processes where it pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from voco_cli.dataset.worker_pool import WorkerKilledError, run_jobs
from voco_cli.errors import ResourceError
from voco_cli.operating_system import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 16
# Starting processes takes about a second each; fewer header reads than this are done sooner alone.
FEWEST_FOR_PROCESSES = 256
CHUNKS_PER_WORKER = 16


def _raise(item: object, error: Exception) -> NoReturn:
    name = getattr(item, "image", None) or getattr(item, "path", item)
    raise ResourceError(f"{name} {error}.", "Leave that file out, or read it where there is more memory.")


def map_files(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    advance: Callable[[int], object],
    fewest: int = FEWEST_FOR_PROCESSES,
    killed: Callable[[Item, Exception], Result] = _raise,
    apart: bool = False,
) -> list[Result]:
    """Results in the order of ``items``.

    Args:
        function: picklable; expected faults come back as results, not as exceptions.
        workers: processes; none is one a core where there are at least ``fewest`` items.
        advance: told how many items were finished.
        killed: makes the result of an item that ended its process, alone as well; without it that is an error.
        apart: work in a process of its own also where it is a single one, so that its end is not the command's.
    Raises:
        ResourceError: a worker process was killed, and ``killed`` does not take it.
    """
    count = workers or (min(usable_cores(), MAX_WORKERS) if len(items) >= fewest else 1)
    if count == 1 and not apart:
        return [_one(function, item, advance) for item in items]
    size = max(1, -(-len(items) // (count * CHUNKS_PER_WORKER)))
    chunks = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]
    results: dict[int, Result] = {}
    suspects: list[int] = []

    def finished(chunk: Chunk, outcome: list[Result] | Exception) -> None:
        if isinstance(outcome, WorkerKilledError) and len(chunk.places) > 1:
            suspects.extend(chunk.places)
            return
        if isinstance(outcome, WorkerKilledError):
            outcome = [killed(chunk.items[0], outcome)]
        if isinstance(outcome, Exception):
            raise outcome
        results.update(zip(chunk.places, outcome, strict=True))
        advance(len(chunk.places))

    def job(places: Sequence[int]) -> Chunk:
        return Chunk(function, tuple(items[place] for place in places), tuple(places))

    run_jobs(_do_chunk, map(job, chunks), count, finished, apart=apart)
    # What killed its worker is somewhere in these chunks: one file at a time tells.
    run_jobs(_do_chunk, [job([place]) for place in suspects], count, finished, apart=True)
    return [results[place] for place in range(len(items))]


@dataclass(frozen=True)
class Chunk:
    """Items that travel to a worker together, with their places in the whole."""

    function: Callable[[Any], Any]
    items: tuple[Any, ...]
    places: tuple[int, ...]


def _do_chunk(chunk: Chunk) -> list[Any]:
    return [chunk.function(item) for item in chunk.items]


def _one(function: Callable[[Item], Result], item: Item, advance: Callable[[int], object]) -> Result:
    result = function(item)
    advance(1)
    return result
