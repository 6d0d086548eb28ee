"""Embed scans on a cluster or in shards: a job for each scan, which leaves a file for whoever puts all together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voco_cli.atomic_files import whole_file
from voco_cli.config import Settings
from voco_cli.data.cache.entry import settings_fingerprint
from voco_cli.data.index.datalist import Entry
from voco_cli.data.loaded import LoadedHere, LoadedThere
from voco_cli.data.parallel import Runner, WorkerKilledError, run_jobs
from voco_cli.data.shards import digest_of, files_of
from voco_cli.errors import DataError, UsageError
from voco_cli.pretrain.embed import Embedder, ScanEmbeddings, open_embedder, try_to_embed

Loaded = LoadedHere[Embedder] | LoadedThere[Embedder]


@dataclass(frozen=True)
class OpenEmbedder:
    """Opens a network again in another process; see `open_embedder` for the first three.

    Attributes:
        digest: that it must have.
    """

    run: Path
    projected: bool
    device: str | None
    digest: str

    def __call__(self) -> Embedder:
        """Return the network.

        Raises:
            UsageError: its weights are others by now; or as `open_embedder`.
        """
        found = open_embedder(self.run, self.projected, self.device)
        if found.digest != self.digest:
            raise UsageError(f"The weights of {self.run} have changed while they were used.", "start the command again")
        return found


@dataclass(frozen=True)
class EmbedJob:
    """A scan to embed into a file of its own, by this process or another.

    Attributes:
        settings: of the network, with the preprocessing that suits the scans.
        target: the file.
    """

    entry: Entry
    num_crops: int | None
    settings: Settings
    target: Path
    embedder: Loaded

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        return files_of(self.entry)

    @property
    def is_done(self) -> bool:
        """Return whether the file is there."""
        return self.target.is_file()

    def embeddings(self) -> ScanEmbeddings:
        """Read the file."""
        with np.load(self.target, allow_pickle=False) as read:
            return ScanEmbeddings(self.entry.image, self.entry.patient, **read)


def embed_to_file(job: EmbedJob) -> int:
    """Embed a scan into its file; return the number of rows.

    Raises:
        DataError: why this scan alone cannot be embedded.
        ResourceError: the disk is full.
    """
    found = try_to_embed(replace(job.embedder.ready(), settings=job.settings), job.entry, job.num_crops)
    arrays = {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    with whole_file(job.target) as beside:
        np.savez(beside, allow_pickle=False, **arrays)
    return len(found.crop_N)


def embed_elsewhere(
    embedder: Embedder,
    entries: Sequence[Entry],
    num_crops: int | None,
    on_failed: Callable[[Entry, str], None],
    on_done: Callable[[], None],
    *,
    device: str | None,
    folder: Path,
    runner: Runner,
) -> Iterator[ScanEmbeddings]:
    """Embed scans as `embed_entries` does, on a cluster or as a shard, by way of a file for each.

    Args:
        device: of the workers of a cluster.
        folder: of these files; removed afterwards, unless a shard leaves it to the merge.
        runner: does the work; a shard embeds, and what it has done is read when all are merged.
    """
    settings = embedder.settings
    voxels = settings_fingerprint(settings.preprocess, settings.cache)
    crops = f"{settings.crops.model_dump_json()} {settings.seed}"
    runner.begin({"weights": embedder.digest, "preprocessing": voxels, "crops": crops})
    there = OpenEmbedder(embedder.run.absolute(), embedder.projected, device, embedder.digest)
    loaded: Loaded = LoadedHere(embedder) if runner.cluster is None else LoadedThere(there)
    targets = [folder.absolute() / f"{digest_of([str(entry.image)])}.npz" for entry in entries]
    jobs = [
        EmbedJob(entry, num_crops, settings, target, loaded) for entry, target in zip(entries, targets, strict=True)
    ]
    reasons: dict[Path, str] = {}

    def finished(job: EmbedJob, outcome: int | Exception) -> None:
        if isinstance(outcome, DataError | WorkerKilledError):
            reasons[job.target] = outcome.message if isinstance(outcome, DataError) else f"{job.entry.image} {outcome}."
        elif isinstance(outcome, Exception):
            raise outcome
        on_done()

    try:
        run_jobs(embed_to_file, jobs, 1, finished, runner=runner)
        for job in jobs:
            if job.target in reasons:
                on_failed(job.entry, reasons[job.target])
            elif not runner.is_part:
                yield job.embeddings()
    finally:
        if runner.outcomes is None:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # parts of shards lie in it
                folder.parent.rmdir()
