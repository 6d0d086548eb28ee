"""A pre-training step for the GPU benchmark, on torch and the pure part of our package alone.

The reference is the step as released: crops that the loader has resized to float32, activation checkpointing, loops
over samples and pairs, a moving average parameter by parameter. Ours gets bytes, which the device turns and resizes,
and computes the terms at once.

B volumes, S random crops and K base crops of each, N = B * (S + K).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.gpu_encoder import GpuEncoder
from benchmarks.losses import Embeddings, loop_terms, tpami_loop_terms
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.voco.crops import label_boxes, position_labels
from voco_cli.objectives.voco.losses import (
    base_regularisation,
    cosine,
    cvpr_prediction_loss,
    inter_volume_loss,
    tpami_prediction_loss,
)
from voco_cli.objectives.voco.model import Projector

GFLOP_CONVOLUTION, GFLOP_LINEAR, GFLOP_ATTENTION = 63.0, 7.4, 4.7
"""Of a forward pass over 64^3 voxels at feature size 48, without what padding adds."""
EMA = 0.9


@dataclass(frozen=True)
class Recipe:
    """Sizes of a release.

    Attributes:
        volumes: of a step.
        grid: base crops along x and y.
        crop_vox: edge of a crop as stored; network_vox as the network gets it, along x, y, z.
        own_teacher: the teacher is a whole network, else a projector.
        dropout: of the student's crops before the projector.
    """

    name: str
    volumes: int
    grid: tuple[int, int]
    crop_vox: int
    network_vox: tuple[int, int, int]
    hidden: tuple[int, ...]
    own_teacher: bool
    dropout: float
    random: int = 2

    @property
    def bases(self) -> int:
        """Base crops of a volume."""
        return self.grid[0] * self.grid[1]

    @property
    def crops(self) -> int:
        """Crops of a step."""
        return self.volumes * (self.random + self.bases)

    def tflop(self, feature_size: int) -> float:
        """Arithmetic of a step: backward twice the forward, and the teacher's forward where it has a network."""
        width, voxels = feature_size / 48, np.prod(self.network_vox) / 64**3
        crop = (GFLOP_CONVOLUTION + GFLOP_LINEAR) * width**2 + GFLOP_ATTENTION * width
        return float(self.crops * crop * voxels * (4 if self.own_teacher else 3) / 1000)


CVPR = Recipe("cvpr", 2, (4, 4), 96, (64, 64, 64), (2048, 2048), True, 0.0)
TPAMI = Recipe("tpami", 4, (3, 3), 64, (64, 64, 64), (1024, 1024), False, 0.2)


@dataclass(frozen=True)
class Way:
    """How a step is computed.

    Attributes:
        released: as the releases do: MONAI's operations, activation checkpointing, loops, float32 crops.
        compile: mode of `torch.compile` for the encoder, or none.
        recompute: activations of a group of crops are forgotten and computed again.
        group: crops that go through the encoder together; 0 is all of them.
    """

    name: str
    released: bool = False
    compile: str | None = None
    recompute: bool = False
    group: int = 0


RELEASED = Way("as released", released=True)


@dataclass(frozen=True)
class Batch:
    """Crops of a step on the host, in pinned memory where there is a device, with their draws and labels."""

    crops: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor
    labels_BSK: Tensor

    def nbytes(self) -> int:
        """Bytes that travel to the device."""
        return self.crops.nbytes + self.labels_BSK.nbytes


def made_batch(recipe: Recipe, released: bool, device: torch.device) -> Batch:
    """Noise: bytes for ours, float32 at the network's size for the reference."""
    rng, count, edge = np.random.default_rng(0), recipe.crops, recipe.crop_vox
    if released:
        crops = torch.from_numpy(rng.random((count, 1, *recipe.network_vox), dtype=np.float32))
    else:
        crops = torch.from_numpy(rng.integers(0, 256, (count, edge, edge, edge), dtype=np.uint8))
    size, grid = (edge,) * 3, (*recipe.grid, 1)
    room = [edge * (n - 1) + 1 for n in recipe.grid]
    starts = rng.integers(0, [*room, 1], (recipe.volumes, recipe.random, 3))
    labels = np.stack([position_labels(*label_boxes(one, size, "whole"), size, grid, size) for one in starts])
    batch = Batch(
        crops,
        torch.from_numpy(rng.random((count, 3)) < 0.2),
        torch.from_numpy(np.where(rng.random(count) < 0.2, rng.integers(1, 4, count), 0)),
        torch.zeros(count),
        torch.from_numpy(labels).float(),
    )
    if device.type != "cuda":
        return batch
    return Batch(*(getattr(batch, name).pin_memory() for name in vars(batch)))


