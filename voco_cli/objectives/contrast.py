"""Contrast: which two views show the same place?

P pairs of views of a volume, R = 2 P rows of all volumes of a step; rows 2 i and 2 i + 1 are partners. C channels of
the embedding.

Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (SimCLR), for
images; views of a volume are two crops that overlap. Telling views of the very same scan apart is of CT-FM (Pai et al.,
"Vision Foundation Models for Computed Tomography", arXiv 2501.09001).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.objective_schema import ContrastOptions
from voco_cli.config.schema import Augment
from voco_cli.objectives.augment import add_noise, change_gamma, lower_resolution, network_input
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.draws import counter_generator, draw_augmentation, draw_starts
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Sampler, Validation, Verdict
from voco_cli.objectives.voco.losses import cosine
from voco_cli.objectives.voco.model import Projector


class ViewDraws(NamedTuple):
    """What happens to each view: flips, quarter turns and a shift, gamma, blur and low resolution, noise."""

    flips_R3: Tensor
    turns_R: Tensor
    shifts_R: Tensor
    gammas_R: Tensor
    blur_sd_vox_R: Tensor
    zooms_R: Tensor
    noise_sd_R: Tensor
    seeds_R: Tensor


class Views(NamedTuple):
    """Pairs of views of one case, as stored, partner after partner, and what happens to them."""

    crops_RXYZ: NDArray[np.generic]
    draws: ViewDraws


class ViewBatch(NamedTuple):
    """Views of a step, volume by volume, and the number of the volume that each is of."""

    crops_RXYZ: Tensor
    draws: ViewDraws
    scans_R: Tensor


@dataclass(frozen=True)
class ViewSampler(Sampler):
    """Pairs of crops that overlap, anywhere in a volume, each changed in a way of its own.

    Attributes:
        settings: crops, augmentation, ``objective.contrast``.
        seed: of every draw.
        pairs: of a case.
    """

    settings: Settings
    seed: int
    pairs: int

    def draw(self, case: Case, step: int) -> Views:
        """Return the views of a case; no more is read than they hold."""
        settings, size = self.settings, self.settings.crops.size
        generator = counter_generator(self.seed, step, case.name, "contrast")
        starts = draw_pairs(generator, case.volume.shape_xyz, size, self.pairs, settings.objective.contrast.min_overlap)
        crops = [case.volume.read((x, y, z), size) for x, y, z in starts.reshape(-1, 3).tolist()]
        oriented = draw_augmentation(self.seed, step, case.name, len(crops), settings.augment)
        changes = draw_changes(generator, len(crops), settings.objective.contrast)
        return Views(
            np.stack(crops),
            ViewDraws(*map(torch.from_numpy, (oriented.flips_N3, oriented.turns_N, oriented.shifts_N, *changes))),
        )

    def collate(self, samples: Sequence[Views]) -> ViewBatch:
        """Put the views of all cases together."""
        draws = ViewDraws(*map(torch.cat, zip(*(one.draws for one in samples), strict=True)))
        crops = torch.from_numpy(np.concatenate([one.crops_RXYZ for one in samples]))
        return ViewBatch(crops, draws, torch.arange(len(samples)).repeat_interleave(2 * self.pairs))


def draw_pairs(
    generator: np.random.Generator, shape_xyz: Sequence[int], size_vox: Sequence[int], count: int, min_overlap: float
) -> NDArray[np.int64]:
    """Draw starts_P23, the lower corners of both views of each pair, voxels.

    The first view lies anywhere, the second wherever it overlaps the first by ``min_overlap`` of the edge or more,
    along each axis.
    """
    room = np.subtract(shape_xyz, size_vox)
    apart = np.floor((1 - min_overlap) * np.asarray(size_vox)).astype(np.int64)
    first = draw_starts(generator, shape_xyz, size_vox, count)
    second = generator.integers((first - apart).clip(min=0), np.minimum(first + apart, room), endpoint=True)
    return np.stack([first, second], axis=1)


def draw_changes(generator: np.random.Generator, count: int, options: ContrastOptions) -> tuple[NDArray[Any], ...]:
    """Draw gammas, blurs, zooms, noise and its seeds of so many views, in the order of `ViewDraws`."""

    def drawn(prob: float, low: float, high: float, otherwise: float) -> NDArray[np.float32]:
        values = np.where(generator.random(count) < prob, generator.uniform(low, high, count), otherwise)
        return values.astype(np.float32)

    power = math.log(options.gamma_max)  # as often below 1 as above
    return (
        np.exp(drawn(options.gamma_prob, -power, power, 0.0)),
        drawn(options.blur_prob, 0.0, options.blur_max_vox, 0.0),
        drawn(options.low_res_prob, options.low_res_min, 1.0, 1.0),
        drawn(options.noise_prob, 0.0, options.noise_sd, 0.0),
        generator.integers(0, 2**62, count),
    )


def contrast_logits(
    rows_RC: Tensor, scans_R: Tensor, negatives: Literal["across", "within", "both"], temperature: float
) -> Tensor:
    """Return cosines divided by the temperature, and -inf where two views are not compared.

    Args:
        rows_RC: embeddings, partner after partner.
        scans_R: the volume of each view.
        negatives: a view is compared with its partner and with all views of other volumes, of its own, or both.
    Returns:
        logits_RR, float32.
    """
    same_RR = scans_R[:, None] == scans_R
    compared_RR = {"across": ~same_RR, "within": same_RR, "both": torch.ones_like(same_RR)}[negatives]
    rows = torch.arange(len(rows_RC), device=rows_RC.device)
    itself_RR, partner_RR = rows[:, None] == rows, (rows ^ 1)[:, None] == rows
    return (cosine(rows_RC, rows_RC) / temperature).masked_fill(~(compared_RR | partner_RR) | itself_RR, -math.inf)


def nt_xent(logits_RR: Tensor) -> Tensor:
    """Return the mean of ``-ln(exp(l_partner) / sum exp(l))`` over all views (SimCLR, Eq. 1)."""
    return F.cross_entropy(logits_RR, partners(logits_RR))


def partners(rows: Tensor) -> Tensor:
    """Return the row of the partner of each row."""
    return torch.arange(len(rows), device=rows.device) ^ 1


def build(settings: Settings, encoder: nn.Module) -> ViewContrast:
    """Return contrast over an encoder."""
    return ViewContrast(settings, encoder)


class ViewContrast(CropObjective):
    """Find the partner of a view by the cosine of their embeddings.

    Views of other processes are no negatives; the projector's batch norm takes its statistics from all processes.

    Args:
        settings: seed, crops (``size``, ``input_size``, ``random_per_volume`` pairs), augment, the projector of
            ``model``, ``objective.contrast``, health.
        encoder: has an attribute ``out_features``.
    """

    title = "contrast of views"
    shown_terms = ("accuracy",)
    score_name = "error"
    counted = "pairs"
    held_out: list[tuple[Case, ViewBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        width = encoder.out_features
        assert isinstance(width, int)
        self.projector = Projector(width, settings.model.projector_hidden, settings.model.projector_out)

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> ViewSampler:
        """Return what draws pairs of views; held-out ones are changed as others are, as the task is to see past it."""
        return ViewSampler(self.settings, seed, per_volume)

    @property
    def crops_per_volume(self) -> int:
        """Both views of each pair."""
        return 2 * self.settings.crops.random_per_volume

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Accuracy, error and cross entropy of finding the partner, and how much alike all others are."""
        count = self.choices
        return {
            "accuracy": FigureInfo("partner found", "higher", 1 / count, "accuracy"),
            "error": FigureInfo("partner not found", "lower", 1 - 1 / count),
            "cross_entropy": FigureInfo("cross entropy", "lower", math.log(count)),
            "negative_cosine": FigureInfo("mean cosine of views of different places", "lower, near 1 is collapse"),
        }

    @property
    def choices(self) -> int:
        """Views that a held-out view is compared with, its partner among them; 1 before any are held out."""
        scans, views = max(len(self.held_out), 1), 2 * self.settings.health.crops_per_case
        across, within = (scans - 1) * views, views - 2
        return (
            1
            + {"across": across, "within": within, "both": across + within}[self.settings.objective.contrast.negatives]
        )

    def prepare(self, batch: ViewBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return views_R1XYZ as the network gets them, and the volume of each."""
        draws = batch.draws
        views = network_input(
            batch.crops_RXYZ.to(device, non_blocking=True),
            draws.flips_R3,
            draws.turns_R,
            draws.shifts_R,
            self.settings.crops.network_size_vox,
        )
        # As in a scanner: contrast is the tissue's, then comes the resolution, then the noise.
        views = lower_resolution(change_gamma(views, draws.gammas_R), draws.blur_sd_vox_R, draws.zooms_R)
        return add_noise(views, draws.noise_sd_R, draws.seeds_R), batch.scans_R.to(device, non_blocking=True)

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the cross entropy of finding each partner, and the share of views whose partner was found."""
        views_R1XYZ, scans_R = inputs
        logits_RR = self.logits(self.projector(self.encode(views_R1XYZ)), scans_R)
        right = (logits_RR.detach().argmax(-1) == partners(logits_RR)).float().mean()
        return {"loss": nt_xent(logits_RR), "accuracy": right}

    def logits(self, rows_RC: Tensor, scans_R: Tensor) -> Tensor:
        """Return logits_RR of embeddings under the settings."""
        options = self.settings.objective.contrast
        return contrast_logits(rows_RC, scans_R, options.negatives, options.temperature)

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return how often the partner is found among the held-out views; all go through the batch norm together."""
        features, shown = [], []
        for _, batch in self.held_out:
            views_R1XYZ, _ = self.prepare(batch, device)
            with autocast():
                features.append(self.encode(views_R1XYZ))
            shown.append(views_R1XYZ[:2, 0, :, :, views_R1XYZ.shape[4] // 2].clamp(0, 1).cpu())
        with autocast():
            rows_RC = self.projector(torch.cat(features)).float().cpu()
        scans_R = torch.arange(len(features)).repeat_interleave(len(features[0]))
        logits_RR = self.logits(rows_RC, scans_R)
        partner_R = partners(logits_RR)
        accuracy = float((logits_RR.argmax(-1) == partner_R).float().mean())
        temperature = self.settings.objective.contrast.temperature
        compared_RR = logits_RR.isfinite() & (torch.arange(len(logits_RR)) != partner_R[:, None])
        figures = {
            "accuracy": accuracy,
            "error": 1 - accuracy,
            "cross_entropy": float(nt_xent(logits_RR)),
            "negative_cosine": float(logits_RR[compared_RR].mean() * temperature) if compared_RR.any() else 0.0,
        }
        return Validation(figures, self._picture(shown, rows_RC, logits_RR))

    def _picture(self, shown: Sequence[Tensor], rows_RC: Tensor, logits_RR: Tensor) -> ImageGrid:
        """Return a pair of each of the first cases, and how similar the first view is to the second of every pair."""
        rows, captions, each = [], [], 2 * self.settings.health.crops_per_case
        for number, ((case, _), views_2XY) in enumerate(zip(self.held_out[:MOST_SHOWN], shown, strict=False)):
            first = number * each
            similar_HP = cosine(rows_RC[first : first + 1], rows_RC[1::2]).view(len(self.held_out), -1)
            # Slices are drawn with x to the left and y upwards; this has a scan a row, the first on top.
            stages = (*views_2XY, ((similar_HP + 1) / 2).clamp(0, 1).T.flip(0, 1))
            rows.append([stage.numpy() for stage in stages])
            better = int((logits_RR[first] > logits_RR[first, first + 1]).sum())
            told = f"{better} more alike" if better else "partner found"
            captions.append(f"{told}, row {number + 1}: {case.name}")
        return ImageGrid(("view 1", "view 2", "similarity, a scan a row"), rows, captions)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether partners are found often enough."""
        least = self.settings.objective.contrast.min_accuracy
        found = (
            f"the partner of {now['accuracy']:.0%} of views is found among {self.choices} "
            f"(step 0: {start['accuracy']:.0%}, guessing: {1 / self.choices:.1%})"
        )
        if now["negative_cosine"] > self.settings.health.max_base_cosine:
            return Verdict(
                "collapsed",
                f"Collapsed: views of different places look alike (mean cosine {now['negative_cosine']:.2f}), and "
                f"{self.basis} {found}; try a lower train.lr.",
            )
        learned = now["accuracy"] >= least and self.choices > 1
        return self.judge(learned, "to tell views", found, f"at least {least:.0%}")
