"""A run is measured: which cases, with what figures, and what is told of them. Figures are worked out by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.finetune.made_finetuned import finetuned_run, know_the_network, write_case
from voco_cli.config.task_schema import LabelClass, LabelRegion, Task
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, training_scans, write_manifest
from voco_cli.data.io.image import voxel_hash
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.classes import task_classes, task_regions
from voco_cli.evaluate.segmentation.metrics import Structure
from voco_cli.workflows.evaluate import (
    measure,
    measure_run,
    measured_split,
    open_run,
    options_of,
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two test cases: labels as predicted, and labels one voxel further, the second without a predicted liver."""
    know_the_network(monkeypatch)
    test = [write_case(tmp_path / "data", "a"), write_case(tmp_path / "data", "b", shift=1, liver=False)]
    validation = [write_case(tmp_path / "data", "v")]
    return finetuned_run(tmp_path / "run", test=test, validation=validation)


def test_figures_of_the_test_split_in_the_scans_own_space(run: Path) -> None:
    measured = measure_run(run)
    assert measured is not None
    assert (measured.split, measured.folder) == ("test", run / "evaluation" / "test")
    found = json.loads((run / "evaluation" / "test" / "summary.json").read_text())
    spleen, liver = found["structures"]
    # 4^3 voxels moved by one share 3 x 4 x 4 of them: Dice 2 * 48 / 128. The label's value 4 is spleen as 3 is.
    assert spleen["metrics"]["dice"]["mean"] == pytest.approx((1 + 0.75) / 2)
    assert (spleen["missed"], liver["missed"], liver["false_positive"]) == (0, 1, 0)
    assert liver["metrics"]["dice"]["mean"] == pytest.approx(0.5)
    assert found["unlisted_labels"] == {}
    assert sorted(path.name for path in (run / "predictions" / "test").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]
    written = np.asarray(nib.load(run / "predictions" / "test" / "a.nii.gz").dataobj)
    assert set(np.unique(written)) == {0, 3, 6}


def test_what_is_told_with_the_figures(run: Path) -> None:
    measure_run(run)
    found = json.loads((run / "evaluation" / "test" / "summary.json").read_text())
    assert (found["split"], found["run"]) == ("test", str(run))
    assert found["chosen"] == "weights of step 7, the best of 3 validations"
    assert found["leakage"]["unknown_weights"] == [str(run)]
    table = (run / "evaluation" / "test" / "table.md").read_text()
    assert f"Measured on the test split of {run}; its weights: weights of step 7, the best of 3 validations." in table
    assert "Leakage of 2 evaluated cases cannot be ruled out" in table


def test_predictions_are_kept_until_the_weights_change(run: Path) -> None:
    measure_run(run)
    prediction = run / "predictions" / "test" / "a.nii.gz"
    first = prediction.stat().st_mtime_ns
    measure_run(run)
    assert prediction.stat().st_mtime_ns == first
    weights = run / "weights" / "model.safetensors"
    other = finetuned_run(run.parent / "other", "seed=5") / "weights" / "model.safetensors"
    content = bytearray(other.read_bytes())
    content[-1] ^= 1  # the last bit of a weight
    weights.write_bytes(content)
    measure_run(run)
    assert prediction.stat().st_mtime_ns > first


def test_leaks_from_pretraining_and_from_training_are_found(run: Path) -> None:
    """The first test case was pre-trained on; the second is another scan of a patient of the training cases."""
    opened = open_run(run)
    entries = measured_split(opened)[1]
    measured = measure(opened, "test", entries)
    assert measured.provenance.leakage["clean"] is False
    hashes = {one.name: voxel_hash(read_scan(one.image)) for one in entries}
    pretraining = training_scans("pre-training", "big", [ScanIdentity("z", "zoe", hashes["a"])])
    training = training_scans("fine-tuning", "tiny", [ScanIdentity("t", "patient b", "0" * 32)])
    write_manifest(TrainingManifest((pretraining, training)), run / "weights" / "seen.json")
    leakage = measure(opened, "test", entries).provenance.leakage
    assert [(one["by"], one["stage"], one["cases"]) for one in leakage["found"]] == [
        ("scan", "pre-training", ["a"]),
        ("patient", "fine-tuning", ["b"]),
    ]
    shutil.rmtree(run / "predictions")
    with pytest.raises(VocoError, match="was in the pre-training") as refused:
        measure(opened, "test", entries, clean=True)
    assert refused.value.exit_code == 1
    assert not (run / "predictions").exists()  # it is said before hours of prediction


def test_a_clean_run_says_so_and_passes(run: Path) -> None:
    write_manifest(
        TrainingManifest((training_scans("fine-tuning", "tiny", [ScanIdentity("t", "t", "0" * 32)]),)),
        run / "weights/seen.json",
    )
    opened = open_run(run)
    measured = measure(opened, "test", measured_split(opened)[1], clean=True)
    assert measured.provenance.lines()[1] == (
        "Data leakage: none of 2 evaluated cases was among 1 scans of the fine-tuning (tiny)."
    )


