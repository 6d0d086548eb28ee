"""Every loss and its gradient against the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from voco_cli.config.objective_schema import VocoOptions
from voco_cli.objectives.voco import losses
from voco_cli.objectives.voco.model import Embedded, VolumeContrast

TOLERANCE = {"f64": 1e-12, "f32": 2e-6}
DTYPE = {"f64": torch.float64, "f32": torch.float32}


def load(reference: Path, recipe: str) -> dict[str, np.ndarray]:
    with np.load(reference / f"losses_{recipe}.npz") as data:
        return {key: data[key] for key in data.files}


def terms(recipe: str, feats: torch.Tensor, bases: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    logits = losses.position_logits(feats, bases)
    if recipe == "tpami":
        found = {"ce": losses.tpami_prediction_loss(labels, logits)}
    else:
        positive = losses.positive_loss(labels, logits)
        found = {"pos": positive, "neg": losses.cvpr_prediction_loss(labels, logits) - positive}
    return {**found, "reg": losses.base_regularisation(bases)}


@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_single_volume_terms(reference: Path, recipe: str, precision: str) -> None:
    data = load(reference, recipe)
    for case in data["names"]:
        feats, bases, labels = (
            torch.from_numpy(data[f"{case}/{name}"]).to(DTYPE[precision]) for name in ("feats", "bases", "labels")
        )
        tolerance = TOLERANCE[precision]
        # At cosine 1 the logarithm is of eps alone: one rounding of the cosine is 1e-10 (f64), 0.06 (f32) there.
        steep = "identical" in case or case == "tiny_norm"
        if steep:
            tolerance = 1e-9 if precision == "f64" else 0.2
        logits = losses.position_logits(feats, bases)
        np.testing.assert_allclose(logits, data[f"{case}/{precision}/logits"], atol=TOLERANCE[precision], rtol=0)
        for name, value in terms(recipe, feats, bases, labels).items():
            np.testing.assert_allclose(
                value,
                data[f"{case}/{precision}/{name}"].squeeze(),
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"{case} {name}",
            )


@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
def test_single_volume_gradients(reference: Path, recipe: str) -> None:
    data = load(reference, recipe)
    for case in data["names"]:
        for name in ("ce", "reg") if recipe == "tpami" else ("pos", "neg", "reg"):
            feats, bases = (torch.from_numpy(data[f"{case}/{n}"]).requires_grad_() for n in ("feats", "bases"))
            labels = torch.from_numpy(data[f"{case}/labels"])
            if case == "labels_eq_logits":
                # |y - l| has a kink at 0, and a rounding apart from it the gradient is another: take our own logits.
                labels = losses.position_logits(feats, bases).detach()
            value = terms(recipe, feats, bases, labels)[name]
            grads = torch.autograd.grad(value, (feats, bases), allow_unused=True, materialize_grads=True)
            for grad, of in zip(grads, ("feats", "bases"), strict=True):
                if name == "reg" and of == "feats":
                    continue
                expected = data[f"{case}/f64/d{name}_d{of}"]
                scale = max(1.0, float(np.abs(expected).max()))
                np.testing.assert_allclose(grad, expected, atol=1e-9 * scale, rtol=0, err_msg=f"{case} {name} {of}")


OBJECTIVES = {
    "cvpr": VocoOptions(),
    "tpami": VocoOptions(prediction="tpami", teacher="projector", symmetric=False, inter_weight=1.0),
}


@pytest.mark.parametrize("recipe", ["cvpr", "tpami"])
@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_whole_step_losses_from_given_features(reference: Path, recipe: str, precision: str) -> None:
    data = load(reference, recipe)
    for case in data["batch_names"]:
        labels = torch.from_numpy(data[f"{case}/labels"]).to(DTYPE[precision])
        student, teacher = (
            torch.from_numpy(data[f"{case}/{name}"]).to(DTYPE[precision]) for name in ("student", "teacher")
        )
        student.requires_grad_()
        volumes, num_random = labels.shape[:2]
        model = VolumeContrast.__new__(VolumeContrast)
        torch.nn.Module.__init__(model)
        model.options = OBJECTIVES[recipe]
        found = model.terms(
            Embedded.from_rows(student, volumes, num_random), Embedded.from_rows(teacher, volumes, num_random), labels
        )
        names = {"loss": "total", "regularisation": "reg"}
        if recipe == "tpami":
            names |= {"prediction": "intra", "inter": "inter"}
        else:
            names |= {"positive": "pos"}
            found["negative"] = found["prediction"] - found["positive"]
            names["negative"] = "neg"
        for ours, theirs in names.items():
            expected = data[f"{case}/{precision}/{theirs}"].squeeze()
            # The released total is a float32 number also where its terms are float64.
            tolerance = 2e-7 if theirs == "total" and precision == "f64" else TOLERANCE[precision]
            np.testing.assert_allclose(
                found[ours].detach(), expected, rtol=tolerance, atol=tolerance, err_msg=f"{case} {ours}"
            )

        if precision == "f64":
            check_gradients(data, case, found, student)


def check_gradients(
    data: dict[str, np.ndarray], case: str, found: dict[str, torch.Tensor], student: torch.Tensor
) -> None:
    def expected(term: str) -> np.ndarray:
        return data[f"{case}/f64/d{term}_dstudent"]

    gradients = {"loss": expected("total"), "regularisation": expected("reg")}
    if "inter" in found:
        gradients |= {"prediction": expected("intra"), "inter": expected("inter")}
    else:
        gradients |= {"prediction": expected("pos") + expected("neg")}
    for name, gradient in gradients.items():
        (grad,) = torch.autograd.grad(found[name], student, retain_graph=True)
        # gradients of the released total start from a float32 number
        np.testing.assert_allclose(grad, gradient, atol=1e-8, rtol=0, err_msg=f"{case} d{name}")
