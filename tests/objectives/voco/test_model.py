"""A whole training step with an encoder of a few weights: every part of it done by hand beside it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.objectives.voco import literal
from voco_cli.config.objective_schema import VocoOptions
from voco_cli.objectives.voco.model import Embedded, Projector, VolumeContrast

B, S, K, E, C = 2, 3, 4, 5, 6
N = B * (S + K)
OBJECTIVES = {
    "cvpr": VocoOptions(),
    "tpami": VocoOptions(prediction="tpami", teacher="projector", symmetric=False, inter_weight=1.0, dropout=0.2),
    "paper": VocoOptions(prediction="paper", teacher="none", symmetric=False),
    "copy": VocoOptions(teacher_start="copy", ema=0.99),
    "weights": VocoOptions(prediction_weight=0.5, regularisation_weight=3.0, inter_weight=0.25),
}


class TinyEncoder(nn.Module):
    """Crops of 2x2x2 voxels to five features; never mixes crops."""

    def __init__(self) -> None:
        super().__init__()
        self.out_features = E
        self.mix = nn.Linear(8, E)

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        return torch.tanh(self.mix(crops_N1XYZ.flatten(1)))


def build(options: VocoOptions, group_size: int | None = None, recompute: bool = False) -> VolumeContrast:
    torch.manual_seed(0)
    model = VolumeContrast(TinyEncoder, lambda width: Projector(width, (7,), C), options, group_size, recompute)
    return model.double()


def crops() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((N, 1, 2, 2, 2)))


def labels() -> Tensor:
    shares = np.random.default_rng(1).random((B, S, K)) * (np.arange(K) < 2)
    return torch.from_numpy(shares / shares.sum(-1, keepdims=True))


def keep_rows() -> Tensor:
    return torch.from_numpy(np.arange(N) % 4 != 1)[:, None]


def parameters(model: VolumeContrast) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def plain_rows(weights: dict[str, Tensor], prefix: str, features: Tensor) -> Tensor:
    """The projector, written out."""
    w = {name: weights[f"{prefix}projector.{name}"] for name in ("0.weight", "0.bias", "3.weight", "3.bias")}
    hidden = features @ w["0.weight"].T + w["0.bias"]
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    return hidden.clamp(min=0) @ w["3.weight"].T + w["3.bias"]


def plain_features(weights: dict[str, Tensor], prefix: str) -> Tensor:
    return torch.tanh(crops().flatten(1) @ weights[f"{prefix}mix.weight"].T + weights[f"{prefix}mix.bias"])


def volume(rows: Tensor, i: int) -> tuple[list[list[float]], list[list[float]]]:
    """Random and base crops of volume i: random crops of all volumes come first."""
    base = B * S + i * K
    return rows[i * S : (i + 1) * S].tolist(), rows[base : base + K].tolist()


def plain_step(weights: dict[str, Tensor], options: VocoOptions) -> dict[str, float]:
    """Student, teacher after its update, and the terms, all in plain numbers."""
    keep = 1.0 - options.dropout
    features = plain_features(weights, "encoder.")
    student = plain_rows(weights, "", features * keep_rows() / keep)
    moved = {
        name: options.ema * value + (1 - options.ema) * weights[name.removeprefix("teacher_")]
        for name, value in weights.items()
        if name.startswith("teacher_")
    }
    if options.teacher == "network":
        teacher = plain_rows(moved, "teacher_", plain_features(moved, "teacher_encoder."))
    elif options.teacher == "projector":
        teacher = plain_rows(moved, "teacher_", features)
    else:
        teacher = student
    loss = {"cvpr": literal.cvpr, "tpami": literal.tpami, "paper": literal.paper}[options.prediction]
    prediction, regularisation, positive = [], [], []
    sides = [(volume(student, i), volume(teacher, i)) for i in range(B)]
    for i, ((x_student, b_student), (x_teacher, b_teacher)) in enumerate(sides):
        predicted = np.array(literal.logits(x_student, b_teacher))
        if options.symmetric:
            predicted = (predicted + np.array(literal.logits(x_teacher, b_student))) / 2
        y = labels()[i].tolist()
        prediction.append(loss(y, predicted.tolist()))
        positive.append(literal.positive(y, predicted.tolist()))
        regularisation.append(literal.regularisation(b_student))
    students, teachers = zip(*sides, strict=True)
    inter = literal.inter_volume(*zip(*students, strict=True), *zip(*teachers, strict=True))
    terms = {"prediction": prediction, "regularisation": regularisation, "positive": positive, "inter": inter}
    means = {name: sum(values) / B for name, values in terms.items()}
    means["loss"] = (
        options.prediction_weight * means["prediction"]
        + options.regularisation_weight * means["regularisation"]
        + options.inter_weight * means["inter"]
    )
    return means


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_the_formulae(name: str) -> None:
    options = OBJECTIVES[name]
    model = build(options)
    expected = plain_step(parameters(model), options)
    found = model(crops(), labels(), keep_rows())
    assert set(found) == set(expected) - (set() if options.inter_weight else {"inter"})
    for term, value in found.items():
        assert value.item() == pytest.approx(expected[term], abs=1e-6), term


def test_rows_are_random_crops_of_all_volumes_then_base_crops_of_all_volumes() -> None:
    rows = torch.arange(N)[:, None]
    embedded = Embedded.from_rows(rows, B, S)
    assert embedded.random_BSC[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert embedded.bases_BKC[..., 0].tolist() == [[6, 7, 8, 9], [10, 11, 12, 13]]


def test_teacher_starts_on_its_own_or_as_a_copy() -> None:
    own, copied = build(VocoOptions(teacher_start="own")), build(VocoOptions(teacher_start="copy"))
    for model, same in ((own, False), (copied, True)):
        weights = parameters(model)
        for name, value in weights.items():
            if name.startswith("teacher_") and name.endswith("weight"):
                assert torch.equal(value, weights[name.removeprefix("teacher_")]) == same, name
    assert copied.teacher_encoder is not None
    storages = {parameter.data_ptr() for parameter in copied.encoder.parameters()}
    assert storages.isdisjoint(parameter.data_ptr() for parameter in copied.teacher_encoder.parameters())


@pytest.mark.parametrize("name", ["cvpr", "tpami", "copy"])
def test_teacher_after_a_step_is_the_moving_average(name: str) -> None:
    options = OBJECTIVES[name]
    model = build(options)
    before = parameters(model)
    model(crops(), labels(), keep_rows())["loss"].backward()
    for key, value in parameters(model).items():
        expected = before[key]
        if key.startswith("teacher_"):
            expected = options.ema * before[key] + (1 - options.ema) * before[key.removeprefix("teacher_")]
        torch.testing.assert_close(value, expected, atol=1e-15, rtol=1e-13, msg=key)


@pytest.mark.parametrize("name", ["cvpr", "tpami"])
def test_teacher_stays_in_the_later_batches_of_a_step(name: str) -> None:
    model = build(OBJECTIVES[name])
    before = parameters(model)
    model(crops(), labels(), update_teacher=False)
    for key, value in parameters(model).items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["cvpr", "tpami"])
def test_teacher_gets_no_gradient(name: str) -> None:
    model = build(OBJECTIVES[name])
    model(crops(), labels())["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad != key.startswith("teacher_"), key
        assert (parameter.grad is None) == key.startswith("teacher_"), key


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("group_size", "recompute"), [(1, False), (3, False), (None, True), (4, True), (100, True)])
def test_grouping_and_recomputing_change_nothing(name: str, group_size: int | None, recompute: bool) -> None:
    one, other = build(OBJECTIVES[name]), build(OBJECTIVES[name], group_size, recompute)
    losses = [model(crops(), labels(), keep_rows())["loss"] for model in (one, other)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-12, rtol=1e-12)
    for loss in losses:
        loss.backward()
    for (key, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-11, rtol=1e-9, msg=key)


def test_without_a_teacher_the_base_crops_are_held_fixed() -> None:
    model = build(VocoOptions(prediction="paper", teacher="none", symmetric=False, regularisation_weight=0.0))
    model(crops(), labels())["loss"].backward()
    twin = copy.deepcopy(model)
    twin.zero_grad()
    rows = twin.projector(twin.encoder(crops()))
    random, bases = rows[: B * S].view(B, S, C), rows[B * S :].view(B, K, C).detach()
    logits = torch.cosine_similarity(random[:, :, None], bases[:, None], dim=-1).clamp(min=0)
    (-torch.log(1 - (labels() - logits).abs() + 1e-6)).mean().backward()
    for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-12, rtol=1e-9, msg=key)
    assert [key for key in parameters(model) if key.startswith("teacher_")] == []


def test_symmetric_cosines_average_both_directions_before_and_after_the_relu() -> None:
    model = build(VocoOptions())
    x, b = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    student, teacher = Embedded(x, x), Embedded(b, -x)
    # Student crop against teacher base: -1; teacher crop against student base: 0.
    assert model.cosines(student, teacher).item() == -0.5
    assert model.cosines(student, teacher, after=torch.relu).item() == 0.0
    model.options = VocoOptions(symmetric=False)
    assert model.cosines(student, teacher).item() == -1.0


def test_dropout_of_single_features() -> None:
    model = build(VocoOptions(teacher="projector", symmetric=False, dropout=0.5, dropout_unit="features"))
    keep = torch.from_numpy(np.random.default_rng(5).random((N, E)) < 0.5)
    weights = parameters(model)
    student = plain_rows(weights, "", plain_features(weights, "encoder.") * keep * 2.0)
    found = model(crops(), labels(), keep)["regularisation"].item()
    expected = sum(literal.regularisation(volume(student, i)[1]) for i in range(B)) / B
    assert found == pytest.approx(expected, abs=1e-9)


def test_what_is_watched_costs_nothing() -> None:
    terms = build(OBJECTIVES["cvpr"])(crops(), labels())
    assert not terms["positive"].requires_grad
    assert terms["loss"].requires_grad


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_bfloat16_step_on_identical_crops_is_finite(name: str) -> None:
    """All embeddings coincide, so every cosine is 1 but for rounding: where logarithms of bfloat16 were NaN."""
    model = build(OBJECTIVES[name]).float()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(torch.ones(N, 1, 2, 2, 2), labels().float(), keep_rows())
    terms["loss"].backward()
    assert all(value.isfinite() for value in terms.values())
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
