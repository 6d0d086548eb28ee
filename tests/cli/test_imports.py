"""What each command loads: which libraries that take their time, and how many modules; seconds are for benchmarks/.

Each command runs for real, in a process of its own or after others that may load the same. Those that build no
network load neither torch nor MONAI.
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

RECORD = """
import json, sys
from pathlib import Path
into, commands, found = Path(sys.argv[1]), sys.argv[2:], {}
sys.modules["requests"] = None  # pydicom loads it where it is installed, which voco does not ask for
from voco_cli.cli.app import main
for command in commands:
    sys.argv = ["voco", *command.split()]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    found[command] = [code, sorted(sys.modules)]
into.write_text(json.dumps(found))
"""

READING = {"nibabel"}
MEASURING = READING | {"scipy.ndimage"}
DRAWING = READING | {"matplotlib"}
PAGE = MEASURING | {"matplotlib", "jinja2"}
COMMANDS: tuple[tuple[set[str], dict[str, int]], ...] = (
    (set(), {"--help": 500, "pretrain --help": 500}),
    (
        set(),
        {
            "submit --dry-run pretrain scan.json --recipe debug": 800,
            "submit --local config init --recipe debug -o given.yaml": 800,
            "jobs": 800,
        },
    ),
    (set(), {"config show --recipe debug": 550, "config init --recipe debug -o settings.yaml": 550}),
    ({"torch"}, {"weights inspect encoder": 1900, "weights inspect encoder.pt": 1900}),
    (
        READING,
        {
            "index scans -o data.json": 800,
            "index sets --collection own.yaml -o own.json": 850,
            "collections list": 850,
            "collections show voco_10k": 850,
            "collections check own.yaml sets": 850,
            "tasks list": 850,
            "tasks show btcv": 850,
            "tasks check --task organs.yaml": 850,
        },
    ),
    (READING | {"jinja2"}, {"tasks new listed.json -o new.yaml": 850}),
    (
        DRAWING,
        {
            "preview-labels scan.nii.gz --recipe debug -o labels.png": 1050,
            "preview-labels scan.nii.gz --recipe debug -o labels.png --augmented": 1050,
        },
    ),
    (MEASURING | DRAWING, {"tasks preview scans/a.nii.gz labels/a.nii.gz -o case.png": 1300}),
    (MEASURING, {"evaluate --predictions first --labels labels -o evaluated": 1100}),
    (MEASURING | {"matplotlib", "scipy.stats"}, {"compare compared/first compared/second": 1550}),
    (PAGE, {"report pretrained -o pretrained.html": 1450, "report finetuned -o finetuned.html": 1450}),
    (
        READING | {"blosc2"},
        {
            "cache build scan.json --recipe debug --workers 1": 1100,
            "cache verify scan.json --recipe debug --workers 1": 1100,
            "cache stats scan.json --recipe debug": 1100,
        },
    ),
    (READING | {"blosc2", "psutil", "scipy.ndimage"}, {"doctor": 1500}),
)
"""What may be loaded of these by commands that one process runs in turn, and the most modules in all after each."""


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
    save(folder / "sets" / "ward.nii.gz", rng.integers(-900, 300, labels.shape).astype(np.int16))
    (folder / "sets" / "ward").mkdir()
    (folder / "sets" / "ward.nii.gz").rename(folder / "sets" / "ward" / "a.nii.gz")
    (folder / "own.yaml").write_text("name: ward\ncases: {training: [a.nii.gz]}\n")
    finetuning_run(folder / "finetuned", scans=True)
    pretraining_run(folder / "pretrained", training=[scan])
    return folder


@pytest.mark.parametrize(("allowed", "commands"), COMMANDS, ids=[", ".join(commands) for _, commands in COMMANDS])
def test_a_command_loads_what_it_needs(allowed: set[str], commands: dict[str, int], folder: Path) -> None:
    into = folder / "loaded.json"
    shown = subprocess.run(
        [sys.executable, "-c", RECORD, str(into), *commands],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    found = json.loads(into.read_text())
    assert list(found) == list(commands)
    for command, (code, loaded) in found.items():
        assert code == 0, f"{command}: {shown.stderr}"
        assert set(SLOW).intersection(loaded) <= allowed, command
        assert len(loaded) <= commands[command], command
