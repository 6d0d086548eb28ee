"""Generated scans laid out as the public set of a task is, with the label values of its preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import load_settings
from voco_cli.config.task_schema import Layout, Task
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct
from voco_cli.tasks.splits import Split, read_split

Size = tuple[int, int, int]

# Where a public set keeps the cases of a split apart from those that train: the layout's number in the preset.
OTHER_FOLDERS = {
    "amos": {"validation": 1, "test": 2},
    "word": {"validation": 1, "test": 2},
    "btcv": {"test": 1},
    "lits": {"test": 1},
    "msd_liver_tumour": {"test": 1},
    "msd_pancreas_tumour": {"test": 1},
    "msd_spleen": {"test": 1},
    "flare22": {"test": 1},
    "msd_hippocampus": {"test": 1},
}


def write_task(
    folder: Path,
    name: str,
    training: int = 3,
    validation: int = 2,
    test: int = 1,
    shape_xyz: Size = (40, 36, 16),
    layout: int | None = None,
) -> Path:
    """The first cases of each split of a task's public split, generated, in the layout of the public set.

    Use it with ``task.missing=leave_out``. Images are CTs of a torso (for several channels, the same with other
    contrasts; for ``.npy``, grey values), labels its organs under the values of the preset.

    Args:
        folder: the data folder; made where it does not exist.
        name: of a shipped task.
        training, validation, test: cases of each split; none are tested where the split has none.
        shape_xyz: voxels, at least 32x32x12.
        layout: number of the preset's layout for all cases; none is the usual one.
    """
    task = load_settings(task=name).settings.task
    split = read_split(task.split or "", task.fold)
    for part, count in (("training", training), ("validation", validation), ("test", test)):
        where = layout if layout is not None else OTHER_FOLDERS.get(name, {}).get(part, 0)
        for case in _spread(split, part, count):
            _write_case(folder, task, task.layouts[where], case, shape_xyz)
    return folder


def _spread(split: Split, part: str, count: int) -> list[str]:
    """The first cases of a split; of a classification, cases of each category in turn."""
    cases = split.cases[part]
    groups = [[case for case in cases if split.categories.get(case) == name] for name in _categories(split)]
    turns = [case for i in range(count) for group in groups for case in group[i : i + 1]]
    return (turns if split.categories else list(cases))[:count]


def _categories(split: Split) -> list[str]:
    return sorted(set(split.categories.values()))


def _write_case(folder: Path, task: Task, layout: Layout, case: str, shape_xyz: Size) -> None:
    phantom = generate_ct(_seed(case), shape_xyz)
    for channel, pattern in enumerate(layout.image):
        _write_image(folder / pattern.replace("{case}", case), phantom, channel)
    if layout.label is not None:
        path = folder / layout.label.replace("{case}", case)
        write_scan(label_values(phantom.labels_xyz, task).transpose(2, 1, 0), phantom.scan(path), path)


def label_values(organs_xyz: NDArray[np.uint8], task: Task) -> NDArray[np.uint16]:
    """Organs 1 to 13 under the label values of a task, each value of each class in turn; 0 stays 0."""
    values = [value for one in task.classes for value in one.values]
    table = np.zeros(14, np.uint16)
    table[1:] = [values[i % len(values)] for i in range(13)]
    return np.asarray(table[organs_xyz])


def _write_image(path: Path, phantom: SyntheticCT, channel: int) -> None:
    hu = phantom.image_hu_xyz.astype(np.float32)
    if path.name.endswith(".npy"):
        path.parent.mkdir(parents=True, exist_ok=True)
        grey: NDArray[Any] = np.clip((hu + 1000) / 8, 0, 255).astype(np.uint8)
        np.save(path, grey.transpose(2, 1, 0))
        return
    values = hu if not channel else np.abs(hu + 1000 - 150 * channel)
    scan: Scan = phantom.scan(path)
    write_scan(values.astype(np.int16).transpose(2, 1, 0), scan, path)


def _seed(case: str) -> int:
    return int.from_bytes(case.encode()[-6:], "big") % 2**31
