"""Pre-training on partly labelled sites: it resumes bit for bit, predicts, is measured, and hands its decoder on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.pretrain.mixed_sites import write_sites
from tests.pretrain.tiny_run import At, tiny_run
from tests.training.made_job import numbers, state, weights
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.errors import DataError, Interrupted, UsageError
from voco_cli.evaluate.read_results import read_results
from voco_cli.models.weights import own_tensors
from voco_cli.predict.predictor import load_trained
from voco_cli.predict.segmentation import predict_entries
from voco_cli.workflows.evaluate import measure_run, open_run
from voco_cli.workflows.pretrain import PreparedPretraining

CLASSES = ("spleen", "right kidney", "left kidney", "kidney", "liver")
SUPERVISED = (
    "objective.supervised.weight=1",
    "objective.supervised.deep_supervision=1",
    "crops.size=24x24x24",
    "model.levels=4",
    "train.lr=0.01",
    "evaluate.resamples=100",
)
ALONE = ("objective.voco.weight=0", *SUPERVISED)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sites(tmp_path_factory.mktemp("sites"), {"here": 3, "there": 3, "bare": 2})


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "whole"
    tiny_run(data, run, *ALONE)
    return run


def test_it_goes_on_bit_for_bit(data: Path, whole: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *ALONE, callback=At(advanced=6, then=stop))
    tiny_run(data, tmp_path / "parts", *ALONE)
    assert state(tmp_path / "parts")["status"] == "done"
    assert weights(tmp_path / "parts", 12) == weights(whole, 12)
    assert numbers(tmp_path / "parts")[-1] == numbers(whole)[-1]


def test_held_out_figures_are_of_the_classes_that_somebody_labelled(data: Path, whole: Path) -> None:
    figures = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    labelled = {name for entry in read_datalist(data).validation for name in entry.labelled_classes}
    assert labelled
    assert {name.removeprefix("dice/") for name in figures if name.startswith("dice/")} <= labelled
    assert figures["error"] == pytest.approx(1 - figures["dice"])
    assert (whole / "figures" / "validation" / "step-000012.png").is_file()


def test_the_run_predicts_the_union_and_is_measured_by_what_each_case_is_labelled_for(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    trained = load_trained(whole)
    entries = [entry for entry in read_datalist(data).training if entry.label is None][:1]
    predict_entries(trained, entries, tmp_path / "out")
    values = np.unique(read_scan(tmp_path / "out" / f"{entries[0].name}.nii.gz").array_zyx)
    assert set(values.tolist()) <= set(range(6))
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["labels"] == {
        "1": "spleen",
        "2": "right kidney",
        "3": "left kidney",
        "5": "liver",
        "kidney": [2, 3, 4],
    }
    measured = measure_run(whole)
    assert measured is not None
    table = measured.evaluation.table
    assert [one.name for one in table.structures] == list(CLASSES)  # type: ignore[union-attr]
    figures = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    run = open_run(whole)
    for n, case in enumerate(table.cases):
        entry = next(one for one in run.datalist.validation if one.name == case)
        for k, name in enumerate(CLASSES):
            state_word = table.states[n][k]  # type: ignore[union-attr]
            assert (state_word == "unlabelled") == (name not in entry.labelled_classes)
    dice = table.of_metric("dice")  # type: ignore[union-attr]
    for k, name in enumerate(CLASSES):
        values_n = [value for value in dice[:, k].tolist() if not math.isnan(value)]
        if f"dice/{name}" in figures:
            assert sum(values_n) / len(values_n) == pytest.approx(figures[f"dice/{name}"])
    again = read_results(whole / "evaluation" / "validation")
    assert again.table.states == table.states  # type: ignore[union-attr]


def test_its_network_is_the_segmenter_that_a_fine_tuning_starts_from(whole: Path) -> None:
    about = json.loads((whole / "weights" / "model.json").read_text())
    assert about["classes"] == list(CLASSES)
    assert about["names"]["output_block.conv.conv.weight"] == [5, 2, 1, 1, 1]
    network = load_trained(whole).network
    assert {name.removeprefix("segmenter.") for name in own_tensors(network)} == set(about["names"])


def test_it_is_summed_with_others_and_the_best_is_chosen_by_either(data: Path, tmp_path: Path) -> None:
    both = (*SUPERVISED, "train.steps=4", "train.validate_every=4", "health.best_by=supervised/error")
    run = tiny_run(data, tmp_path / "run", *both)
    assert {one.partition("/")[0] for one in run.end} == {"voco", "supervised"}
    assert (tmp_path / "run" / "weights" / "model.json").is_file()
    with pytest.raises(UsageError, match=r"health.best_by supervised/dice is no held-out figure that is best at its"):
        tiny_run(data, tmp_path / "odd", *both[:-1], "health.best_by=supervised/dice")


def test_the_released_loss_and_pseudo_labels_of_a_frozen_copy(data: Path, tmp_path: Path) -> None:
    released = ("teacher=frozen", "from_share=0.5", "ramp_share=0", "threshold=0.5", "rule=argmax", "min_dice=0")
    pseudo = ("objective.pseudo.weight=1", *(f"objective.pseudo.{one}" for one in released))
    run = tiny_run(data, tmp_path / "run", *ALONE, "objective.supervised.loss=softmax", *pseudo, "train.log_every=1")
    lines = [one for one in numbers(tmp_path / "run") if one["split"] == "train"]
    assert [one["pseudo/loss"] > 0 for one in lines] == [False] * 6 + [True] * 6
    assert [one["pseudo/kept"] for one in lines] == [0.0] * 6 + [1.0] * 6
    assert run.end["supervised/error"] == pytest.approx(1 - run.end["supervised/dice"])
    assert load_trained(tmp_path / "run").settings.objective.supervised.loss == "softmax"


class Told(At):
    """Stops after a step, and keeps what a run says of its sets."""

    drawn: str | None = None

    def prepared(self, prepared: PreparedPretraining) -> None:
        self.drawn = prepared.drawn


def test_sets_are_drawn_alike_and_it_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    entries = read_datalist(data).training
    sizes = {name: sum(entry.set_name == name for entry in entries) for name in ("here", "there", "bare")}
    equal = ("data.mix=equal", *ALONE, "train.batch_size=3")
    told = Told()
    tiny_run(data, tmp_path / "whole", *equal, callback=told)
    order = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    each = 3 * (len(entries) // 3) // 3
    assert told.drawn == "draws of scans by set in an epoch (data.mix equal): " + ", ".join(
        f"{name} {each} (of {size})" for name, size in order
    )

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *equal, callback=At(advanced=5, then=stop))
    tiny_run(data, tmp_path / "parts", *equal)
    assert weights(tmp_path / "parts", 12) == weights(tmp_path / "whole", 12)
    assert weights(tmp_path / "whole", 12) != weights(_proportional(data, tmp_path), 12)


def _proportional(data: Path, folder: Path) -> Path:
    tiny_run(data, folder / "other", *ALONE, "train.batch_size=3")
    return folder / "other"


def with_value_9(data: Path, folder: Path, split: str) -> tuple[Path, Path]:
    """Write the list with a label map of a split that holds 9, which nobody names; return both."""
    held = read_datalist(data)
    entries = list(getattr(held, split))
    place = next(n for n, entry in enumerate(entries) if entry.label is not None)
    label = entries[place].label
    scan = read_scan(label)
    array = scan.array_zyx.copy()
    array[array == 1] = 9
    write_scan(array, scan, folder / "odd.nii.gz")
    entries[place] = entries[place].model_copy(update={"label": folder / "odd.nii.gz"})
    write_datalist(held.model_copy(update={split: tuple(entries)}), folder / "data.json")
    return folder / "data.json", folder / "odd.nii.gz"


@pytest.mark.parametrize("split", ["training", "validation"])
def test_values_that_nobody_names_are_refused_with_the_file_or_told(data: Path, tmp_path: Path, split: str) -> None:
    listed, odd = with_value_9(data, tmp_path, split)
    short = (*ALONE, "train.steps=1")
    with pytest.raises(DataError) as caught:
        tiny_run(listed, tmp_path / "run", *short)
    assert caught.value.message == f"Label values that {listed} has no name for: {odd} holds 9."
    assert "--class-map FILE.yaml" in str(caught.value.hint)
    tiny_run(listed, tmp_path / "run", *short, "task.unlisted=background")  # the same folder: nothing was begun in it
    measured = measure_run(tmp_path / "run")
    assert measured is not None
    assert measured.summary["unlisted_labels"] == ({"9": 1} if split == "validation" else {})


def test_label_maps_without_named_classes_are_refused_before_the_cache_is_built(data: Path, tmp_path: Path) -> None:
    held = read_datalist(data)
    silent = tuple(entry.model_copy(update={"label_set": None, "labelled_classes": ()}) for entry in held.training)
    write_datalist(held.model_copy(update={"training": silent}), tmp_path / "data.json")
    with pytest.raises(UsageError, match=r"label maps without labelled_classes"):
        tiny_run(tmp_path / "data.json", tmp_path / "run", *ALONE)
    assert not (tmp_path / ".voco-cache").exists()
