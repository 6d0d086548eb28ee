"""Pre-training on labels of whole scans: it resumes bit for bit, and what happens where nobody labelled a scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pretrain.tiny_run import At, tiny_run, write_data
from tests.training.made_job import numbers, state, weights
from voco_cli.config import load_settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.index.labelled import suit_scan_labels
from voco_cli.errors import Interrupted, UsageError
from voco_cli.models.weights.read import read_weights

WEAK = ("objective.weak.weight=1", "crops.size=24x24x24", "health.crops_per_case=2")
ALONE = ("objective.voco.weight=0", *WEAK)
SAID: tuple[dict[str, bool], ...] = ({"tumour": True}, {"tumour": False, "effusion": True}, {}, {"effusion": False})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_data(tmp_path_factory.mktemp("data"), 4, 2)
    held = read_datalist(path)
    training = [one.model_copy(update={"scan_labels": said}) for one, said in zip(held.training, SAID, strict=True)]
    answers = ({"tumour": True}, {"tumour": False})
    validation = [one.model_copy(update={"scan_labels": a}) for one, a in zip(held.validation, answers, strict=True)]
    changes = {"training": tuple(training), "validation": tuple(validation), "scan_classes": ("tumour", "effusion")}
    write_datalist(held.model_copy(update=changes), path)
    return path


def test_it_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    whole = tiny_run(data, tmp_path / "whole", *ALONE)
    assert whole.end["auc"] == whole.end["auc/tumour"] in (0.0, 0.5, 1.0)
    assert whole.end["error"] == 1 - whole.end["auc"]
    assert "auc/effusion" not in whole.end

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *ALONE, callback=At(advanced=6, then=stop))
    tiny_run(data, tmp_path / "parts", *ALONE)
    assert state(tmp_path / "parts")["status"] == "done"
    assert weights(tmp_path / "parts", 12) == weights(tmp_path / "whole", 12)
    assert numbers(tmp_path / "parts")[-1] == numbers(tmp_path / "whole")[-1]
    (stage,) = json.loads((tmp_path / "whole" / "weights" / "seen.json").read_text())["stages"]
    assert stage["classes"] == ["tumour", "effusion"]
    assert sum(stage["labels_used"]) == 3


def test_it_is_summed_with_others(data: Path, tmp_path: Path) -> None:
    run = tiny_run(data, tmp_path / "run", *WEAK, "train.steps=4", "train.validate_every=4")
    assert {one.partition("/")[0] for one in run.end} == {"voco", "weak"}
    assert read_weights(str(tmp_path / "run" / "weights" / "encoder.safetensors")) is not None


def bare_list(**changes: object) -> Datalist:
    return Datalist(training=(Entry(image=Path("a.nii.gz"), patient="a"),), **changes)  # type: ignore[arg-type]


def test_omni_goes_without_scan_labels_and_says_so() -> None:
    suited, note = suit_scan_labels(load_settings("omni"), bare_list(), Path("d/data.json"))
    assert suited.settings.objective.active() == {"voco": 1.0, "supervised": 1.0, "pseudo": 1.0}
    assert suited.sources["objective.weak.weight"] == "no scan labels in data.json"
    assert note == "d/data.json has no scan labels to train on, so objective.weak is left out"


@pytest.mark.parametrize(("recipe", "override"), [("weak", ()), ("omni", ("objective.weak.weight=2",))])
def test_weak_supervision_that_was_asked_for_is_refused_without_labels(recipe: str, override: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        suit_scan_labels(load_settings(recipe, None, override), bare_list(), Path("data.json"))
    assert caught.value.message == (
        "objective.weak learns from labels of whole scans, and no training scan of data.json has one."
    )
    assert "--scan-labels" in str(caught.value.hint)


def test_settings_take_the_classes_of_the_list_or_some_of_them(data: Path) -> None:
    held = read_datalist(data)
    suited, note = suit_scan_labels(load_settings("weak"), held, data)
    assert (suited.settings.objective.weak.classes, note) == (("tumour", "effusion"), None)
    some, _ = suit_scan_labels(load_settings("weak", None, ["objective.weak.classes=[effusion]"]), held, data)
    assert some.settings.objective.weak.classes == ("effusion",)
    with pytest.raises(UsageError, match=r"objective.weak.classes names lung, of which .* has no scan labels"):
        suit_scan_labels(load_settings("weak", None, ["objective.weak.classes=[lung]"]), held, data)
