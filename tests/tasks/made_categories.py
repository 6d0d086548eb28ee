"""Generated scans of two or three categories in a cache: how bright a scan is tells its category."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.config import Settings
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.tasks.cases import StoredCase

NAMES = ("normal", "pneumonia", "covid")
SIZE = (12, 12, 8)


def classification_settings(categories: int = 2, **sections: dict[str, Any]) -> Settings:
    """The smallest classification: the unet of two channels and three levels on volumes of 12 x 12 x 8 voxels."""
    values: dict[str, Any] = {
        "seed": 3,
        "task": {
            "preset": "made",
            "name": "made",
            "kind": "classification",
            "classes": [{"name": name, "values": 10 + n} for n, name in enumerate(NAMES[:categories])],
        },
        "preprocess": {"window_hu": (0, 255), "foreground_above": None, "resize_vox": SIZE},
        "model": {"backbone": "unet", "feature_size": 2, "levels": 3},
        "augment": {"flip_prob": 0.5, "rotate_prob": 0.5, "shift_prob": 0.5, "noise_prob": 0.5, "affine_prob": 0.5},
        "train": {"steps": 8, "batch_size": 2, "lr": 0.01, "checkpoint_every": 4, "validate_every": 4, "log_every": 1},
        "data": {"workers": 0},
        "run": {"device": "cpu", "threads": 1},
        "cache": {"workers": 1},
    }
    for section, changed in sections.items():
        values[section] = {**values[section], **changed}
    return Settings.model_validate(values)


def make_entries(folder: Path, categories: Sequence[int], *, prefix: str = "p", seed: int = 0) -> list[Entry]:
    """``.npy`` scans, one a patient; a bright ball in scans of category 1, a bright half in those of category 2."""
    folder.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:10, :14, :13] - np.array([4.5, 6.5, 6.0])[:, None, None, None]
    entries = []
    for n, category in enumerate(categories):
        scan = rng.integers(60, 100, z.shape)
        scan[(x**2 + y**2 + z**2 < 16) if category == 1 else (x > 2) if category == 2 else (x > 99)] += 120
        path = folder / f"{prefix}{n}-s{n}.npy"
        np.save(path, scan.astype(np.uint8))
        name = f"{prefix}{n}-s{n}"
        entries.append(Entry(image=path, patient=f"{prefix}{n}", case=name, category=NAMES[category]))
    return entries


def store(folder: Path, entries: Sequence[Entry], settings: Settings) -> list[StoredCase]:
    """Cases from a cache that is built here."""
    cache = VolumeCache(folder, settings.preprocess, settings.cache)
    channels = [channel for entry in entries for channel in entry.channel_entries()]
    assert not cache.build(channels).failed
    cases = []
    for entry in entries:
        volumes = [cache.lookup(channel) for channel in entry.channel_entries()]
        cases.append(StoredCase(entry, tuple(volume for volume in volumes if volume is not None)))
    return cases
