"""Classification under the engine's own loop: it learns, resumes to the bit, and says what its figures are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.tasks.made_categories import SIZE, classification_settings, make_entries, store
from tests.training.made_job import CPU, Hooks, numbers, weights
from voco_cli.config import Settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.classification.table import scored_cases, summarise_classification
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.classification import (
    ClassificationTask,
    VolumeDataset,
    category_index,
    category_weights,
    weighted_cross_entropy,
)
from voco_cli.finetune.dataset import LabelledBatch, collate
from voco_cli.models.build import build_classifier
from voco_cli.models.weights import load_into, read_weights, write_encoder
from voco_cli.models.weights.load import load_start
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.distributed import device_context
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.trainer import Trainer

DEVICE = torch.device("cpu")
Cases = tuple[list[StoredCase], list[StoredCase]]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Nine cases to train on, of which the second category is the rare one, and six to validate."""
    folder = tmp_path_factory.mktemp("made")
    settings = classification_settings()
    training = make_entries(folder / "scans", [0, 1, 0, 0, 1, 0, 0, 1, 0])
    validation = make_entries(folder / "scans", [0, 1, 0, 1, 1, 0], prefix="v", seed=9)
    return store(folder / "cache", training, settings), store(folder / "cache", validation, settings)


def started(settings: Settings, cases: Cases) -> ClassificationTask:
    job = ClassificationTask(settings, *cases, DEVICE)
    job.start(device_context(CPU))
    return job


def train(path: Path, settings: Settings, cases: Cases, hooks: Hooks | None = None) -> ClassificationTask:
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    job = ClassificationTask(settings, *cases, DEVICE)
    load_start(job.model, settings.model)
    Trainer(job, settings.train, folder, CPU, hooks or Hooks()).run()
    return job


def test_it_learns_to_tell_generated_scans_apart(tmp_path: Path, cases: Cases) -> None:
    settings = classification_settings(
        2,
        model={"backbone": "unet", "feature_size": 4, "levels": 3},
        train={"steps": 80, "batch_size": 3, "validate_every": 40, "checkpoint_every": 80, "warmup_share": 0.1},
    )
    job = train(tmp_path, settings, cases)
    last = job.history["80"]
    assert (last["auc"], last["error"], last["accuracy"]) == (1, 0, 1)
    losses = [line["loss"] for line in numbers(tmp_path) if line["split"] == "train"]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, cases: Cases) -> None:
    settings = classification_settings()
    train(tmp_path / "whole", settings, cases)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", settings, cases, Hooks(advanced_at={6: stop}))
    job = train(tmp_path / "broken", settings, cases)
    assert weights(tmp_path / "broken", 8) == weights(tmp_path / "whole", 8)
    assert list(job.history) == ["4", "8"]
    # Steps 5 and 6 were trained twice; each line is the same in every run.
    lines = {(line["split"], line["step"]): line for line in numbers(tmp_path / "broken")}
    assert list(lines.values()) == numbers(tmp_path / "whole")


def test_the_loss_is_the_mean_over_cases_of_weight_times_cross_entropy() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.5, 2.0], [0.0, 0.0]])
    found = weighted_cross_entropy(logits, torch.tensor([0, 0, 1]), torch.tensor([0.75, 1.5]))
    # -log of the right one's probability: 1 / (1 + exp(-1)), 1 / (1 + exp(1.5)), 1 / 2.
    by_hand = [0.75 * math.log1p(math.exp(-1)), 0.75 * math.log1p(math.exp(1.5)), 1.5 * math.log(2)]
    assert float(found) == pytest.approx(sum(by_hand) / 3)
    # A batch of one category does not lose its weight: torch's own weighted mean would.
    rare = weighted_cross_entropy(logits[:1], torch.tensor([1]), torch.tensor([0.75, 1.5]))
    assert float(rare) == pytest.approx(1.5 * math.log1p(math.exp(1)))


