"""The look at held-out scans: always the same crops, never augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from voco_cli.config import Settings
from voco_cli.objectives.voco.augment import network_input
from voco_cli.objectives.voco.crops import draw_crops
from voco_cli.objectives.voco.diagnostics import Figures, LookedAt, Verdict, health_figures, true_ranks, verdict
from voco_cli.objectives.voco.model import Embedded, VolumeContrast
from voco_cli.pretrain.dataset import Case, read_crops
from voco_cli.training.task import DeviceContext


@dataclass(frozen=True)
class EmbeddedRows:
    """Crops as student and teacher see them.

    Attributes:
        features_NE: pooled features of the student's encoder.
        student_NC: their projections.
        teacher_NC: the teacher's; the student's own where there is no teacher.
    """

    features_NE: Tensor
    student_NC: Tensor
    teacher_NC: Tensor


def encoder_features(
    embed: Callable[[Tensor], Tensor], stored: Sequence[Tensor], size_vox: Sequence[int], place: DeviceContext
) -> Tensor:
    """Features_NE of crops, each of its crop alone: an encoder never mixes them.

    Args:
        embed: features of crops as the network gets them.
        stored: stored numbers, crops x X x Y x Z each.
        size_vox: size of a crop as the network gets it.
    """
    parts = []
    with torch.no_grad(), place.autocast():
        for crops in stored:
            n = len(crops)
            still = torch.zeros(n, 3, dtype=torch.bool), torch.zeros(n, dtype=torch.int64), torch.zeros(n)
            parts.append(embed(network_input(crops.to(place.device), *still, size_vox)))
        return torch.cat(parts).float()


@torch.no_grad()
def embed_crops(
    model: VolumeContrast,
    stored: Sequence[Tensor],
    size_vox: Sequence[int],
    place: DeviceContext,
    own_teacher: bool = False,
) -> EmbeddedRows:
    """Embed and project crops, all of them together: the batch norm of a projector takes its statistics from all rows.

    Args:
        stored, size_vox: as for :func:`encoder_features`.
        own_teacher: let the student stand in for the teacher, as if it had just been copied.
    """
    training = model.training
    model.eval()

    def seen_by(encoder: torch.nn.Module) -> Tensor:
        return encoder_features(lambda crops: model.embed(encoder, crops), stored, size_vox, place)

    features = seen_by(model.encoder)
    teacher_encoder = None if own_teacher else model.teacher_encoder
    teacher_features = features if teacher_encoder is None else seen_by(teacher_encoder)
    with place.autocast():
        student_rows = model.projector(features)
        teacher_rows = student_rows
        if model.teacher_projector is not None and not own_teacher:
            teacher_rows = model.teacher_projector(teacher_features)
    model.train(training)
    return EmbeddedRows(features, student_rows, teacher_rows)


FIXED_STEP = 2**31
"""The step whose draws the fixed crops are: one that no training reaches."""


@dataclass(frozen=True)
class FixedCrops:
    """What is looked at every time; as stored, a tensor a scan.

    Attributes:
        random: random crops, S x X x Y x Z.
        bases: base crops, K x X x Y x Z.
        labels_VSK: position labels of the random crops.
    """

    random: list[Tensor]
    bases: list[Tensor]
    labels_VSK: Tensor


@dataclass(frozen=True)
class Look:
    """One look at the held-out scans.

    Attributes:
        figures: what is measured.
        logits_VSK: predicted overlaps of the random crops with the base crops, on the CPU.
        ranks_VS: rank of each random crop's true base crop, on the CPU.
    """

    figures: Figures
    logits_VSK: Tensor
    ranks_VS: Tensor


class HealthCheck:
    """Fixed crops of the held-out scans, and the figures of a model on them.

    Args:
        cases: held-out scans; the first ``health.cases`` are looked at.
        settings: crops and health.
    """

    def __init__(self, cases: Sequence[Case], settings: Settings) -> None:
        self.settings = settings
        self.cases = list(cases)[: settings.health.cases]
        self.crops = settings.crops.model_copy(update={"random_per_volume": settings.health.crops_per_case})

    @cached_property
    def fixed(self) -> FixedCrops:
        """The crops, read once."""
        random, bases, labels = [], [], []
        for case in self.cases:
            draws = draw_crops(0, FIXED_STEP, case.name, case.volume.shape_xyz, self.crops)
            random_SXYZ, bases_KXYZ = read_crops(case.volume, draws, self.settings)
            random.append(torch.from_numpy(random_SXYZ))
            bases.append(torch.from_numpy(bases_KXYZ))
            labels.append(torch.from_numpy(draws.labels_SK))
        return FixedCrops(random, bases, torch.stack(labels))

    @torch.no_grad()
    def look(self, model: VolumeContrast, place: DeviceContext, own_teacher: bool = False) -> Look | None:
        """Look with the model, all crops projected together; None where nothing is held out.

        Args:
            own_teacher: let the student stand in for the teacher, as if it had just been copied.
        """
        if not self.cases:
            return None
        fixed = self.fixed
        stored = [*fixed.random, *fixed.bases]
        rows = embed_crops(model, stored, self.crops.network_size_vox, place, own_teacher)
        num_scans, num_random = fixed.labels_VSK.shape[:2]
        student = Embedded.from_rows(rows.student_NC, num_scans, num_random)
        teacher = Embedded.from_rows(rows.teacher_NC, num_scans, num_random)
        figures = health_figures(model, student, teacher, fixed.labels_VSK)
        cosines = model.cosines(student, teacher).cpu()
        logits = model.cosines(student, teacher, after=torch.relu).cpu()
        return Look(figures, logits, true_ranks(cosines, fixed.labels_VSK.float().argmax(-1, keepdim=True)))

    def verdict(self, start: Figures, now: Figures) -> Verdict:
        """What the last figures say against the first."""
        grid = self.crops.grid_xyz
        seen = LookedAt(len(self.cases), self.crops.random_per_volume, grid[0] * grid[1] * grid[2])
        return verdict(start, now, seen, self.settings.health)
