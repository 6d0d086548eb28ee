"""A finished fine-tuning run whose predictions are known beforehand: the network tells structures by grey value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.tasks.made_run import known_network, make_run
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.workflows import evaluate

BACKGROUND_HU, SPLEEN_HU, LIVER_HU = -175, -5, 165
"""0, 0.4 and 0.8 in the window: below, between and above the thresholds of the network."""
BOXES = ((slice(2, 6), slice(4, 8), slice(4, 8)), (slice(8, 12), slice(4, 8), slice(4, 8)))


def write_case(folder: Path, name: str, shift: int = 0, liver: bool = True, values: Sequence[int] = (4, 6)) -> Entry:
    """A CT of two boxes of 4 x 4 x 4 voxels, and a label map whose boxes lie ``shift`` voxels further along x."""
    image, label = np.full((16, 16, 16), BACKGROUND_HU, np.int16), np.zeros((16, 16, 16), np.uint8)
    for box, hu, value in zip(BOXES, (SPLEEN_HU, LIVER_HU), values, strict=True):
        if hu == SPLEEN_HU or liver:
            image[box] = hu
        label[slice(box[0].start + shift, box[0].stop + shift), box[1], box[2]] = value
    # Something to tell the scans apart by, which stays in its class.
    image[BOXES[0]] += sum(map(ord, name)) % 7
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"{name}.nii.gz", folder / f"{name}_seg.nii.gz")
    for path, array in zip(paths, (image, label), strict=True):
        nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return Entry(image=paths[0], label=paths[1], patient=f"patient {name}")


def finetuned_run(folder: Path, *overrides: str, **splits: Sequence[Entry]) -> Path:
    """A run folder with these cases, and weights that say how they were chosen."""
    run = make_run(folder, *overrides)
    about = run / "weights" / "model.json"
    described: dict[str, Any] = json.loads(about.read_text())
    about.write_text(json.dumps({**described, "chosen": "weights of step 7, the best of 3 validations"}))
    write_datalist(
        Datalist(name="tiny", **{split: tuple(entries) for split, entries in splits.items()}), run / "data.json"
    )
    return run


def know_the_network(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let `measure` use the network that is known; returns the runs that it was loaded for, as they come."""
    loaded = []

    def load(run: Path, device: str | None = None) -> Any:
        loaded.append(run)
        return known_network(run)

    monkeypatch.setattr(evaluate, "load_trained", load)
    return loaded