def test_a_step_computes_that_loss_on_the_batch(cases: Cases) -> None:
    still = {"flip_prob": 0.0, "rotate_prob": 0.0, "shift_prob": 0.0, "noise_prob": 0.0, "affine_prob": 0.0}
    job = started(classification_settings(2, augment=still), cases)
    batch = next(job.batches(0, 1))
    terms = job.train_step(job.model, batch, first_of_step=True)
    # Nine cases, six and three: weights 9 / (2 * 6) and 9 / (2 * 3).
    losses = []
    for name, category in zip(job.cases(batch), batch.targets.tolist(), strict=True):
        (case,) = (case for case in cases[0] if case.name == name)
        row = job.logits(case).double()
        losses.append((0.75, 1.5)[category] * float(torch.logsumexp(row, 0) - row[category]))
    assert float(terms["loss"].detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_validation_agrees_with_the_evaluation(cases: Cases) -> None:
    job = started(classification_settings(), cases)
    figures = job.validate(4)
    assert figures == job.history["4"] == job.validate(4)
    truth, rows = [], {}
    for case in cases[1]:
        logits = job.logits(case).double().numpy()
        rows[case.name] = (np.exp(logits) / np.exp(logits).sum()).tolist()
        truth.append((case.name, case.entry.patient, ("normal", "pneumonia").index(str(case.entry.category))))
    overall = summarise_classification(scored_cases(truth, rows, ("normal", "pneumonia")), 100).overall
    assert {name: figures[name] for name in overall} == pytest.approx({n: one.value for n, one in overall.items()})
    assert figures["error"] == 1 - figures["auc"]
    losses = [-(0.75, 1.5)[k] * math.log(rows[case][k]) for case, _, k in truth]
    assert figures["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    assert job.model.training
    assert job.score_words == "AUC"


def test_validation_of_one_category_goes_by_accuracy(cases: Cases) -> None:
    normal = [case for case in cases[1] if case.entry.category == "normal"]
    job = started(classification_settings(), (cases[0], normal))
    figures = job.validate(4)
    assert "auc" not in figures
    assert (figures["error"], job.score_words) == (1 - figures["accuracy"], "accuracy")
    assert started(classification_settings(), (cases[0], [])).validate(4) == {}


def test_nothing_is_validated_before_the_first_step(cases: Cases) -> None:
    assert started(classification_settings(), cases).validate(0) == {}


def test_the_written_network_is_the_trained_one(tmp_path: Path, cases: Cases) -> None:
    settings = classification_settings()
    job = train(tmp_path, settings, cases)
    about = json.loads((tmp_path / "weights" / "model.json").read_text())
    assert about["loads_into"] == "voco_cli.models.build.Classifier"
    assert (about["step"], about["task"], about["validation"]) == (8, "made", job.history["8"])
    assert [one["name"] for one in about["classes"]] == ["normal", "pneumonia"]
    job.export(tmp_path / "again", 8, chosen="the last")
    assert json.loads((tmp_path / "again" / "model.json").read_text()) == {**about, "chosen": "the last"}
    network = build_classifier(settings.model, 1, 2)
    load_into(network, read_weights(tmp_path / "weights" / "model.safetensors"))
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_a_linear_probe_leaves_the_loaded_encoder_alone(tmp_path: Path, cases: Cases) -> None:
    settings = classification_settings()
    torch.manual_seed(11)
    donor = build_classifier(settings.model, 1, 2).encoder
    write_encoder(tmp_path, donor, {"step": 1, "model": settings.model.model_dump(mode="json")})
    frozen: dict[str, Any] = {"model": {"weights": str(tmp_path / "encoder.safetensors")}}
    probe = classification_settings(2, task={"freeze_encoder": True}, **frozen)
    job = train(tmp_path / "probe", probe, cases)
    assert [tuple(p.shape) for group in job.parameter_groups() for p in group.parameters] == [(2, 14), (2,)]
    for name, tensor in donor.state_dict().items():
        assert torch.equal(job.model.state_dict()[f"encoder.{name}"], tensor), name
    fresh = build_classifier(settings.model, 1, 2).head.weight
    assert not torch.equal(job.model.state_dict()["head.weight"], fresh)


def test_other_cases_cannot_be_gone_on_with(cases: Cases) -> None:
    job = started(classification_settings(), cases)
    state = job.state()
    job.restore(json.loads(json.dumps(state)))
    fewer = started(classification_settings(), (cases[0][1:], cases[1]))
    with pytest.raises(UsageError, match="trained on 9 usable cases and would go on with 8"):
        fewer.restore(state)


def test_one_category_alone_teaches_nothing(cases: Cases) -> None:
    normal = [case for case in cases[0] if case.entry.category == "normal"]
    with pytest.raises(UsageError, match="are of 1 category"):
        ClassificationTask(classification_settings(), normal, cases[1], DEVICE)


def test_an_item_is_the_whole_stored_volume_and_its_category(tmp_path: Path) -> None:
    settings = classification_settings(3)
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 2, 1]), settings)
    item = VolumeDataset(cases, settings)[5, 1]
    assert not isinstance(item, Exception)
    expected = preprocess(read_scan(cases[1].entry.image), settings.preprocess).array_xyz
    assert (item.name, item.targets.tolist(), item.images_NCXYZ.dtype) == ("p1-s1", [2], np.uint8)
    np.testing.assert_array_equal(item.images_NCXYZ[0][0], np.rint(expected * 255).astype(np.uint8))


