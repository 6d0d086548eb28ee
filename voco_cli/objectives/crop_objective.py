"""The frame of objectives on crops anywhere in a volume: the same crops are held out of each, looked at and judged.

N crops of a batch, E features of the encoder, K channels of a decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.config.schema import Augment
from voco_cli.models.build import decode_groups, encode_groups
from voco_cli.objectives.objective import HELD_OUT_STEP, Autocast, Case, Objective, Sampler, Validation, Verdict

MOST_SHOWN = 6
"""Crops in the picture of a validation."""


class CropObjective(Objective):
    """An objective whose crops are ``crops.random_per_volume`` of ``crops.size``, with a batch of fixed ones held out.

    Args:
        settings: seed, crops, augmentation, health.
        encoder: of `voco_cli.models.build.build_encoder`.
    Attributes:
        held_out: cases that a validation looks at, each with the batch of its crops.
    """

    counted: ClassVar[str] = "crops"
    """What ``health.crops_per_case`` counts, in a verdict."""

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.held_out: list[tuple[Case, Any]] = []

    @abstractmethod
    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> Sampler:
        """Return what draws so many crops of a case.

        Args:
            augment: of the settings in training; of held-out crops one that changes nothing.
        """

    @abstractmethod
    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return the figures of ``held_out``; the networks are in evaluation mode and keep no gradients."""

    @property
    def sampler(self) -> Sampler:
        """Crops of the size of the settings."""
        return self.crop_sampler(self.settings.seed, self.settings.crops.random_per_volume, self.settings.augment)

    @property
    def region_vox(self) -> tuple[int, int, int]:
        """One crop."""
        return self.settings.crops.size

    @property
    def crops_per_volume(self) -> int:
        """The random crops."""
        return self.settings.crops.random_per_volume

    def encode(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return features_NE, as :func:`encode_groups` does."""
        return encode_groups(
            self.encoder, crops_N1XYZ, self.group_size, recompute=self.recompute, training=self.training
        )

    def decode(self, decoder: nn.Module, crops_N1XYZ: Tensor) -> Tensor:
        """Return values_NKXYZ, as :func:`decode_groups` does."""
        return decode_groups(
            self.encoder, decoder, crops_N1XYZ, self.group_size, recompute=self.recompute, training=self.training
        )

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Read fixed crops of the first ``health.cases`` of them; what is done to them is fixed, too."""
        health = self.settings.health
        still = Augment(flip_prob=0, rotate_prob=0, shift_prob=0)
        sampler = self.crop_sampler(0, health.crops_per_case, still)
        self.held_out = [
            (case, sampler.collate([sampler.draw(case, HELD_OUT_STEP)])) for case in list(cases)[: health.cases]
        ]

    @torch.no_grad()
    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation | None:
        """Return what `measure` gives; None where nothing is held out."""
        if not self.held_out:
            return None
        training = self.training
        self.eval()
        found = self.measure(device, autocast)
        self.train(training)
        return found

    @property
    def basis(self) -> str:
        """Return what figures rest on, in words."""
        scans = len(self.held_out)
        crops = scans * self.settings.health.crops_per_case
        return f"on {scans} held-out scan{'s' if scans > 1 else ''} ({crops} {self.counted})"

    def judge(self, learned: bool, skill: str, found: str, wanted: str) -> Verdict:
        """Return the verdict and its sentence.

        Args:
            skill: what is learned, as in "to restore".
            found: what the figures say of it.
            wanted: from where on it counts as learned.
        """
        if learned:
            return Verdict("learned", f"Learned {skill}: {self.basis} {found}.")
        return Verdict(
            "not yet",
            f"Not yet: {self.basis} {found}, and learned means {wanted}; train longer or raise train.lr.",
        )
