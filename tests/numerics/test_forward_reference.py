"""The whole training step with the reference weights: features, losses, gradients, the teacher after its update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.numerics.closed_form import crop_row, weight
from voco_cli.config.objective_schema import VocoOptions
from voco_cli.config.schema import Model
from voco_cli.models.build import build_encoder
from voco_cli.objectives.voco.model import Embedded, Projector, VolumeContrast

OBJECTIVES = {
    "cvpr": VocoOptions(),
    "tpami": VocoOptions(
        prediction="tpami", teacher="projector", symmetric=False, inter_weight=1.0, dropout=0.2, dropout_unit="crops"
    ),
}
# Where each part of ours is found in the released modules.
PARTS = {
    "cvpr": {
        "encoder.": "student.",
        "projector.": "student.proj_head.",
        "teacher_encoder.": "teacher.",
        "teacher_projector.": "teacher.proj_head.",
    },
    "tpami": {"encoder.": "backbone.", "projector.": "student.", "teacher_projector.": "teacher."},
}
LINEAR = {"0.": "layer1.0.", "3.": "layer2.0.", "6.": "layer3.0."}


def reference_name(recipe: str, name: str) -> str:
    for ours, theirs in PARTS[recipe].items():
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            if "projector" in ours:
                rest = next(
                    layer + rest.removeprefix(index) for index, layer in LINEAR.items() if rest.startswith(index)
                )
            return theirs + rest
    raise AssertionError(name)


def reference_model(recipe: str) -> VolumeContrast:
    model = VolumeContrast(
        lambda: build_encoder(Model(feature_size=12)),
        lambda features: Projector(features, (64, 64), 32),
        OBJECTIVES[recipe],
        group_size=2,
        recompute=True,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(reference_name(recipe, name), tuple(parameter.shape)))
    return model.train()


def data_of(reference: Path, recipe: str) -> dict[str, np.ndarray]:
    with np.load(reference / f"forward_{recipe}.npz") as data:
        return {key: data[key] for key in data.files}


def crops_of(data: dict[str, np.ndarray]) -> torch.Tensor:
    crops = np.stack([crop_row(r) for r in range(len(data["input_sum"]))])
    np.testing.assert_allclose(crops.sum((1, 2, 3), dtype=np.float64), data["input_sum"], rtol=1e-9)
    return torch.from_numpy(crops)[:, None]


@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
def test_every_parameter_has_its_counterpart(reference: Path, recipe: str) -> None:
    data = data_of(reference, recipe)
    model = reference_model(recipe)
    ours = {reference_name(recipe, name): parameter.detach() for name, parameter in model.named_parameters()}
    assert set(ours) == set(data["param_names"].tolist())
    for i, name in enumerate(data["param_names"].tolist()):
        assert float(ours[name].double().sum()) == pytest.approx(float(data["weights_sum"][i]), abs=1e-9), name


@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
def test_projector_losses_and_teacher_in_double_precision(reference: Path, recipe: str) -> None:
    data = data_of(reference, recipe)
    model = reference_model(recipe).double()
    step = {k.removeprefix("f64/step0/"): v for k, v in data.items() if k.startswith("f64/step0/")}
    labels = torch.from_numpy(data["labels"])
    features = torch.from_numpy(step["embeddings"])
    teacher_features = torch.from_numpy(step["teacher_embeddings" if recipe == "cvpr" else "embeddings"])
    if recipe == "tpami":
        keep = torch.from_numpy(step["dropout_row_keep"])[:, None]
        features = features * keep / 0.8
    student_rows = model.projector(features)
    model.update_teacher()
    assert model.teacher_projector is not None
    with torch.no_grad():
        teacher_rows = model.teacher_projector(teacher_features)
    np.testing.assert_allclose(student_rows.detach(), step["student"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(teacher_rows, step["teacher"], atol=1e-9, rtol=0)
    student, teacher = Embedded.from_rows(student_rows, 2, 2), Embedded.from_rows(teacher_rows, 2, 2)
    logits = model.cosines(student, teacher, after=torch.relu)
    np.testing.assert_allclose(logits.detach(), step["logits"], atol=1e-9, rtol=0)
    terms = model.terms(student, teacher, labels)
    found = {name: value.item() for name, value in terms.items()}
    expected = (
        {"prediction": step["pos"] + step["neg"], "positive": step["pos"]}
        if recipe == "cvpr"
        else {"prediction": step["intra"], "inter": step["inter"]}
    )
    for name, value in {**expected, "regularisation": step["reg"]}.items():
        assert found[name] == pytest.approx(float(value), abs=1e-9), name
    terms["loss"].backward()
    for name, parameter in model.projector.named_parameters():
        key = f"grad/{reference_name(recipe, f'projector.{name}')}"
        if key not in step:  # a bias before batch norm: zero but for rounding
            assert name.endswith("bias")
            continue
        expected_grad = step[key]
        assert parameter.grad is not None
        found = parameter.grad.flatten()[: expected_grad.size].reshape(expected_grad.shape)
        # the released total is rounded to float32, and so is the gradient that starts from it
        np.testing.assert_allclose(found, expected_grad, atol=1e-8, rtol=1e-6, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
def test_whole_step_in_single_precision(reference: Path, recipe: str) -> None:
    data = data_of(reference, recipe)
    model = reference_model(recipe)
    step = {k.removeprefix("f32/step0/"): v for k, v in data.items() if k.startswith("f32/step0/")}
    keep = torch.from_numpy(step["dropout_row_keep"])[:, None] if recipe == "tpami" else None
    terms = model(crops_of(data), torch.from_numpy(data["labels"]), keep)
    assert terms["loss"].item() == pytest.approx(float(step["total"]), abs=2e-5)
    assert terms["regularisation"].item() == pytest.approx(float(step["reg"]), abs=2e-5)
    terms["loss"].backward()
    names = data["param_names"].tolist()
    for name, parameter in model.named_parameters():
        i = names.index(reference_name(recipe, name))
        assert (parameter.grad is None) == bool(step["grad_is_none"][i]), name
        if parameter.grad is not None:
            found, expected = float(parameter.grad.norm()), float(step["grad_norm"][i])
            assert found == pytest.approx(expected, rel=5e-3, abs=2e-4), name
    total = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    assert total == pytest.approx(float(step["grad_norm_total"]), rel=1e-3)
    for name, parameter in model.named_parameters():
        i_teacher = {n: i for i, n in enumerate(data["teacher_param_names"].tolist())}.get(reference_name(recipe, name))
        if i_teacher is not None:
            assert float(parameter.detach().double().norm()) == pytest.approx(
                step["teacher_norm_after"][i_teacher], rel=1e-6
            )
            first = parameter.detach().flatten().double()
            first4 = first.repeat(4)[:4].numpy() if first.numel() < 4 else first[:4].numpy()
            np.testing.assert_allclose(first4, step["teacher_first4_after"][i_teacher], atol=1e-6)