class GpuStep(nn.Module):
    """Networks, optimizer and one step of a recipe in one way."""

    def __init__(self, recipe: Recipe, feature_size: int, way: Way, device: torch.device) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recipe, self.way, self.device = recipe, way, device
        self.encoder = GpuEncoder(
            feature_size, recipe.network_vox, released=way.released, recompute=way.released and not way.recompute
        )
        features, width = self.encoder.out_features, recipe.hidden[-1]
        self.projector = Projector(features, recipe.hidden, width)
        self.teacher_projector = Projector(features, recipe.hidden, width).requires_grad_(False)
        self.teacher_encoder = copy.deepcopy(self.encoder).requires_grad_(False) if recipe.own_teacher else None
        self.to(device)
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=1e-4, weight_decay=0.01, amsgrad=True)
        self.embed: Callable[[Tensor], Tensor] = self.encoder
        self.embed_teacher: Callable[[Tensor], Tensor] | None = self.teacher_encoder
        if way.compile:
            self.embed = torch.compile(self.encoder, mode=way.compile, dynamic=False)
            if self.teacher_encoder is not None:
                self.embed_teacher = torch.compile(self.teacher_encoder, mode=way.compile, dynamic=False)

    def network_crops(self, batch: Batch) -> Tensor:
        """Crops as the network gets them, on the device."""
        crops = batch.crops.to(self.device, non_blocking=True)
        if self.way.released:
            return crops
        return network_input(crops, batch.flips_N3, batch.turns_N, batch.shifts_N, self.recipe.network_vox)

    def loss(self, crops: Tensor, labels_BSK: Tensor) -> Tensor:
        """Forward, the teacher's move included."""
        features = self._features(self.embed, crops)
        kept = features
        if self.recipe.dropout:
            kept_N1 = torch.rand(len(features), 1, device=self.device) >= self.recipe.dropout
            kept = features * kept_N1 / (1 - self.recipe.dropout)
        student = self.projector(kept)
        with torch.no_grad():
            self._move_teacher()
            own = features if self.embed_teacher is None else self._features(self.embed_teacher, crops)
            teacher = self.teacher_projector(own.detach())
        embeddings = (*self._by_volume(student), *self._by_volume(teacher))
        return self._terms(embeddings, labels_BSK)

    def step(self, batch: Batch) -> Tensor:
        """All of it; the loss stays on the device."""
        if self.way.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        labels = batch.labels_BSK.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu"):  # slower on most CPUs
            loss = self.loss(self.network_crops(batch), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _features(self, embed: Callable[[Tensor], Tensor], crops: Tensor) -> Tensor:
        if not self.way.group:
            return embed(crops)
        keep_none = self.way.recompute and torch.is_grad_enabled()
        # A graph writes the output of each replay into the same memory.
        own = Tensor.clone if self.way.compile == "reduce-overhead" else Tensor.contiguous
        groups = crops.split(self.way.group)
        return torch.cat(
            [own(checkpoint(embed, one, use_reentrant=False) if keep_none else embed(one)) for one in groups]
        )

    @torch.no_grad()
    def _move_teacher(self) -> None:
        for twin, source in ((self.teacher_encoder, self.encoder), (self.teacher_projector, self.projector)):
            if twin is None:
                continue
            if self.way.released:
                for one, other in zip(twin.parameters(), source.parameters(), strict=True):
                    one.mul_(EMA).add_(other, alpha=1 - EMA)
            else:
                torch._foreach_lerp_(list(twin.parameters()), list(source.parameters()), 1 - EMA)

    def _by_volume(self, rows_NC: Tensor) -> tuple[Tensor, Tensor]:
        split, volumes = self.recipe.volumes * self.recipe.random, self.recipe.volumes
        rows = rows_NC.float()
        return rows[:split].unflatten(0, (volumes, -1)), rows[split:].unflatten(0, (volumes, -1))

    def _terms(self, embeddings: Embeddings, labels_BSK: Tensor) -> Tensor:
        cvpr = self.recipe.own_teacher
        if self.way.released:
            with torch.autocast(self.device.type, enabled=False):
                return (loop_terms if cvpr else tpami_loop_terms)(embeddings, labels_BSK)
        student, bases, teacher, teacher_bases = embeddings
        logits = cosine(student, teacher_bases).relu()
        regularisation = base_regularisation(bases).mean()
        if cvpr:
            logits = 0.5 * (logits + cosine(teacher, bases).relu())
            return cvpr_prediction_loss(labels_BSK, logits).mean() + regularisation
        inter = inter_volume_loss(student, bases, teacher, teacher_bases).mean()
        return tpami_prediction_loss(labels_BSK, logits).mean() + regularisation + inter
