"""Volume contrast as an objective of pre-training: its draws, its input, its look at held-out scans.

V scans, S random crops and K base crops of each, N = V * (S + K) rows, E features before and C after the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.models.build import build_encoder
from voco_cli.objectives.augment import network_input, to_unit
from voco_cli.objectives.objective import (
    HELD_OUT_STEP,
    Autocast,
    Case,
    FigureInfo,
    Objective,
    Validation,
    Verdict,
)
from voco_cli.objectives.voco.crops import draw_crops
from voco_cli.objectives.voco.diagnostics import (
    HeldOutSize,
    chance_figures,
    held_out_figures,
    true_ranks,
    verdict,
)
from voco_cli.objectives.voco.model import Embedded, Projector, VolumeContrast
from voco_cli.objectives.voco.sampling import CropBatch, CropSampler, read_crops

MOST_SHOWN = 6
"""Crops in the picture of a validation."""


def build(settings: Settings, encoder: nn.Module) -> VocoObjective:
    """Return volume contrast over an encoder; a teacher with a start of its own draws it after the projector."""
    model = settings.model
    encoders = chain([encoder], (build_encoder(model) for _ in repeat(None)))
    return VocoObjective(
        lambda: next(encoders), lambda width: Projector(width, model.projector_hidden, model.projector_out), settings
    )


def voco_figures(num_bases: int) -> dict[str, FigureInfo]:
    """Return what each held-out figure of volume contrast is, among so many base crops."""
    chance = chance_figures(num_bases)
    return {
        "rank": FigureInfo("rank of the true base crop", "lower", chance["rank"], "rank"),
        "cross_rank": FigureInfo("the same among base crops of another scan", "lower", chance["cross_rank"]),
        "top1": FigureInfo("true base crop first", "higher", chance["top1"], "top-1"),
        "correlation": FigureInfo("correlation of logits and labels", "higher", chance["correlation"], "corr"),
        "label_error": FigureInfo("mean error of the logits", "lower, but logits of 0 score well"),
        "effective_rank": FigureInfo("effective rank of the base embeddings", "falls as it learns, few is collapse"),
        "base_cosine": FigureInfo("mean cosine of two base crops of a scan", "lower"),
        "dead_true": FigureInfo("true base crop without a gradient", "lower"),
        "teacher_distance": FigureInfo("distance of student and teacher", ""),
    }


class VocoObjective(VolumeContrast, Objective):
    """Where does a random crop lie among the base crops of its volume?

    Args:
        build_encoder: gives the encoder, then that of the teacher.
        build_projector: makes a projector for so many features.
        settings: crops, augmentation, objective, health.
    """

    title = "volume contrast"
    shown_terms = ("prediction", "regularisation", "inter")
    score_name = "rank"

    def __init__(
        self,
        build_encoder: Callable[[], nn.Module],
        build_projector: Callable[[int], nn.Module],
        settings: Settings,
    ) -> None:
        super().__init__(build_encoder, build_projector, settings.objective.voco)
        self.settings = settings
        self.held_out: HeldOut | None = None

    @property
    def sampler(self) -> CropSampler:
        """Random and base crops."""
        by_feature = self.settings.objective.voco.dropout_unit == "features"
        return CropSampler(self.settings, self.embedding_features if by_feature else 1)

    @property
    def region_vox(self) -> tuple[int, int, int]:
        """The region that the base crops tile."""
        return self.settings.crops.region_vox

    @property
    def crops_per_volume(self) -> int:
        """Random and base crops."""
        crops = self.settings.crops
        return crops.random_per_volume + crops.grid_xyz[0] * crops.grid_xyz[1] * crops.grid_xyz[2]

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Ranks of the true base crop, and measures of the embeddings."""
        grid = self.settings.crops.grid_xyz
        return voco_figures(grid[0] * grid[1] * grid[2])

    def prepare(self, batch: CropBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return crops as the network gets them, position labels and the dropout mask."""
        split = len(batch.random_RXYZ)
        parts = [
            network_input(
                stored.to(device, non_blocking=True),
                batch.flips_N3[rows],
                batch.turns_N[rows],
                batch.shifts_N[rows],
                self.settings.crops.network_size_vox,
            )
            for stored, rows in ((batch.random_RXYZ, slice(split)), (batch.bases_RXYZ, slice(split, None)))
        ]
        keep = batch.keep_NE.to(device, non_blocking=True) if self.options.dropout > 0 else None
        return torch.cat(parts), batch.labels_BSK.to(device, non_blocking=True), keep

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the terms of the loss; the teacher moves in the first batch of a step."""
        crops_N1XYZ, labels_BSK, keep_NE = inputs
        return VolumeContrast.forward(self, crops_N1XYZ, labels_BSK, keep_NE, first_of_step)

    def encoder_started(self) -> None:
        """Start the teacher's encoder from the weights of the student's."""
        if self.teacher_encoder is not None:
            self.teacher_encoder.load_state_dict(self.encoder.state_dict())

    def encoders(self) -> list[nn.Module]:
        """Return the student's encoder and the teacher's."""
        return [self.encoder] if self.teacher_encoder is None else [self.encoder, self.teacher_encoder]

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Keep the first ``health.cases`` of them; their crops are read when they are first looked at."""
        health = self.settings.health
        crops = self.settings.crops.model_copy(update={"random_per_volume": health.crops_per_case})
        kept = list(cases)[: health.cases]
        self.held_out = HeldOut(kept, self.settings.model_copy(update={"crops": crops})) if kept else None

    @torch.no_grad()
    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation | None:
        """Look at the held-out crops, all projected together.

        At the start the student stands in for the teacher, as if it had just been copied, so that it is comparable.
        """
        if self.held_out is None:
            return None
        held_out = self.held_out
        rows = embed_crops(self, held_out.stored, self.settings.crops.network_size_vox, device, autocast, at_start)
        num_scans, num_random = held_out.labels_VSK.shape[:2]
        student = Embedded.from_rows(rows.student_NC, num_scans, num_random)
        teacher = Embedded.from_rows(rows.teacher_NC, num_scans, num_random)
        figures = held_out_figures(self, student, teacher, held_out.labels_VSK)
        ranks_VS = true_ranks(
            self.cosines(student, teacher).cpu(), held_out.labels_VSK.float().argmax(-1, keepdim=True)
        )
        logits_VSK = self.cosines(student, teacher, after=torch.relu).cpu()
        return Validation(figures, held_out.located(logits_VSK, ranks_VS))

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether it learned to locate, or whether the embeddings collapsed."""
        grid, num_cases = self.settings.crops.grid_xyz, len(self.held_out.cases) if self.held_out else 0
        size = HeldOutSize(num_cases, self.settings.health.crops_per_case, grid[0] * grid[1] * grid[2])
        return verdict(start, now, size, self.settings.health)


@dataclass(frozen=True)
class LocatedCrop:
    """A held-out crop, and where it is believed to lie.

    Attributes:
        scan: name of the case.
        slice_XY: its middle slice, in [0, 1].
        pixel_mm: size of a pixel along x and y.
        label_K: share of it in each base crop.
        logits_K: the same as predicted.
        rank: of the true base crop, from 0.
    """

    scan: str
    slice_XY: NDArray[np.float32]
    pixel_mm: tuple[float, float]
    label_K: NDArray[np.float32]
    logits_K: NDArray[np.float32]
    rank: float


@dataclass(frozen=True)
class LocatedCrops:
    """What the picture of a validation shows.

    Attributes:
        grid_xyz: base crops along each axis.
        base_size_mm: of a base crop along x and y, in the first scan.
        crops: spread evenly over the cases.
    """

    grid_xyz: tuple[int, int, int]
    base_size_mm: tuple[float, float]
    crops: Sequence[LocatedCrop]


class HeldOut:
    """Fixed crops of held-out scans, read once.

    Attributes:
        cases: the scans.
        random, bases: crops as stored, a tensor a scan.
        labels_VSK: position labels of the random crops.
    """

    def __init__(self, cases: Sequence[Case], settings: Settings) -> None:
        self.cases = cases
        self.crops = settings.crops
        self.random: list[Tensor] = []
        self.bases: list[Tensor] = []
        labels = []
        for case in cases:
            draws = draw_crops(0, HELD_OUT_STEP, case.name, case.volume.shape_xyz, settings.crops)
            random_SXYZ, bases_KXYZ = read_crops(case.volume, draws, settings)
            self.random.append(torch.from_numpy(random_SXYZ))
            self.bases.append(torch.from_numpy(bases_KXYZ))
            labels.append(torch.from_numpy(draws.labels_SK))
        self.labels_VSK = torch.stack(labels)

    @property
    def stored(self) -> list[Tensor]:
        """All crops in the order of the model's rows."""
        return [*self.random, *self.bases]

    def located(self, logits_VSK: Tensor, ranks_VS: Tensor) -> LocatedCrops:
        """Return what the picture shows of predictions."""
        num_cases, num_crops, _ = self.labels_VSK.shape
        shown, sizes_mm = [], []
        for case, crop in spread(num_cases, num_crops, MOST_SHOWN):
            x_mm, y_mm, _ = self.cases[case].volume.metadata.record.spacing_mm
            sizes_mm.append((x_mm, y_mm))
            voxels = to_unit(self.random[case][crop])
            shown.append(
                LocatedCrop(
                    scan=self.cases[case].name,
                    slice_XY=voxels[:, :, voxels.shape[2] // 2].numpy(),
                    pixel_mm=(x_mm, y_mm),
                    label_K=self.labels_VSK[case, crop].float().numpy(),
                    logits_K=logits_VSK[case, crop].float().numpy(),
                    rank=float(ranks_VS[case, crop]),
                )
            )
        base_x, base_y, _ = self.crops.base_size_vox
        return LocatedCrops(self.crops.grid_xyz, (base_x * sizes_mm[0][0], base_y * sizes_mm[0][1]), shown)


def spread(num_cases: int, num_crops: int, most: int) -> list[tuple[int, int]]:
    """Return case and crop of at most so many, spread evenly over the cases, from the first on within a case."""
    count = min(most, num_cases * num_crops)
    cases = [number * num_cases // count for number in range(count)]
    return [(case, cases[:number].count(case)) for number, case in enumerate(cases)]


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
    embed: Callable[[Tensor], Tensor],
    stored: Sequence[Tensor],
    size_vox: Sequence[int],
    device: torch.device,
    autocast: Autocast,
) -> Tensor:
    """Return features_NE of crops, each of its crop alone: an encoder never mixes them.

    Args:
        embed: features of crops as the network gets them.
        stored: stored numbers, crops x X x Y x Z each.
        size_vox: size of a crop as the network gets it.
    """
    parts = []
    with torch.no_grad(), autocast():
        for crops in stored:
            n = len(crops)
            still = torch.zeros(n, 3, dtype=torch.bool), torch.zeros(n, dtype=torch.int64), torch.zeros(n)
            parts.append(embed(network_input(crops.to(device), *still, size_vox)))
        return torch.cat(parts).float()


@torch.no_grad()
def embed_crops(
    model: VolumeContrast,
    stored: Sequence[Tensor],
    size_vox: Sequence[int],
    device: torch.device,
    autocast: Autocast,
    own_teacher: bool = False,
) -> EmbeddedRows:
    """Embed and project crops, all of them together: the batch norm of a projector takes its statistics from all rows.

    Args:
        stored, size_vox: as for :func:`encoder_features`.
        own_teacher: let the student stand in for the teacher, as if it had just been copied.
    """
    training = model.training
    model.eval()

    def features_of(encoder: nn.Module) -> Tensor:
        return encoder_features(lambda crops: model.embed(encoder, crops), stored, size_vox, device, autocast)

    features = features_of(model.encoder)
    teacher_encoder = None if own_teacher else model.teacher_encoder
    teacher_features = features if teacher_encoder is None else features_of(teacher_encoder)
    with autocast():
        student_rows = model.projector(features)
        teacher_rows = student_rows
        if model.teacher_projector is not None and not own_teacher:
            teacher_rows = model.teacher_projector(teacher_features)
    model.train(training)
    return EmbeddedRows(features, student_rows, teacher_rows)
