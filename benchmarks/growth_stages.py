"""What the case growth measures, each in a process of its own: stages of a pre-training over very many scans.

Every function gets the folder that `lay_out` filled, and returns the CPU seconds of its own work, imports left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCAN_VOX = (2, 2, 2)
FOLDER_SCANS = 1000
LINKS = 10_000
"""Names of one file; file systems allow some 65,000."""
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
    """Put one volume into the cache under the names of all scans; to build each of them would take hours."""
    from voco_cli.config import load_settings
    from voco_cli.data.cache.entry import settings_fingerprint, volume_key
    from voco_cli.data.cache.store import VolumeCache, cache_folder
    from voco_cli.data.index.datalist_file import read_datalist

    data = Path(folder) / "data.json"
    settings = load_settings("debug", None, TINY, {"data.file": data}).settings
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    entries = [entry for _, entry in read_datalist(data, check_files=False).entries()]
    cache.build(entries[:1])
    made, fingerprint = cache.lookup(entries[0]), settings_fingerprint(settings.preprocess, settings.cache)
    assert made is not None
    clock, content = Clock(), made.path.read_bytes()
    with clock.running():
        source = made.path
        for number, entry in enumerate(entries[1:], start=1):
            key = volume_key(entry.image, entry.files, fingerprint, full_hash=False)
            target = source.parents[1] / key[:2] / f"{key}{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if number % LINKS == 0:
                target.write_bytes(content)
                source = target
            else:
                target.hardlink_to(source)
    return clock.seconds


def look_up(folder: str) -> float:
    """Find every scan in the cache, and open it."""
    from voco_cli.config import load_settings
    from voco_cli.data.cache.store import VolumeCache, cache_folder
    from voco_cli.data.index.datalist_file import read_datalist

    data = Path(folder) / "data.json"
    settings = load_settings("debug", None, TINY, {"data.file": data}).settings
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    entries = [entry for _, entry in read_datalist(data, check_files=False).entries()]
    clock = Clock()
    with clock.running():
        for entry in entries:
            volume = cache.lookup(entry)
            assert volume is not None
            assert volume.shape_xyz == settings.preprocess.resize_vox
    return clock.seconds


def start(folder: str) -> float:
    """`voco pretrain` until its loop begins, with everything in the cache; a second call resumes the run."""
    from voco_cli.config import load_settings
    from voco_cli.training.callbacks import Callback
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
