"""The smallest pre-training run that is one: generated scans of 48 x 48 x 24 voxels, two by two base crops."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from voco_cli.atomic_files import whole_file
from voco_cli.config import load_settings
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.figures.locate import LocationPanel, draw_location
from voco_cli.training.callbacks import Callback, Values
from voco_cli.workflows.pretrain import PretrainResult, run_pretraining

TINY = (
    "preprocess.resize_vox=48x48x24",
    "crops.grid=2x2",
    "crops.size=24x24x24",
    "crops.random_per_volume=2",
    "augment.flip_prob=0.5",
    "model.feature_size=2",
    "model.projector_hidden=[16]",
    "model.projector_out=16",
    "objective.voco.dropout=0.2",
    "train.steps=12",
    "train.checkpoint_every=4",
    "train.validate_every=6",
    "run.device=cpu",
    "run.threads=1",
    "data.workers=0",
    "cache.workers=1",
)


def write_data(folder: Path, training: int = 6, held_out: int = 2) -> Path:
    """Generated scans and their data.json, which is returned."""
    images = write_cts(folder, training + held_out, 1, (48, 48, 24))
    items = [{"image": str(path.relative_to(folder)), "patient": path.stem} for path in images]
    data = folder / "data.json"
    data.write_text(json.dumps({"modality": "CT", "training": items[:training], "validation": items[training:]}))
    return data


class At(Callback):
    """Does something at a step: when it was trained, or when it was validated."""

    def __init__(self, advanced: int = -1, validated: int = -1, then: Callable[[], None] = lambda: None) -> None:
        self.at, self.then = {"advanced": advanced, "validated": validated}, then

    def advanced(self, step: int) -> None:
        if step == self.at["advanced"]:
            self.then()

    def validated(self, step: int, values: Values) -> None:
        if step == self.at["validated"]:
            self.then()


def tiny_run(
    data: Path, run: Path, *override: str, callback: Callback | None = None, recheck: bool = False
) -> PretrainResult:
    """Pre-train in this process, whose first picture of a validation stands for all: drawing takes most of a run."""
    flags = {"data.file": data, "run.dir": run}
    settings = load_settings("debug", None, (*TINY, *override), flags)
    with patch("voco_cli.pretrain.pictures.draw_location", _draw_once):
        return run_pretraining(settings, callback or Callback(), recheck=recheck)


_DRAWN: list[bytes] = []


def _draw_once(panel: LocationPanel, path: Path) -> None:
    if _DRAWN:
        with whole_file(path) as beside:
            beside.write_bytes(_DRAWN[0])
    else:
        draw_location(panel, path)
        _DRAWN.append(path.read_bytes())


def killed_run(data: Path, run: Path, callback: At, *override: str) -> None:
    """Pre-train in another process, which ends by SIGKILL where the watcher says."""
    callback.then = lambda: os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        try:
            tiny_run(data, run, *override, callback=callback)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
