"""Volume fusion: two crops are mixed box by box, and the share of the first is told voxel by voxel.

N crops, X Y Z voxels of each, K + 1 levels of the share.

Source: Wang et al., "MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a Large-Scale
Unannotated Dataset", arXiv 2306.16925.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.objective_schema import FusionOptions
from voco_cli.config.schema import Augment
from voco_cli.models.build import build_decoder
from voco_cli.objectives.augment import resize, to_unit
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Validation, Verdict
from voco_cli.objectives.seeded_crops import SeededBatch, SeededCropSampler, as_slices, draw_boxes

EPS = 1e-5
"""Keeps the Dice of a level that is nowhere, in truth and answer, defined."""


def build(settings: Settings, encoder: nn.Module) -> VolumeFusion:
    """Return volume fusion over an encoder."""
    return VolumeFusion(settings, encoder)


def draw_levels(shape_xyz: Sequence[int], seed: int, options: FusionOptions, device: torch.device) -> Tensor:
    """Return levels_XYZ, 0 to K, uint8: 0 but in random boxes, each of a random level; later boxes are seen."""
    draws = np.random.Generator(np.random.Philox(seed))
    count = int(draws.integers(*options.boxes, endpoint=True))
    edges = np.asarray(shape_xyz)
    least, most = (np.maximum(1, (edges * share).astype(np.int64)) for share in options.box_size)
    boxes = draw_boxes(draws, shape_xyz, least, most, count)
    levels = torch.zeros(tuple(shape_xyz), dtype=torch.uint8, device=device)
    for box, level in zip(as_slices(boxes), draws.integers(0, options.levels, count, endpoint=True), strict=True):
        levels[box] = int(level)
    return levels


def partner_rows(rows: int, per_volume: int) -> Tensor:
    """Return the row of each crop's background: the same crop of the next volume, or the next crop of a single one."""
    return (torch.arange(rows) + (per_volume if rows > per_volume else 1)) % rows


def fuse(foreground_NXYZ: Tensor, background_NXYZ: Tensor, levels_NXYZ: Tensor, most: int) -> Tensor:
    """Return ``a F + (1 - a) B`` with ``a`` the level as a share of the highest."""
    return torch.lerp(background_NXYZ, foreground_NXYZ, levels_NXYZ.float() / most)


def soft_dice(logits_NKXYZ: Tensor, levels_NXYZ: Tensor) -> Tensor:
    """Return the mean over levels of ``2 sum p y / (sum p + sum y)``, sums over all voxels of all crops."""
    shares = logits_NKXYZ.softmax(1).transpose(0, 1).flatten(1)
    truth = F.one_hot(levels_NXYZ.flatten(), len(shares)).to(shares.dtype).T
    return ((2 * (shares * truth).sum(1) + EPS) / (shares.sum(1) + truth.sum(1) + EPS)).mean()


