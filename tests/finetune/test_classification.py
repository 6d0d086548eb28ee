"""Classification under the engine's own loop: it learns, resumes to the bit, and says what its figures are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.made_categories import classification_settings, make_entries, store
from tests.training.made_job import CPU, Hooks, numbers, weights
from voco_cli.config import Settings
from voco_cli.errors import UsageError
from voco_cli.evaluate.classification.metrics import scored_cases, summarise_classification
from voco_cli.finetune.classification import ClassificationTask, weighted_cross_entropy
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
    for name, category in zip(job.cases(batch), batch.categories_N.tolist(), strict=True):
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
