"""What a fine-tuned network finds of painted tumours: the filter of `voco synthesize`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import write_scan
from voco_cli.errors import UsageError
from voco_cli.predict.predictor import load_trained
from voco_cli.predict.segmentation import predict_case
from voco_cli.workflows.synthesize import Finder


def finder(run: Path, lesion: str, device: str | None, folder: Path) -> Finder:
    """Return a function from a scan to the voxels that a network takes for the lesion.

    Args:
        run: of a fine-tuning whose task has a class of that name.
        folder: on a disk with room for a scan, which is written there and removed again.
    Raises:
        UsageError: another kind of run, or one without that class.
        DataError: damaged weights.
    """
    trained = load_trained(run, device)
    task = trained.settings.task
    values = next((one.values for one in task.classes if one.name == lesion), None)
    if not task.is_voxelwise or values is None:
        names = ", ".join(one.name for one in task.classes)
        raise UsageError(
            f"{run} finds no class {lesion!r}: its classes are {names}.", "name its lesion with --lesion NAME"
        )
    value = values[0]

    def find(scan: Scan) -> NDArray[np.bool_]:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as name:
            image = Path(name) / "scan.nii.gz"
            write_scan(scan.array_zyx, scan, image)
            predicted: NDArray[Any] = predict_case(trained, Entry(image=image, patient="scan"))[0]
        return np.asarray(predicted == value)

    return find
