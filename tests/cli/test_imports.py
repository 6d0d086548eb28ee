"""What each command loads: which libraries that take their time, and how many modules; seconds are for benchmarks/.

Each command runs for real, in a process of its own. Those that build no network load neither torch nor MONAI.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.report.made_runs import finetuning_run, pretraining_run
from voco_cli.config.schema import Model
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import write_encoder
from voco_cli.tasks.new_task import source_of_list, task_file

SLOW = (
    "SimpleITK",
    "accelerate",
    "blosc2",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "monai",
    "nibabel",
    "pandas",
    "psutil",
    "pyarrow",
    "scipy.ndimage",
    "scipy.stats",
    "tensorboard",
    "torch",
    "transformers",
)
"""Libraries that one notices while they load."""

RECORD = (
    "import json, sys\n"
    "from pathlib import Path\n"
    "into = Path(sys.argv[1])\nsys.argv = ['voco', *sys.argv[2:]]\n"
    "from voco_cli.cli.app import main\n"
    "code = 0\n"
    "try:\n    main()\nexcept SystemExit as end:\n    code = end.code or 0\n"
    "into.write_text(json.dumps([code, sorted(sys.modules)]))\n"
)

READING = {"nibabel"}
MEASURING = READING | {"scipy.ndimage"}
DRAWING = READING | {"matplotlib"}
PAGE = MEASURING | {"matplotlib", "jinja2"}
COMMANDS: dict[str, tuple[set[str], int]] = {
    "--help": (set(), 500),
    "pretrain --help": (set(), 500),
    "config show --recipe debug": (set(), 550),
    "config init --recipe debug -o settings.yaml": (set(), 550),
    "weights inspect encoder": ({"torch"}, 1900),
    "weights inspect encoder.pt": ({"torch"}, 1900),
    "tasks list": (READING, 850),
    "tasks show btcv": (READING, 850),
    "tasks new listed.json -o new.yaml": (READING | {"jinja2"}, 850),
    "tasks check --task organs.yaml": (READING, 850),
    "index scans -o data.json": (READING, 800),
    "preview-labels scan.nii.gz --recipe debug -o labels.png": (DRAWING, 1050),
    "preview-labels scan.nii.gz --recipe debug -o labels.png --augmented": (DRAWING, 1050),
    "tasks preview scans/a.nii.gz labels/a.nii.gz -o case.png": (MEASURING | DRAWING, 1300),
    "evaluate --predictions first --labels labels -o evaluated": (MEASURING, 1100),
    "compare compared/first compared/second": (MEASURING | {"matplotlib", "scipy.stats"}, 1550),
    "report pretrained -o pretrained.html": (PAGE, 1450),
    "report finetuned -o finetuned.html": (PAGE, 1450),
    "cache build scan.json --recipe debug --workers 1": (READING | {"blosc2"}, 1100),
    "cache verify scan.json --recipe debug --workers 1": (READING | {"blosc2"}, 1100),
    "cache stats scan.json --recipe debug": (READING | {"blosc2"}, 1100),
    "doctor": (READING | {"blosc2", "psutil", "scipy.ndimage"}, 1500),
}
"""Command to what it may load of these, and the most modules that it may load in all."""


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([3.0, 3.0, 4.0, 1.0])), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files for every command, and the current folder of all of them."""
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 20, 16), np.uint8)
    labels[4:12, 4:12, 4:12] = 1
    for case in ("a", "b"):
        save(folder / "scans" / f"{case}.nii.gz", rng.integers(-900, 300, labels.shape).astype(np.int16))
        save(folder / "labels" / f"{case}.nii.gz", labels)
        save(folder / "first" / f"{case}.nii.gz", np.roll(labels, 1, axis=0))
    save(folder / "scan.nii.gz", rng.integers(-900, 300, (80, 80, 40)).astype(np.int16))
    write_encoder(
        folder / "encoder",
        build_encoder(Model(backbone="unet")),
        {"model": Model(backbone="unet").model_dump(mode="json")},
    )
    torch.save(build_encoder(Model(feature_size=12)).state_dict(), folder / "encoder.pt")
    entries = [
        Entry(
            image=folder / "scans" / f"{case}.nii.gz",
            label=folder / "labels" / f"{case}.nii.gz",
            patient=case,
        )
        for case in ("a", "b")
    ]
    scan = Entry(image=folder / "scan.nii.gz", patient="p")
    write_datalist(Datalist(name="made", training=(scan, scan)), folder / "scan.json")
    listed = Datalist(name="made", labels={"1": "organ"}, training=tuple(entries[:1]), validation=tuple(entries[1:]))
    write_datalist(listed, folder / "listed.json")
    task = task_file(
        source_of_list(folder / "listed.json", "CT"), folder / "organs.yaml", "unet", lambda count: None, 1
    )
    (folder / "organs.yaml").write_text(task)
    for name in ("first", "second"):
        made = finetuning_run(folder / f"run_{name}", scans=name == "first")
        (folder / "compared").mkdir(exist_ok=True)
        (made / "evaluation" / "test").rename(folder / "compared" / name)
    finetuning_run(folder / "finetuned", scans=True)
    pretraining_run(folder / "pretrained", training=[scan])
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_what_it_needs(command: str, folder: Path) -> None:
    allowed, most = COMMANDS[command]
    into = folder / "loaded.json"
    shown = subprocess.run(
        [sys.executable, "-c", RECORD, str(into), *command.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    code, loaded = json.loads(into.read_text())
    assert code == 0, shown.stderr
    assert set(SLOW).intersection(loaded) <= allowed
    assert len(loaded) <= most
