"""The whole cvpr step on a CPU: forward, loss, backward and optimizer, as released and as our engine has it.

The reference is put together from the published description: MONAI's encoder with activation checkpointing in its
transformer, a teacher of its own, the moving average parameter by parameter, the loss in a loop over samples and pairs,
AdamW with amsgrad, all crops at once, glibc's own allocator settings. Both start from the same weights and get the same
crops.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.allocators import as_glibc_does, warm
from benchmarks.encoder import set_checkpointing
from benchmarks.interleaved import compare
from benchmarks.losses import loop_terms
from benchmarks.registry import Options
from benchmarks.rows import Note, Row
from voco_cli.config import Settings, load_settings
from voco_cli.models.swin import SwinEncoder
from voco_cli.objectives.voco.crops import draw_crops
from voco_cli.objectives.voco.objective import VocoObjective
from voco_cli.operating_system import free_host_bytes
from voco_cli.pretrain.task import build_model

FEATURE_SIZES = (24, 48)
TARGETS = {24: 2.5, 48: 1.7}
"""Those of the encoder's forward and backward, which is nearly all of a step."""
RELEASED_BYTES = {24: 14e9, 48: 28e9}
"""Free memory that 18 crops at once want as released; 22 GB were not enough for the second."""
TOLERANCE = 1e-5
ROUNDS = 3
"""One says nothing of how much two of them differ."""
QUICK = (
    "model.feature_size=12",
    "crops.grid=4x2",
    "crops.input_size=32x32x64",
    "model.projector_hidden=[64,64]",
    "model.projector_out=64",
)


def rows(options: Options) -> Iterator[Row]:
    """One volume a step, 18 crops of 64^3, at both feature sizes."""
    if options.quick:
        yield _row(QUICK, None, 1)
        return
    for feature_size in FEATURE_SIZES:
        smaller: tuple[str, ...] = ()
        if free_host_bytes() < RELEASED_BYTES[feature_size]:
            yield Note(f"f={feature_size}", "18 crops as released do not fit the free memory; 10 do, of a grid of 4x2")
            smaller = ("crops.grid=4x2",)
        overrides = (f"model.feature_size={feature_size}", *smaller)
        yield _row(overrides, TARGETS[feature_size], options.rounds_or(ROUNDS))


def _row(overrides: tuple[str, ...], target: float | None, rounds: int) -> Row:
    resolved = load_settings("cvpr", None, ("train.batch_size=1", "run.device=cpu", *overrides), {})
    settings = resolved.settings
    crops, labels = made_batch(settings)
    ours, reference = (side(settings, made_model(settings)) for side in (OurStep, ReleasedStep))
    first = [float(step.loss(crops, labels).detach()) for step in (ours, reference)]
    return compare(
        f"cvpr step f={settings.model.feature_size}, {len(crops)} crops, as released",
        lambda: reference.step(crops, labels),
        lambda: ours.step(crops, labels),
        rounds,
        target=target,
        error=abs(first[0] - first[1]),
        tolerance=TOLERANCE,
        before_reference=as_glibc_does,
        before_ours=warm,
    )


def made_model(settings: Settings) -> VocoObjective:
    """The model of a run; the same weights each time."""
    model = build_model(settings, torch.device("cpu"))
    assert isinstance(model, VocoObjective)
    return model


def made_batch(settings: Settings) -> tuple[Tensor, Tensor]:
    """Crops of noise as the network gets them, crops_N1XYZ, and the labels that their places give, labels_1SK."""
    draws = draw_crops(settings.seed, 0, "made", settings.crops.region_vox, settings.crops)
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(len(draws.starts_N3), 1, *settings.crops.network_size_vox, generator=generator)
    return crops, torch.from_numpy(draws.labels_SK).float()[None]


@dataclass
class OurStep:
    """A step as the engine takes it."""

    settings: Settings
    model: VocoObjective

    def __post_init__(self) -> None:
        train = self.settings.train
        wanted = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            wanted, lr=train.lr, weight_decay=train.weight_decay, amsgrad=train.amsgrad, foreach=True
        )

    def loss(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Forward, the teacher's move included."""
        found: Tensor = self.model(crops, labels, None)["loss"]
        return found

    def step(self, crops: Tensor, labels: Tensor) -> None:
        """All of it."""
        self.loss(crops, labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class ReleasedStep:
    """The same step from MONAI's stock parts.

    Args:
        model: gives the weights; its encoders run by MONAI's own forward.
    """

    def __init__(self, settings: Settings, model: VocoObjective) -> None:
        self.ema = settings.objective.voco.ema
        self.num_random = settings.crops.random_per_volume
        encoders = (model.encoder, copy.deepcopy(model.teacher_encoder))
        assert isinstance(encoders[0], SwinEncoder)
        assert isinstance(encoders[1], SwinEncoder)
        self.encoder, self.teacher_encoder = encoders[0], encoders[1]
        set_checkpointing(self.encoder, True)
        assert model.teacher_projector is not None
        self.projector, self.teacher_projector = model.projector, model.teacher_projector
        self.learnt: list[nn.Parameter] = [*self.encoder.parameters(), *self.projector.parameters()]
        train = settings.train
        self.optimizer = torch.optim.AdamW(
            self.learnt, lr=train.lr, weight_decay=train.weight_decay, amsgrad=train.amsgrad, foreach=False
        )

    def loss(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Forward; the teacher moves between the student's forward and its own."""
        student = self.projector(self.encoder.stock_forward(crops))
        with torch.no_grad():
            twins = [*self.teacher_encoder.parameters(), *self.teacher_projector.parameters()]
            for twin, source in zip(twins, self.learnt, strict=True):
                twin.mul_(self.ema).add_(source, alpha=1 - self.ema)
            teacher = self.teacher_projector(self.teacher_encoder.stock_forward(crops))
        split = self.num_random
        return loop_terms(
            (student[None, :split], student[None, split:], teacher[None, :split], teacher[None, split:]), labels
        )

    def step(self, crops: Tensor, labels: Tensor) -> None:
        """All of it."""
        self.optimizer.zero_grad()
        self.loss(crops, labels).backward()
        self.optimizer.step()
