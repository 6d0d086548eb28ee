"""What the case growth measures, each in a process of its own: stages of a pre-training over very many scans.

Every function gets the folder that `lay_out` filled, and returns the CPU seconds of its own work, imports left out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voco_cli.config.schema import Cache
    from voco_cli.data.cache.volume import VolumeMetadata

SCAN_VOX = (2, 2, 2)
FOLDER_SCANS = 1000
DISTINCT = 1000
"""Volumes in the cache that are files of their own."""
LEAST_VOX, MOST_VOX = (64, 64, 48), (128, 128, 96)
TINY = (
    "preprocess.resize_vox=48x48x24",
    "crops.grid=2x2",
    "crops.size=24x24x24",
    "model.feature_size=2",
    "model.projector_hidden=[16]",
    "model.projector_out=16",
    "train.steps=1",
    "health.cases=2",
    "data.workers=0",
    "cache.workers=1",
    "run.device=cpu",
    "run.threads=1",
)


class Clock:
    """CPU seconds of what was done under it."""

    seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts while the block runs."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds += time.process_time() - start


def lay_out(folder: str, count: int) -> float:
    """Write ``count`` scans of 2 x 2 x 2 voxels, each a file of its own with its own time, one patient each."""
    import nibabel as nib
    import numpy as np

    clock, first = Clock(), Path(folder) / "first.nii"
    with clock.running():
        nib.save(nib.Nifti1Image(np.full(SCAN_VOX, 40, np.int16), np.diag([1.5, 1.5, 1.5, 1.0])), first)
        content = first.read_bytes()
        for number in range(count):
            home = Path(folder) / "scans" / f"{number // FOLDER_SCANS:04d}"
            if number % FOLDER_SCANS == 0:
                home.mkdir(parents=True)
            path = home / f"case_{number:06d}.nii"
            path.write_bytes(content)
            os.utime(path, ns=(number, 10**18 + number))
        first.unlink()
    return clock.seconds


def index(folder: str) -> float:
    """From the folder to data.json."""
    from voco_cli.data.index.build import IndexOptions, build_index
    from voco_cli.data.index.datalist_file import write_datalist

    clock, output = Clock(), Path(folder) / "data.json"
    with clock.running():
        write_datalist(build_index([Path(folder) / "scans"], output, IndexOptions(workers=1, modality="CT")), output)
    return clock.seconds


def open_list(folder: str) -> float:
    """Read data.json, and see that every file is there."""
    from voco_cli.data.index.datalist_file import read_datalist

    clock = Clock()
    with clock.running():
        read_datalist(Path(folder) / "data.json")
    return clock.seconds


def split(folder: str) -> float:
    """Draw the split of all patients."""
    from voco_cli.data.index.datalist import SplitRule, assign_splits
    from voco_cli.data.index.datalist_file import read_datalist

    patients = [entry.patient for _, entry in read_datalist(Path(folder) / "data.json", check_files=False).entries()]
    clock = Clock()
    with clock.running():
        assign_splits(patients, SplitRule())
    return clock.seconds


def fill_cache(folder: str) -> float:
    """Put a volume into the cache for every scan: to preprocess real ones would take days.

    They are stored as real ones are, of sizes that differ, smooth with noise: 0.2 to 1.5 million voxels, some 0.4 MB.
    Beyond `DISTINCT` scans volumes are further names (hard links) of those: 160,000 would be 60 GB.
    """
    from voco_cli.config import load_settings
    from voco_cli.data.cache.entry import settings_fingerprint, volume_key
    from voco_cli.data.cache.manifest import FOLDER
    from voco_cli.data.cache.store import VolumeCache, cache_folder, stored_path
    from voco_cli.data.index.datalist_file import read_datalist

    data = Path(folder) / "data.json"
    settings = load_settings("debug", None, TINY, {"data.file": data}).settings
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    entries = [entry for _, entry in read_datalist(data, check_files=False).entries()]
    cache.build(entries[:1])
    pattern, fingerprint = cache.lookup(entries[0]), settings_fingerprint(settings.preprocess, settings.cache)
    assert pattern is not None
    clock, metadata = Clock(), pattern.metadata
    with clock.running():
        made: list[Path] = []
        for number, entry in enumerate(entries):
            key = volume_key(entry.image, entry.files, fingerprint, full_hash=False)
            target = stored_path(cache.folder, "volumes", bytes.fromhex(key))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if number < DISTINCT:
                target.write_bytes(_volume(number, metadata.model_copy(update={"key": key}), settings.cache))
                made.append(target)
            else:
                target.hardlink_to(made[number % DISTINCT])
    shutil.rmtree(cache.folder / FOLDER)  # of the one scan that was built
    return clock.seconds


def _volume(number: int, metadata: VolumeMetadata, cache: Cache) -> bytes:
    """The content of the file of a made volume."""
    import numpy as np

    from voco_cli.data.cache.volume import compress, stored_hash, to_file_bytes

    rng = np.random.default_rng(number)
    shape = rng.integers(LEAST_VOX, MOST_VOX, endpoint=True)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    tissue = 150 + 60 * np.sin(5 * x + 3 * y) * np.cos(4 * z) + rng.normal(0, 6, shape)
    stored = np.where(x**2 + y**2 < 0.8, tissue, 0).clip(0, 255).astype(np.uint8)
    update = {"stored_hash": stored_hash(stored), "voxel_hash": f"{number:032x}"}
    return to_file_bytes(compress(stored, cache), metadata.model_copy(update=update))


def look_up(folder: str) -> float:
    """Open every scan and every volume, as the first start does, and write the manifest of the cache."""
    from voco_cli.config import load_settings
    from voco_cli.data.cache.store import VolumeCache, cache_folder
    from voco_cli.data.index.datalist_file import read_datalist

    data = Path(folder) / "data.json"
    settings = load_settings("debug", None, TINY, {"data.file": data}).settings
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    entries = [entry for _, entry in read_datalist(data, check_files=False).entries()]
    clock = Clock()
    with clock.running():
        prepared = cache.prepare(entries, recheck=True)
    assert (prepared.report.built, prepared.report.reused) == (0, len(entries))
    return clock.seconds


def start(folder: str) -> float:
    """`voco pretrain` until its loop begins, with all in cache and manifest; a second call resumes the run."""
    from voco_cli.config import load_settings
    from voco_cli.training.callbacks import Callback
    from voco_cli.training.run_dir import RunFolder
    from voco_cli.workflows.pretrain import run_pretraining

    class ReachedError(Exception):
        """The loop is about to begin."""

    class Stop(Callback):
        """Goes no further."""

        def started(self, step: int, steps: int) -> None:
            """Everything is ready."""
            raise ReachedError

    clock = Clock()
    flags = {"data.file": Path(folder) / "data.json", "run.dir": Path(folder) / "run"}
    with clock.running(), suppress(ReachedError):
        run_pretraining(load_settings("debug", None, TINY, flags), Stop())
    RunFolder(flags["run.dir"]).write_state("running", 0)  # as a kill in the first step leaves it: the next one resumes
    return clock.seconds


def draw_epoch(folder: str) -> float:
    """Which scans each batch of an epoch holds."""
    from voco_cli.data.index.datalist_file import read_datalist
    from voco_cli.training.dataloader import BatchNumbers, BatchPlan

    plan = BatchPlan(len(read_datalist(Path(folder) / "data.json", check_files=False).training), 2, 0)
    clock = Clock()
    with clock.running():
        drawn = sum(1 for _ in BatchNumbers(plan, 0, plan.batches_per_epoch))
    assert drawn == plan.batches_per_epoch
    return clock.seconds
