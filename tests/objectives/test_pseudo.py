"""Pseudo-labels: which voxels are kept, when the teacher moves, and that labels are never told over."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.objectives.test_label_crops import LABELS, labelled_case
from tests.pretrain.mixed_sites import write_sites
from tests.pretrain.tiny_run import At, tiny_run
from tests.training.made_job import numbers, state, weights
from voco_cli.config import Settings, load_settings
from voco_cli.errors import DataError, Interrupted, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.objectives import build_objective
from voco_cli.objectives.objective import Case, WeightedSum
from voco_cli.objectives.pseudo import Pseudo, pseudo_labels, ramp

CPU = torch.device("cpu")
MADE = (
    "objective.voco.weight=0",
    "objective.supervised.weight=1",
    "objective.pseudo.weight=1",
    "objective.supervised.classes=[liver,tumour,spleen]",
    "crops.size=16x16x16",
    "crops.random_per_volume=2",
    "model.levels=3",
    "model.feature_size=2",
    "train.steps=10",
)


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*MADE, *overrides)).settings


def made(*overrides: str) -> tuple[WeightedSum, Pseudo]:
    settings = settings_of(*overrides)
    torch.manual_seed(0)
    both = build_objective(settings, build_encoder(settings.model))
    assert isinstance(both, WeightedSum)
    pseudo = both.objectives["pseudo"]
    assert isinstance(pseudo, Pseudo)
    return both, pseudo


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_what_is_sure_enough_is_kept_by_the_threshold_of_its_class() -> None:
    """Of .95, .8, .3 and .02 the first and the last are kept at .9, and at .7 the third as well, which is .7 no."""
    shares = [0.95, 0.8, 0.3, 0.02]
    logits = torch.tensor([[logit(share) for share in shares]] * 2).view(1, 2, 4, 1, 1)
    targets, kept = pseudo_labels(logits, torch.tensor([0.9, 0.699]), "sigmoid", [])
    assert targets[0, :, :, 0, 0].tolist() == [[True, True, False, False]] * 2
    assert kept[0, :, :, 0, 0].tolist() == [[True, False, False, True], [True, True, True, True]]
    assert bool(pseudo_labels(logits, torch.tensor([0.5, 0.5]), "sigmoid", [])[1].all())


def test_the_released_rule_gives_a_voxel_to_the_likeliest_class_and_to_what_it_lies_in() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [2.0, -1.0, 4.0], [-1.0, -1.0, -1.0]]).T.reshape(1, 3, 3, 1, 1)
    targets, _ = pseudo_labels(logits, torch.full((3,), 0.5), "argmax", [(0, (1,))])
    # Voxel 0: class 0 before 2, and its part, which is told. Voxel 1: class 2. Voxel 2: nothing.
    assert targets[0, :, :, 0, 0].T.tolist() == [[True, True, False], [False, False, True], [False] * 3]
    part = torch.tensor([3.0, 2.5, 1.0]).reshape(1, 3, 1, 1, 1)
    assert pseudo_labels(part, torch.full((3,), 0.5), "argmax", [(0, (1,))])[0].flatten().tolist() == [
        True,
        True,
        False,
    ]


def test_the_weight_rises_from_its_start() -> None:
    assert [ramp(step, 2, 4) for step in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [ramp(step, 5, 0) for step in (4, 5, 6)] == [0, 1, 1]


def batch_of(both: WeightedSum, folder: Path, *cases: Case) -> tuple[object, ...]:
    drawn = [both.sampler.draw(case, 1) for case in cases]
    return both.prepare(both.sampler.collate(drawn), CPU)


def cases_of(folder: Path) -> list[Case]:
    return [labelled_case(folder, "a", LABELS), labelled_case(folder, "b", None, 1)]


def test_classes_that_a_case_is_labelled_for_are_not_told_over(tmp_path: Path) -> None:
    both, _ = made()
    cases = cases_of(tmp_path)
    both.train_on(cases)
    (_, (weak, strong, unknown)) = batch_of(both, tmp_path, *cases)  # type: ignore[misc]
    assert unknown.tolist() == [[False, False, True]] * 2 + [[True] * 3] * 2
    assert not torch.equal(weak, strong)
    same, _ = made("objective.pseudo.strong=false")
    same.train_on(cases)
    (_, (weak, strong, _)) = batch_of(same, tmp_path, *cases)  # type: ignore[misc]
    assert torch.equal(weak, strong)


def test_the_teacher_is_the_student_until_it_is_used_and_then_its_average(tmp_path: Path) -> None:
    both, pseudo = made("objective.pseudo.from_share=0.2", "objective.pseudo.ema=0.75", "objective.pseudo.min_dice=0")
    cases = cases_of(tmp_path)
    both.train_on(cases)
    inputs = batch_of(both, tmp_path, *cases)
    student, teacher = (next(iter(part.parameters())) for part in (pseudo.student.segmenter, pseudo.teacher_segmenter))
    seen: list[tuple[float, bool]] = []
    for step in range(4):
        with torch.no_grad():
            student.fill_(float(step))
        terms = both(*inputs)
        seen.append((teacher.flatten()[0].item(), terms["pseudo/loss"].item() > 0))
    # Steps 0 and 1 come before 0.2 of ten; step 2 copies, step 3 keeps three quarters of 2 and takes a quarter of 3.
    assert [value for value, _ in seen] == [0, 1, 2, 2.25]
    assert [used for _, used in seen] == [False, False, True, True]
    both(*inputs, first_of_step=False)
    assert pseudo.steps_done.item() == 4
    assert teacher.flatten()[0].item() == 2.25


def test_the_teacher_gives_its_finest_output_alone_from_the_first_validation_on() -> None:
    """That is before anything was trained, and so before a mode was set."""
    both, pseudo = made("objective.supervised.deep_supervision=1")
    crops = torch.zeros(1, 1, 16, 16, 16)
    assert pseudo.teacher_logits(crops).shape == (1, 3, 16, 16, 16)
    both.train()
    assert pseudo.teacher_logits(crops).shape == (1, 3, 16, 16, 16)


def test_the_frozen_teacher_is_copied_once_and_trains_the_decoder_alone(tmp_path: Path) -> None:
    rules = ("teacher=frozen", "from_share=0.2", "ramp_share=0", "min_dice=0", "trains_encoder=false", "threshold=0.5")
    both, pseudo = made(*(f"objective.pseudo.{rule}" for rule in rules))
    cases = cases_of(tmp_path)
    both.train_on(cases)
    inputs = batch_of(both, tmp_path, *cases)
    student, teacher = (next(iter(part.parameters())) for part in (pseudo.student.segmenter, pseudo.teacher_segmenter))
    held = []
    for step in range(5):
        with torch.no_grad():
            student.fill_(1 + step / 10)
        terms = both(*inputs)
        held.append(round(teacher.flatten()[0].item(), 3))
    assert held == [1.0, 1.1, 1.2, 1.2, 1.2]
    assert terms["pseudo/kept"].item() == pytest.approx(1)
    both.zero_grad()
    both(*inputs)["pseudo/loss"].backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in both.encoder.parameters())
    assert any(
        bool(parameter.grad.any()) for parameter in pseudo.student.segmenter.parameters() if parameter.grad is not None
    )
    assert all(parameter.grad is None for parameter in pseudo.teacher_encoder.parameters())


def test_a_class_whose_teacher_is_poor_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    both, pseudo = made("objective.pseudo.from_share=0", "objective.pseudo.min_dice=0.5")
    cases = cases_of(tmp_path)
    both.train_on(cases)
    both.hold_out(cases)

    def measured(case: Case, network: object, device: torch.device) -> list[float]:
        return [0.8, 0.4, math.nan]

    pseudo.student.measure_scan = measured
    found = pseudo.validate(CPU, torch.no_grad, at_start=False)
    assert found is not None
    assert found.figures == pytest.approx(
        {"dice": 0.6, "error": 0.4, "dice/liver": 0.8, "dice/tumour": 0.4, "used": 1.0}
    )
    assert pseudo.used_K.tolist() == [1, 0, 0]
    verdict = pseudo.verdict({}, found.figures)
    assert verdict.sentence == (
        "No pseudo-labels of tumour, spleen are used: the teacher's Dice on held-out scans is below 0.50, or not known."
    )
    terms = both(*batch_of(both, tmp_path, *cases))
    assert terms["pseudo/kept/tumour"].item() == terms["pseudo/kept/spleen"].item() == 0


def test_pseudo_labels_need_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"None of the labelled training scans can be used"):
        made()[0].train_on(cases_of(tmp_path)[1:])
    with pytest.raises(UsageError, match=r"objective.pseudo needs objective.supervised, from which its teacher learns"):
        load_settings("debug", None, ["objective.pseudo.weight=1"])


def test_all_together_go_on_bit_for_bit(tmp_path: Path) -> None:
    data = write_sites(tmp_path / "sites", {"here": 3, "there": 3, "bare": 2})
    run = (
        "objective.supervised.weight=1",
        "objective.pseudo.weight=0.5",
        "objective.pseudo.from_share=0.3",
        "objective.pseudo.min_dice=0",
        "crops.size=24x24x24",
        "model.levels=4",
    )
    whole = tiny_run(data, tmp_path / "whole", *run)
    assert {one.partition("/")[0] for one in whole.end} == {"voco", "supervised", "pseudo"}

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *run, callback=At(advanced=6, then=stop))
    tiny_run(data, tmp_path / "parts", *run)
    assert state(tmp_path / "parts")["status"] == "done"
    assert weights(tmp_path / "parts", 12) == weights(tmp_path / "whole", 12)
    assert numbers(tmp_path / "parts")[-1] == numbers(tmp_path / "whole")[-1]


def test_a_run_that_starts_from_another_counts_its_own_steps(tmp_path: Path) -> None:
    _, pseudo = made("objective.pseudo.min_dice=0.5")
    pseudo.steps_done += 7
    pseudo.used_K.fill_(1)
    pseudo.begin()
    assert (pseudo.steps_done.item(), pseudo.used_K.tolist()) == (0, [0, 0, 0])
