"""One training step of VoCo as a module: student, teacher, and the terms between them.

B volumes, S random crops and K base crops of each, N = B * (S + K) rows, E features before and C after the projector.
Rows stand in the order of the released code: random crops of volume 0 to B - 1, then base crops of volume 0 to B - 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import FunctionCtx

from voco_cli.config.objective_schema import VocoOptions
from voco_cli.models.build import encode_groups
from voco_cli.objectives.voco.losses import (
    PREDICTION_LOSSES,
    at_least_float32,
    base_regularisation,
    cosine,
    inter_volume_loss,
    positive_loss,
)


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a step, by volume.

    Attributes:
        random_BSC: random crops.
        bases_BKC: base crops.
    """

    random_BSC: Tensor
    bases_BKC: Tensor

    @classmethod
    def from_rows(cls, rows_NC: Tensor, num_volumes: int, num_random: int) -> Embedded:
        """Split rows in the order of the module's docstring."""
        split = num_volumes * num_random
        return cls(
            rows_NC[:split].unflatten(0, (num_volumes, num_random)), rows_NC[split:].unflatten(0, (num_volumes, -1))
        )


class VolumeContrast(nn.Module):
    """Encoder and projector, their teacher, and what is minimised.

    Args:
        build_encoder: makes an encoder with fresh weights and an attribute ``out_features``.
        build_projector: makes a projector for that many features.
        options: which terms, and what the teacher is.
        group_size: crops that go through an encoder at a time; None is all of them.
        recompute: keep no activations of the student's encoder, and compute them again in the backward pass.
    """

    def __init__(
        self,
        build_encoder: Callable[[], nn.Module],
        build_projector: Callable[[int], nn.Module],
        options: VocoOptions,
        group_size: int | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.recompute = recompute
        self.options = options
        self.encoder = build_encoder()
        features = self.encoder.out_features
        assert isinstance(features, int)
        self.embedding_features = features
        self.projector = build_projector(features)
        own = options.teacher_start == "own"
        self.teacher_encoder: nn.Module | None = None
        self.teacher_projector: nn.Module | None = None
        if options.teacher == "network":
            self.teacher_encoder = build_encoder() if own else copy.deepcopy(self.encoder)
            self.teacher_encoder.requires_grad_(False)
        if options.teacher != "none":
            self.teacher_projector = build_projector(features) if own else copy.deepcopy(self.projector)
            self.teacher_projector.requires_grad_(False)

    def forward(
        self, crops_N1XYZ: Tensor, labels_BSK: Tensor, keep_NE: Tensor | None = None, update_teacher: bool = True
    ) -> dict[str, Tensor]:
        """Terms of the loss, averaged over volumes; ``loss`` is their weighted sum.

        The teacher moves after the student's forward pass and before its own, as released.

        Args:
            crops_N1XYZ: crops as the network gets them.
            labels_BSK: position labels of the random crops.
            keep_NE: where the dropout keeps the student's features; one column keeps or drops whole crops.
            update_teacher: False in all but the first batch of an accumulated step.
        """
        num_volumes, num_random = labels_BSK.shape[:2]
        features_NE = self.embed(self.encoder, crops_N1XYZ)
        kept_NE = features_NE
        if keep_NE is not None:
            kept_NE = features_NE * keep_NE.to(features_NE.dtype) / (1.0 - self.options.dropout)
        student = Embedded.from_rows(self.projector(kept_NE), num_volumes, num_random)
        if update_teacher:
            self.update_teacher()
        teacher = Embedded.from_rows(self._teacher_rows(crops_N1XYZ, features_NE, student), num_volumes, num_random)
        return self.terms(student, teacher, labels_BSK)

    def embed(self, encoder: nn.Module, crops_N1XYZ: Tensor) -> Tensor:
        """Return features_NE of crops, group by group."""
        return encode_groups(encoder, crops_N1XYZ, self.group_size, recompute=self.recompute, training=self.training)

    @torch.no_grad()
    def _teacher_rows(self, crops_N1XYZ: Tensor, features_NE: Tensor, student: Embedded) -> Tensor:
        if self.teacher_projector is None:
            rows = torch.cat([student.random_BSC.flatten(0, 1), student.bases_BKC.flatten(0, 1)])
            return rows.detach()
        features = features_NE.detach()
        if self.teacher_encoder is not None:
            features = self.embed(self.teacher_encoder, crops_N1XYZ)
        rows_NC: Tensor = self.teacher_projector(features)
        return rows_NC

    def terms(self, student: Embedded, teacher: Embedded, labels_BSK: Tensor) -> dict[str, Tensor]:
        """Terms of the loss from embeddings; the teacher's carry no gradient."""
        logits_BSK = self.cosines(student, teacher, after=torch.relu)
        prediction = PREDICTION_LOSSES[self.options.prediction](labels_BSK, logits_BSK).mean()
        regularisation = base_regularisation(student.bases_BKC).mean()
        loss = self.options.prediction_weight * prediction + self.options.regularisation_weight * regularisation
        terms = {"prediction": prediction, "regularisation": regularisation}
        if self.options.inter_weight > 0:
            inter = inter_volume_loss(
                student.random_BSC, student.bases_BKC, teacher.random_BSC, teacher.bases_BKC
            ).mean()
            loss = loss + self.options.inter_weight * inter
            terms["inter"] = inter
        terms["positive"] = positive_loss(labels_BSK, logits_BSK.detach()).mean()
        return {"loss": loss, **terms}

    def cosines(self, student: Embedded, teacher: Embedded, after: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Similarities of random crops and base crops: student to teacher, averaged with the way back if symmetric.

        Args:
            after: applied to each direction before the average; ``relu`` gives the logits.
        """
        forth = after(cosine(student.random_BSC, teacher.bases_BKC))
        if not self.options.symmetric:
            return forth
        return 0.5 * (forth + after(cosine(teacher.random_BSC, student.bases_BKC)))

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move the teacher towards the student: ``T = ema * T + (1 - ema) * S``."""
        for twin, source in ((self.teacher_encoder, self.encoder), (self.teacher_projector, self.projector)):
            if twin is not None:
                torch._foreach_lerp_(list(twin.parameters()), list(source.parameters()), 1.0 - self.options.ema)


class StepBatchNorm(nn.Module):
    """Batch norm without affine weights and running statistics, over the rows of all processes of a step.

    Random and base crops share the statistics; without them the method collapses (all cosines 0.99 at the start).
    torch's SyncBatchNorm does the same on GPUs only.
    """

    eps = 1e-5

    def forward(self, rows_NC: Tensor) -> Tensor:
        """Rows with mean 0 and variance 1 in each channel.

        Raises:
            ValueError: fewer than two rows, which have no variance.
        """
        rows = at_least_float32(rows_NC)
        count = torch.full((1,), float(rows.shape[0]), dtype=rows.dtype, device=rows.device)
        total = _sum_over_processes(torch.cat([rows.sum(0), count]))
        count = total[-1].detach()
        if not _is_distributed() and rows.shape[0] < 2:
            raise ValueError("batch norm over a step needs at least two crops")
        centred = rows - total[:-1] / count
        variance = _sum_over_processes(centred.square().sum(0)) / count
        return (centred * torch.rsqrt(variance + self.eps)).to(rows_NC.dtype)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _AllReduce(torch.autograd.Function):
    """Sum over processes; every process's loss depends on the sum, so the backward pass sums the gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed


def _sum_over_processes(x: Tensor) -> Tensor:
    if not _is_distributed():
        return x
    summed: Tensor = _AllReduce.apply(x)  # type: ignore[no-untyped-call]
    return summed


class Projector(nn.Sequential):
    """MLP from pooled features to the embedding that is compared; batch norm and ReLU after each hidden layer."""

    def __init__(self, in_features: int, hidden: Sequence[int], out_features: int) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), StepBatchNorm(), nn.ReLU(inplace=True)]
            in_features = width
        super().__init__(*layers, nn.Linear(in_features, out_features))
