"""Headers and voxels of many files, read by processes, a cluster, or a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voco_cli.data.index.datalist import Entry, Skipped
from voco_cli.data.index.inspect import (
    Candidate,
    Inspected,
    ScanFiles,
    VoxelCheck,
    check_label,
    check_scan,
    find_candidates,
    inspect_file,
    is_label_map,
)
from voco_cli.data.index.scan_files import Walk
from voco_cli.data.parallel import Runner, map_files

FEWEST_TO_DECODE = 8
"""Decoding a scan takes long enough for a process to pay from so few scans on."""
Progress = Callable[[str, int | None], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class FileReader:
    """Reads headers and voxels of many files by a runner, with a bar where that takes a while.

    Attributes:
        workers: processes; none chooses.
        progress: opens a progress bar, from a description and a count.
        runner: does it.
    """

    workers: int | None
    progress: Progress
    runner: Runner

    def inspect(self, walk: Walk) -> tuple[dict[Path, Candidate], list[Skipped]]:
        """Return candidates by path, and what is none of them."""
        paths = [found.path for found in walk.files]
        with self.progress("reading headers", len(paths)) as advance:
            inspected = map_files(
                inspect_file,
                paths,
                self.workers,
                advance,
                killed=lambda path, error: Inspected(path, fault=f"{error}."),
                runner=self.runner,
            )
        return find_candidates(inspected, {found.path: found.root for found in walk.files})

    def are_labels(self, paths: Sequence[Path], named: bool) -> list[bool]:
        """Decode what may be a label map."""
        work = partial(is_label_map, named=named)
        with self.progress("finding label maps", len(paths)) if paths else nullcontext(lambda *_: None) as advance:
            return map_files(work, paths, self.workers, advance, FEWEST_TO_DECODE, runner=self.runner)

    def check_scans(self, entries: Sequence[Entry]) -> list[VoxelCheck]:
        """Decode scans."""
        return self._check(check_scan, [ScanFiles(entry.image, entry.files) for entry in entries], "decoding voxels")

    def check_labels(self, paths: Iterable[Path]) -> dict[Path, VoxelCheck]:
        """Decode label maps."""
        labels = list(dict.fromkeys(paths))
        return dict(zip(labels, self._check(check_label, labels, "decoding label maps"), strict=True))

    def _check(self, work: Callable[[Any], VoxelCheck], files: Sequence[Any], said: str) -> list[VoxelCheck]:
        with self.progress(said, len(files)) if files else nullcontext(lambda *_: None) as advance:
            return map_files(
                work,
                files,
                self.workers,
                advance,
                FEWEST_TO_DECODE,
                killed=lambda _, error: VoxelCheck(fault=f"{error}."),
                own_process=True,
                runner=self.runner,
            )
