"""What lies in examples/ works as it stands there, on generated scans and for a step or two."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import yaml

from tests.command import forked
from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from voco_cli.config import load_settings
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import run_finetuning
from voco_cli.workflows.pretrain import run_pretraining

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
TASKS = [path for path in FILES if "task" in yaml.safe_load(path.read_text())]
PRETRAINING = [path for path in FILES if path not in TASKS]


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_settings_files_are_valid_and_every_value_in_them_counts(path: Path) -> None:
    resolved = load_settings(task=str(path)) if path in TASKS else load_settings(config=path)
    assert str(path) in set(resolved.sources.values())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("scans"))


@pytest.mark.parametrize("path", PRETRAINING, ids=name_of)
def test_pretraining_runs(path: Path, data: Path, tmp_path: Path) -> None:
    """At a tiny size; intensities, objective, augmentation and schedule are the example's."""
    given = set(yaml.safe_load(path.read_text()))
    tiny = [one for one in TINY if not (one.startswith(("objective.", "augment.")) and one.split(".")[0] in given)]
    smaller = ("crops.input_size=null", "model.backbone=unet", "train.steps=2", "train.validate_every=2")
    resolved = load_settings(None, path, (*tiny, *smaller), {"data.file": data, "run.dir": tmp_path / "run"})
    result = run_pretraining(resolved, Callback())
    assert result.weights.is_file()
    assert result.verdict is not None


def organs_data(folder: Path) -> Path:
    write_cts(folder, 6, 1, (48, 48, 24), labelled=True)
    return folder


def sarcoma_data(folder: Path) -> Path:
    """Enough patients for the split of the example."""
    images = write_cts(folder, 30, 1, (36, 36, 16))
    (folder / "images").mkdir()
    rows = ["case,patient,label"]
    for number, path in enumerate(images):
        path.rename(folder / "images" / f"case{number}.nii.gz")
        rows.append(f"case{number},P{number},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


MAKERS = {"organs_task.yaml": organs_data, "sarcoma_lungmets.yaml": sarcoma_data}


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_finetuning_runs(path: Path, tmp_path: Path) -> None:
    """With a small network and few steps; layout, classes and split are the example's."""
    folder = MAKERS[path.name](tmp_path / "data")
    sizes = (
        "preprocess.min_size_vox=null",
        "preprocess.resize_vox=16x16x16",
        "train.steps=2",
        "train.validate_every=2",
    )
    if path.name == "organs_task.yaml":
        sizes = (*sizes, "preprocess.resize_vox=null")
    flags = {"data.root": folder, "run.dir": tmp_path / "run"}
    overrides = [one for one in (*TINY_TASK, *sizes) if not one.startswith("task.missing")]
    run_finetuning(load_settings(None, None, overrides, flags, task=str(path)), Callback())
    assert (tmp_path / "run" / "evaluation" / "test" / "summary.json").is_file()


def test_every_example_is_told_of() -> None:
    told = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in told] == ["README.md"]


def run_script(name: str, *arguments: str) -> str:
    """What an example prints, with the settings of a tiny run in its environment."""
    tiny = (one.partition("=") for one in (*TINY, "train.validate_every=2"))
    environment = {f"VOCO_{key.upper().replace('.', '__')}": value for key, _, value in tiny}
    script = str(EXAMPLES / name)
    shown = forked(lambda: runpy.run_path(script, run_name="__main__"), [script, *arguments], ROOT, environment)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_an_encoder_is_put_into_monais_network(tmp_path: Path) -> None:
    tiny_run(write_data(tmp_path / "scans"), tmp_path / "run", "train.steps=1")
    assert "30" in run_script("load_encoder.py", str(tmp_path / "run"))  # five levels of six tensors


def test_the_api_from_a_folder_to_features(tmp_path: Path) -> None:
    write_cts(tmp_path / "scans", 6, 1, (48, 48, 24))
    shown = run_script("api.py", str(tmp_path / "scans"), str(tmp_path / "out"), "2").splitlines()
    assert shown[0] == "5 scans to train on, 1 held out"
    assert shown[2] == "DynUNet: 30 tensors loaded, 30 keep their start values"
    assert shown[3].endswith("_0000.nii.gz: (1, 62)")  # 2 + 4 + 8 + 16 + 32 channels