def test_channels_are_stacked_in_their_order(tmp_path: Path) -> None:
    settings = classification_settings(2, task={"channels": ["t1", "t2"]})
    first, second = make_entries(tmp_path, [0, 1])
    both = first.model_copy(update={"channels": (second.image,)})
    (case,) = store(tmp_path / "cache", [both], settings)
    item = VolumeDataset([case], settings)[0, 0]
    assert not isinstance(item, Exception)
    assert item.images_NCXYZ[0].shape == (2, *SIZE)
    bright = [channel[4:8, 4:8, 3:5].mean() > 150 for channel in item.images_NCXYZ[0]]
    assert bright == [False, True]


def test_draws_depend_on_seed_number_and_case_alone(tmp_path: Path) -> None:
    settings = classification_settings()
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 1, 0]), settings)

    def draws(listed: list[int], key: tuple[int, int], seed: int = 3) -> list[list[float]]:
        asked = settings.model_copy(update={"seed": seed})
        item = VolumeDataset([cases[n] for n in listed], asked)[key]
        assert not isinstance(item, Exception)
        return [tensor.flatten().tolist() for tensor in item.draws]

    assert draws([0, 1, 2], (7, 2)) == draws([2, 0], (7, 0))
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (8, 2))
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (7, 2), seed=4)
    # The second time that a case stands in a batch it is changed in another way.
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (7, 5))


def test_a_batch_is_augmented_as_its_cases_are(tmp_path: Path) -> None:
    settings = classification_settings(2, augment={"noise_prob": 0.0, "affine_prob": 0.0})
    dataset = VolumeDataset(store(tmp_path / "cache", make_entries(tmp_path, [0, 1, 1]), settings), settings)
    items = [dataset[4, index] for index in range(3)]
    batch = collate(items)
    assert isinstance(batch, LabelledBatch)
    assert (batch.names, batch.targets.tolist()) == (["p0-s0", "p1-s1", "p2-s2"], [0, 1, 1])
    images, labels = augment_patches(batch.images_NCXYZ, None, batch.draws)
    assert labels is None
    for row, item in enumerate(items):
        assert not isinstance(item, Exception)
        flips, turns = item.draws.flips_N3[0].tolist(), int(item.draws.turns_N[0])
        flipped = np.flip(item.images_NCXYZ[0][0], [axis for axis in range(3) if flips[axis]])
        by_hand = np.rot90(flipped, turns, (0, 1)) / 255 * float(item.draws.scales_N[0]) + float(item.draws.shifts_N[0])
        torch.testing.assert_close(images[row, 0].double(), torch.from_numpy(by_hand.copy()), atol=1e-6, rtol=0)


def test_a_damaged_volume_becomes_the_batch(tmp_path: Path) -> None:
    settings = classification_settings()
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 1]), settings)
    cases[1].volumes[0].path.unlink()
    dataset = VolumeDataset(cases, settings)
    assert isinstance(collate([dataset[0, 0], dataset[0, 1]]), DataError)


def test_weights_by_hand() -> None:
    # Six of the first, two of the second: 8 / (2 * 6) and 8 / (2 * 2); the cases weigh (6 * 2/3 + 2 * 2) / 8 = 1.
    np.testing.assert_allclose(category_weights([0] * 6 + [1] * 2, 2), [2 / 3, 2])
    # The third category has no case and no say.
    np.testing.assert_allclose(category_weights([0, 1, 1, 1], 3), [2, 2 / 3, 0])
    with pytest.raises(UsageError, match="The 3 training cases are of 1 category"):
        category_weights([1, 1, 1], 2)


def test_categories_go_by_name(tmp_path: Path) -> None:
    task = classification_settings(3).task
    entry = make_entries(tmp_path, [2])[0]
    assert category_index(task, entry) == 2
    with pytest.raises(DataError, match="'flu', and the task has normal, pneumonia, covid"):
        category_index(task, entry.model_copy(update={"category": "flu"}))
    with pytest.raises(DataError, match="p0-s0 has no category"):
        category_index(task, entry.model_copy(update={"category": None}))


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("preprocess", {"resize_vox": None}, "a classification sees whole scans of one size"),
        ("preprocess", {"resize_vox": (4, 4, 4)}, "4x4x4 voxels, and the last level of unet only one"),
        ("preprocess", {"resize_vox": (12, 12, 10)}, "12x12x10 voxels, not multiples of 4"),
        ("preprocess", {"resize_vox": (12, 16, 8)}, "square in the plane, not 12x16x8"),
    ],
)
def test_sizes_that_cannot_be_used(section: str, values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        classification_settings(2, **{section: values})
