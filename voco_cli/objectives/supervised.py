"""Supervised pre-training on label maps that are complete for some classes only: a sigmoid for each class.

N crops, K classes, D outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.config.schema import Augment
from voco_cli.data.case_labels import IGNORED
from voco_cli.data.mixing import single_draws
from voco_cli.errors import DataError
from voco_cli.models.build import build_decoder
from voco_cli.models.class_union import exclusive_logits
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.label_crops import LabelSampler, PartlyLabelledBatch
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Validation, Verdict
from voco_cli.objectives.partial_labels import PartialLoss, deep_loss, partial_loss, targets_of
from voco_cli.objectives.softmax_labels import softmax_loss


class MeasureScan(Protocol):
    """Measures what a network tells of a whole held-out scan."""

    def __call__(self, case: Case, network: Callable[[Tensor], Tensor], device: torch.device) -> Sequence[float]:
        """Return the Dice of each class in the scan's own space; NaN where nothing is known of it.

        Args:
            network: from windows_N1XYZ to the logits of background and of each class alone, float32.
            device: where it computes.
        """


def build(settings: Settings, encoder: nn.Module) -> Supervised:
    """Return supervised pre-training over an encoder."""
    return Supervised(settings, encoder)


class Supervised(CropObjective):
    """Tell every voxel's classes, from label maps each of which knows some of them.

    Args:
        settings: seed, crops, augmentation, model, ``objective.supervised``, health.
        encoder: of `voco_cli.models.build.build_encoder`.
    Attributes:
        measure_scan: what held-out scans are measured by; none measures nothing.
    """

    title = "supervised"
    shown_terms = ("dice", "cross_entropy")
    score_name = "error"
    counted = "crops"
    held_out: list[tuple[Case, PartlyLabelledBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.supervised = settings.objective.supervised
        self.segmenter = build_decoder(
            settings.model,
            encoder,
            max(1, len(self.supervised.classes)),
            "segmentation",
            deep_supervision=self.supervised.deep_supervision,
        )
        self.labelled: tuple[Case, ...] = ()
        self.measure_scan: MeasureScan | None = None

    @property
    def decoder(self) -> nn.Module:
        """The segmenter's, which users take away, and which predicts."""
        return self.segmenter

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.supervised.classes

    def train_on(self, cases: Sequence[Case]) -> None:
        """Take note of the cases with labels, which stand in for those without.

        Raises:
            DataError: there is none.
        """
        self.labelled = tuple(case for case in cases if case.labels is not None)
        if not self.labelled:
            raise DataError(
                "None of the labelled training scans can be used.",
                "look at them with `voco index --check full`",
            )

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> LabelSampler:
        """Return what draws crops of labelled cases."""
        size, share = self.settings.crops.size, self.supervised.foreground_share
        shares = single_draws([case.set_name for case in self.labelled], self.settings.data.mix)
        return LabelSampler(seed, size, per_volume, max(1, len(self.classes)), share, augment, self.labelled, shares)

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Dice on whole held-out scans, of each class where several are."""
        infos = {
            "dice": FigureInfo("mean Dice of the classes", "higher", None, "Dice"),
            "error": FigureInfo("1 minus that Dice", "lower"),
        }
        return infos | {f"dice/{name}": FigureInfo(f"Dice of {name}", "higher") for name in self.classes}

    def prepare(self, batch: PartlyLabelledBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return crops_N1XYZ as the network gets them, targets_NKXYZ, known_NK on the CPU, and counted_N1XYZ."""
        crops = batch.crops_NXYZ.to(device, non_blocking=True)
        size = self.settings.crops.network_size_vox
        crops_N1XYZ = network_input(crops, batch.flips_N3, batch.turns_N, batch.shifts_N, size)
        rows_NXYZ = batch.moved_rows(device)
        targets = targets_of(rows_NXYZ, batch.members_NRK.to(device, non_blocking=True))
        return crops_N1XYZ, targets, batch.complete_NK, (rows_NXYZ != IGNORED)[:, None]

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return 1 - Dice plus cross entropy, and both apart."""
        crops_N1XYZ, targets, known, counted = inputs
        found = self.label_loss(self.decode(self.segmenter, crops_N1XYZ), targets, known, counted)
        return {"loss": found.loss, "dice": found.dice, "cross_entropy": found.cross_entropy}

    def label_loss(self, outputs: Tensor, targets: Tensor, known: Tensor, counted: Tensor) -> PartialLoss:
        """Return the loss of the settings, as `deep_loss` has it."""
        softmax = self.supervised.loss == "softmax"
        return deep_loss(
            outputs, targets, known, counted, partial(softmax_loss, inside=self.inside) if softmax else partial_loss
        )

    @property
    def inside(self) -> list[tuple[int, tuple[int, ...]]]:
        """Each class that contains others, with these, by their places among the classes."""
        return self.supervised.inside

    def exclusive(self, windows_N1XYZ: Tensor) -> Tensor:
        """Return the logits of background and of each class without those inside it."""
        return exclusive_logits(self.decode(self.segmenter, windows_N1XYZ), self.inside)

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Keep the first labelled cases, at most ``health.cases``: those first that bring a class."""
        labelled = [case for case in cases if case.labels is not None]
        seen: set[int] = set()
        first = []
        for case in labelled:
            assert case.labels is not None
            if set(case.labels.complete) - seen:
                first.append(case)
                seen |= set(case.labels.complete)
        super().hold_out([*first, *(case for case in labelled if case not in first)])

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return the Dice on whole scans in their own space, and how a crop of each of the first looks."""
        if self.measure_scan is None:
            return Validation({}, None)

        def network(windows_N1XYZ: Tensor) -> Tensor:
            with autocast():
                logits = self.exclusive(windows_N1XYZ)
            return logits.float()

        rows = [self.measure_scan(case, network, device) for case, _ in self.held_out]
        figures = class_figures(np.asarray(rows, np.float64), self.classes)
        return Validation(figures, self._picture(device, network))

    def _picture(self, device: torch.device, network: Callable[[Tensor], Tensor]) -> ImageGrid:
        rows, captions = [], []
        for case, batch in self.held_out[:MOST_SHOWN]:
            crops_N1XYZ, targets, _, _ = self.prepare(batch, device)
            labelled = exclusive_logits(targets[:1].float() * 2 - 1, self.inside).argmax(1)
            told = network(crops_N1XYZ[:1]).argmax(1)
            middle = crops_N1XYZ.shape[4] // 2
            grey_XY = crops_N1XYZ[0, 0, :, :, middle].float().clamp(0, 1)
            shown = (grey_XY, labelled[0, :, :, middle], told[0, :, :, middle])
            rows.append([one.cpu().numpy() for one in shown])
            captions.append(case.name)
        return ImageGrid(("crop", "as labelled", "as told"), rows, captions, self.classes)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether classes are told well enough."""
        least = self.supervised.min_dice
        if "dice" not in now:
            return Verdict("not yet", "No labelled scan is held out, so nobody knows how well classes are told.")
        before = f"{start['dice']:.2f}" if "dice" in start else "none"
        found = f"classes are told with a mean Dice of {now['dice']:.2f} (step 0: {before})"
        return self.judge(now["dice"] >= least, "to tell the classes", found, f"at least {least:.2f}")


def class_figures(dice_NK: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    """Return the mean Dice of each class over the scans that know it, their mean, and the error, one minus it."""
    by_class = {}
    for name, column in zip(names, dice_NK.T, strict=True):
        known = column[~np.isnan(column)]
        if known.size:
            by_class[name] = float(known.mean())
    if not by_class:
        return {}
    mean = math.fsum(by_class.values()) / len(by_class)
    return {"dice": mean, "error": 1 - mean, **{f"dice/{name}": value for name, value in by_class.items()}}