class VolumeFusion(CropObjective):
    """Segment the level of the mixture, by a decoder over the encoder.

    Args:
        settings: seed, crops (``size``, ``input_size``, ``random_per_volume``), ``objective.fusion``, health.
        encoder: of `voco_cli.models.build.build_encoder`.
    """

    title = "volume fusion"
    shown_terms = ("dice", "cross_entropy")
    score_name = "error"
    held_out: list[tuple[Case, SeededBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        options = settings.objective.fusion
        self.segmenter = build_decoder(settings.model, encoder, options.levels + 1, options.decoder)
        self.constant_dice = 0.0  # of no crops

    @property
    def decoder(self) -> nn.Module | None:
        """The segmenter's decoder, where it is that."""
        return self.segmenter if self.settings.objective.fusion.decoder == "segmentation" else None

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> SeededCropSampler:
        """Return what draws crops to mix, which is all that is done to them."""
        return SeededCropSampler("fusion", seed, self.settings.crops.size, per_volume)

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Dice of the levels, and what the best constant answer has."""
        return {
            "dice": FigureInfo("mean Dice of the levels of the mixture", "higher", self.constant_dice, "Dice"),
            "error": FigureInfo("1 minus that Dice", "lower", 1 - self.constant_dice),
            "cross_entropy": FigureInfo("cross entropy", "lower"),
        }

    def prepare(self, batch: SeededBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return fused_N1XYZ, as the network gets them, and levels_NXYZ."""
        crops = self._resized(batch.crops_NXYZ, device)
        partners = partner_rows(len(crops), batch.per_volume).to(device, non_blocking=True)
        levels = self._levels(batch.seeds_N, device)
        return fuse(crops, crops[partners], levels, self.settings.objective.fusion.levels)[:, None], levels.long()

    def _resized(self, crops_NXYZ: Tensor, device: torch.device) -> Tensor:
        crops = to_unit(crops_NXYZ.to(device, non_blocking=True))[:, None]
        return resize(crops, self.settings.crops.network_size_vox)[:, 0]

    def _levels(self, seeds_N: Tensor, device: torch.device) -> Tensor:
        size, options = self.settings.crops.network_size_vox, self.settings.objective.fusion
        return torch.stack([draw_levels(size, seed, options, device) for seed in seeds_N.tolist()])

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the cross entropy plus 1 - Dice, and both apart."""
        fused_N1XYZ, levels_NXYZ = inputs
        logits_NKXYZ = self.logits(fused_N1XYZ).float()
        dice, entropy = soft_dice(logits_NKXYZ, levels_NXYZ), F.cross_entropy(logits_NKXYZ, levels_NXYZ)
        return {"loss": entropy + 1 - dice, "dice": dice.detach(), "cross_entropy": entropy.detach()}

    def logits(self, fused_N1XYZ: Tensor) -> Tensor:
        """Return logits_NKXYZ of the levels."""
        return self.decode(self.segmenter, fused_N1XYZ)

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Read fixed crops of the first ``health.cases`` of them, each to be mixed with one of the next."""
        super().hold_out(cases)
        if self.held_out:
            self.constant_dice = self._best_constant_dice(torch.cat([batch.seeds_N for _, batch in self.held_out]))

    def _best_constant_dice(self, seeds_N: Tensor) -> float:
        """Return the mean Dice of the level that is best answered everywhere: that of all others is 0."""
        levels, count = self._levels(seeds_N, torch.device("cpu")), self.settings.objective.fusion.levels + 1
        share = float(levels.flatten().bincount(minlength=count).max()) / levels.numel()
        return 2 * share / (1 + share) / count

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return Dice and cross entropy on the held-out crops, the counts of all of them together."""
        hits, entropies, shown = torch.zeros(3, self.settings.objective.fusion.levels + 1), [], []
        each = self.settings.health.crops_per_case
        crops = torch.cat([batch.crops_NXYZ for _, batch in self.held_out])
        partners = crops[partner_rows(len(crops), each)].split(each)
        for (_, batch), background_NXYZ in zip(self.held_out, partners, strict=True):
            foreground, background = self._resized(batch.crops_NXYZ, device), self._resized(background_NXYZ, device)
            levels = self._levels(batch.seeds_N, device)
            fused = fuse(foreground, background, levels, self.settings.objective.fusion.levels)
            with autocast():
                logits = self.logits(fused[:, None]).float()
            truth, told = levels.long(), logits.argmax(1)
            entropies.append(float(F.cross_entropy(logits, truth)))
            for row, counted in zip(hits, (told[told == truth], told, truth), strict=True):
                row += counted.flatten().bincount(minlength=len(row)).cpu()
            shown.append(
                [one[0, :, :, one.shape[3] // 2].cpu() for one in (foreground, background, fused, levels, told)]
            )
        both, answered, true = hits
        there = answered + true > 0
        dice = float((2 * both[there] / (answered + true)[there]).mean())
        figures = {"dice": dice, "error": 1 - dice, "cross_entropy": sum(entropies) / len(entropies)}
        return Validation(figures, self._picture(shown[:MOST_SHOWN]))

    def _picture(self, shown: Sequence[Sequence[Tensor]]) -> ImageGrid:
        """Return a crop of each of the first cases: foreground, background, both mixed, the level, as it is told."""
        rows, captions, most = [], [], self.settings.objective.fusion.levels
        for (case, _), (*crops, levels, told) in zip(self.held_out, shown, strict=False):
            rows.append([one.float().numpy() for one in (*crops, levels / most, told / most)])
            right = float((levels == told).float().mean())
            captions.append(f"{right:.0%} of voxels told: {case.name}")
        return ImageGrid(("foreground", "background", "fused", "share of the foreground", "as told"), rows, captions)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether levels are told well enough."""
        least = self.settings.objective.fusion.min_dice
        found = (
            f"the levels of the mixture are told with a mean Dice of {now['dice']:.2f} (step 0: {start['dice']:.2f}, "
            f"the best constant answer: {self.constant_dice:.2f})"
        )
        return self.judge(now["dice"] >= least, "to tell what is fused", found, f"at least {least:.2f}")