def test_validation_is_measured_where_the_test_split_has_no_labels(run: Path) -> None:
    unlabelled = [entry.model_copy(update={"label": None}) for entry in open_run(run).datalist.test]
    other = finetuned_run(run.parent / "second", test=unlabelled, validation=open_run(run).datalist.validation)
    opened = open_run(other)
    split, entries = measured_split(opened)
    assert (split, [entry.name for entry in entries]) == ("validation", ["v"])
    with pytest.raises(UsageError, match="has no labelled case in its test split"):
        measured_split(opened, "test")
    measured = measure(opened, split, entries)
    assert "validation split (the cases that the best weights are chosen on)" in measured.provenance.lines()[0]
    assert measure_run(finetuned_run(run.parent / "third", test=unlabelled)) is None


def test_options_of_the_run_and_others(run: Path) -> None:
    other = finetuned_run(
        run.parent / "strict",
        "evaluate.tolerance_mm=0.5",
        "evaluate.empty=released",
        "evaluate.resamples=300",
        "seed=4",
        test=open_run(run).datalist.test,
    )
    options = options_of(open_run(other).settings)
    assert (options.tolerance_mm, options.rule.name, options.resamples, options.seed) == (0.5, "released", 300, 4)
    opened = open_run(run)
    measured = measure(opened, *measured_split(opened), EvaluationOptions(resamples=100), output=run.parent / "out")
    assert measured.folder == run.parent / "out"
    assert json.loads((run.parent / "out" / "summary.json").read_text())["interval"]["resamples"] == 100


def test_a_case_that_cannot_be_predicted_is_named_and_the_others_measured(run: Path) -> None:
    opened = open_run(run)
    opened.datalist.test[1].image.write_bytes(b"no image")
    measured = measure(opened, *measured_split(opened))
    assert [case for case, _ in measured.evaluation.failed] == ["b"]
    assert measured.evaluation.summary.cases == 1
    opened.datalist.test[0].image.write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 2 test cases could be predicted; a: "):
        measure(opened, *measured_split(opened))


def test_labels_outside_the_classes_count_as_background_and_are_told(run: Path) -> None:
    write_case(run.parent / "data", "a", values=(4, 9))
    opened = open_run(run)
    evaluation = measure(opened, *measured_split(opened)).evaluation
    assert evaluation.unlisted == {9: 1}
    assert (
        "Label values outside the classes, taken as background: 9 (1 cases)."
        in (run / "evaluation" / "test" / "table.md").read_text()
    )


def test_a_label_map_on_another_grid_is_named(run: Path) -> None:
    label = open_run(run).datalist.test[0].label
    assert label is not None
    moved = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), np.diag([2.0, 2.0, 3.0, 1.0])), label)
    opened = open_run(run)
    ((case, reason),) = measure(opened, *measured_split(opened)).evaluation.failed
    assert case == "a"
    assert "lies on another grid than its label" in reason


def test_what_is_no_finished_fine_tuning_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        open_run(tmp_path)
    (run / "weights" / "model.json").rename(run / "weights" / "kept.json")
    with pytest.raises(DataError, match="has no trained network yet"):
        open_run(run)
    (run / "weights" / "model.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        open_run(run)


def test_an_unfinished_run_says_so_and_needs_no_training_scans(run: Path) -> None:
    about = run / "weights" / "model.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "chosen": None, "step": 4}))
    for entry in open_run(run).datalist.training:
        entry.image.unlink()
    assert open_run(run).chosen == "those of step 4 of a run that is not finished"


def test_data_that_moved(run: Path) -> None:
    moved = shutil.move(run.parent / "data", run.parent / "elsewhere")
    with pytest.raises(DataError, match="no such file any more") as caught:
        open_run(run)
    assert "--data" in str(caught.value.hint)
    listed = {
        "training": [],
        "validation": [{"image": "v.nii.gz", "label": "v_seg.nii.gz"}],
        "test": [{"image": f"{name}.nii.gz", "label": f"{name}_seg.nii.gz"} for name in "ba"],
    }
    listed["training"] = [{"image": "new.nii.gz", "label": "new_seg.nii.gz"}]
    write_case(moved, "new")
    (moved / "data.json").write_text(json.dumps(listed))
    opened = open_run(run, moved / "data.json")
    assert [entry.image for entry in opened.datalist.test] == [moved / "a.nii.gz", moved / "b.nii.gz"]
    listed["test"].pop()
    (moved / "data.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"data\.json has no case a\."):
        open_run(run, moved / "data.json")


def test_structures_of_a_task() -> None:
    task = Task(
        classes=(LabelClass(name="oedema", values=(2,)), LabelClass(name="core", values=(1, 4))),
        regions=(LabelRegion(name="whole", classes=("oedema", "core")), LabelRegion(name="all", classes=("whole",))),
    )
    assert task_classes(task) == (Structure("oedema", (2,)), Structure("core", (1, 4)))
    assert task_regions(task) == (Structure("whole", (1, 2, 4), True), Structure("all", (1, 2, 4), True))
    later = task.model_copy(update={"regions": task.regions[::-1]})
    with pytest.raises(UsageError, match="'whole', which is only named after it"):
        task_regions(later)
