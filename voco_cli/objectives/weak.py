"""Weak supervision: which classes are somewhere in a scan, from labels of whole scans, of which some are known.

M scans, S crops of each, N = M * S, K classes, P places of a crop's deepest feature map, pairs of a scan and a class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.schema import Augment
from voco_cli.data.mixing import single_draws
from voco_cli.errors import DataError
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.crop_objective import CropObjective
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation, draw_starts
from voco_cli.objectives.label_crops import stand_in
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, Sampler, Validation, Verdict


class ScanCrops(NamedTuple):
    """Random crops of one scan, as stored, with what is known of the whole of it."""

    crops_SXYZ: NDArray[np.generic]
    there_K: NDArray[np.bool_]
    known_K: NDArray[np.bool_]
    draws: AugmentDraws


class ScanBatch(NamedTuple):
    """Crops of a step, scan by scan, with a row of labels for each scan."""

    crops_NXYZ: Tensor
    there_MK: Tensor
    known_MK: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor


@dataclass(frozen=True)
class ScanLabelSampler(Sampler):
    """Crops anywhere in scans with labels; where a case of the step has none, one that has takes its place.

    Attributes:
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
        augment: flips, quarter turns, shifts.
        cases: those with labels, for the places of those without.
        shares: cumulative probabilities of these; empty where all are as likely.
    """

    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int
    augment: Augment
    cases: tuple[Case, ...] = ()
    shares: tuple[float, ...] = ()

    def draw(self, case: Case, step: int) -> ScanCrops:
        """Return crops of the case, or of one in its place; no more is read than they hold."""
        labelled = case
        if not is_labelled(case):
            labelled = stand_in(self.cases, self.shares, counter_generator(self.seed, step, case.name, "scan labels"))
        generator = counter_generator(self.seed, step, case.name, "weak")
        starts = draw_starts(generator, labelled.volume.shape_xyz, self.size_vox, self.per_volume)
        crops = [labelled.volume.read((x, y, z), self.size_vox) for x, y, z in starts.tolist()]
        said = labelled.scan_labels
        return ScanCrops(
            np.stack(crops),
            np.array([bool(one) for one in said]),
            np.array([one is not None for one in said]),
            draw_augmentation(self.seed, step, f"weak of {case.name}", self.per_volume, self.augment),
        )

    def collate(self, samples: Sequence[ScanCrops]) -> ScanBatch:
        """Put the crops of all cases together."""
        parts = (
            np.concatenate([one.crops_SXYZ for one in samples]),
            np.stack([one.there_K for one in samples]),
            np.stack([one.known_K for one in samples]),
            np.concatenate([one.draws.flips_N3 for one in samples]),
            np.concatenate([one.draws.turns_N for one in samples]),
            np.concatenate([one.draws.shifts_N for one in samples]),
        )
        return ScanBatch(*map(torch.from_numpy, parts))


def is_labelled(case: Case) -> bool:
    """Return whether something is known of the whole scan."""
    return any(one is not None for one in case.scan_labels)


class DeepestHead(nn.Module):
    """A linear layer at every place of the deepest feature map.

    Args:
        width: channels of that map.
        num_classes: K.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Conv3d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits_NKXYZ of the last of maps_NWXYZ."""
        logits: Tensor = self.linear(maps[-1])
        return logits


def pool_scans(logits_NKXYZ: Tensor, num_scans: int, pooling: str) -> Tensor:
    """Return logits_MK of scans: the mean or the largest over all places of all crops of each."""
    num_crops, num_classes = logits_NKXYZ.shape[:2]
    logits_MSKP = logits_NKXYZ.float().reshape(num_scans, num_crops // num_scans, num_classes, -1)
    return logits_MSKP.mean((1, 3)) if pooling == "mean" else logits_MSKP.amax((1, 3))


def known_cross_entropy(logits_MK: Tensor, there_MK: Tensor, known_MK: Tensor) -> Tensor:
    """Return the binary cross entropy, a mean over the scans that a class is known of, then over such classes.

    Args:
        there_MK: 0 or 1.
        known_MK: on the CPU, so that nothing waits for the device; logits of other pairs are never read.
    """
    scans, classes = known_MK.nonzero(as_tuple=True)
    if not len(scans):  # every process has a gradient
        return logits_MK.sum() * 0
    each_K = known_MK.sum(0).clamp(min=1)
    shares = (1 / (each_K * known_MK.any(0).sum()))[classes].to(logits_MK.device, non_blocking=True)
    scans, classes = (one.to(logits_MK.device, non_blocking=True) for one in (scans, classes))
    told, true = logits_MK[scans, classes], there_MK[scans, classes].to(logits_MK.dtype)
    each: Tensor = shares * F.binary_cross_entropy_with_logits(told, true, reduction="none")
    return each.sum()


def area_under_curve(scores_M: NDArray[np.float64], there_M: NDArray[np.bool_]) -> float | None:
    """Return the share of pairs, a scan with the class and one without, whose first has the higher score; ties half.

    Returns:
        none where all scans have the class, or none has.
    """
    if there_M.all() or not there_M.any():
        return None
    above = scores_M[there_M][:, None] - scores_M[~there_M][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def build(settings: Settings, encoder: nn.Module) -> Weak:
    """Return weak supervision over an encoder."""
    return Weak(settings, encoder)


class Weak(CropObjective):
    """Tell which classes are in a scan from crops of it, by one linear layer on the deepest features.

    Args:
        settings: seed, crops, augmentation, ``objective.weak``, health.
        encoder: of `voco_cli.models.build.build_encoder`.
    """

    title = "weak supervision"
    score_name = "error"
    held_out: list[tuple[Case, ScanBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.weak = settings.objective.weak
        widths = encoder.map_widths
        assert isinstance(widths, tuple)
        self.head = DeepestHead(widths[-1], max(1, len(self.weak.classes)))
        self.labelled: tuple[Case, ...] = ()

    def train_on(self, cases: Sequence[Case]) -> None:
        """Take note of the cases with labels, which stand in for those without.

        Raises:
            DataError: there is none.
        """
        self.labelled = tuple(case for case in cases if is_labelled(case))
        if not self.labelled:
            raise DataError(
                "None of the training scans with scan labels can be used.",
                "look at them with `voco index --check full`",
            )

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> ScanLabelSampler:
        """Return what draws crops of labelled scans."""
        shares = single_draws([case.set_name for case in self.labelled], self.settings.data.mix)
        return ScanLabelSampler(seed, self.settings.crops.size, per_volume, augment, self.labelled, shares)

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Area under the curve of each class, its mean, and the cross entropy."""
        infos = {
            "auc": FigureInfo("mean AUC of the classes", "higher", 0.5, "AUC"),
            "error": FigureInfo("1 minus that AUC", "lower", 0.5),
            "cross_entropy": FigureInfo("cross entropy", "lower"),
        }
        return infos | {f"auc/{name}": FigureInfo(f"AUC of {name}", "higher", 0.5) for name in self.weak.classes}

    def prepare(self, batch: ScanBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return crops_N1XYZ as the network gets them, there_MK, and known_MK on the CPU."""
        crops, size = batch.crops_NXYZ.to(device, non_blocking=True), self.settings.crops.network_size_vox
        crops_N1XYZ = network_input(crops, batch.flips_N3, batch.turns_N, batch.shifts_N, size)
        return crops_N1XYZ, batch.there_MK.to(device, non_blocking=True), batch.known_MK

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the cross entropy of the pairs that are known."""
        crops_N1XYZ, there_MK, known_MK = inputs
        return {"loss": known_cross_entropy(self.logits(crops_N1XYZ, len(known_MK)), there_MK, known_MK)}

    def logits(self, crops_N1XYZ: Tensor, num_scans: int) -> Tensor:
        """Return logits_MK of scans, each with as many crops as another."""
        return pool_scans(self.decode(self.head, crops_N1XYZ), num_scans, self.weak.pooling)

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Keep labelled cases, at most ``health.cases``: always one whose labels the others have the least."""
        waiting = [case for case in cases if is_labelled(case)]
        taken: Counter[tuple[int, bool | None]] = Counter()
        chosen = []
        for _ in range(min(self.settings.health.cases, len(waiting))):
            best = max(waiting, key=lambda case: sum(1 / (1 + taken[pair]) for pair in _known(case)))
            waiting.remove(best)
            taken.update(_known(best))
            chosen.append(best)
        super().hold_out(chosen)

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return the area under the curve by class, and the cross entropy, over the held-out scans."""
        rows = []
        for _, batch in self.held_out:
            crops_N1XYZ, _, _ = self.prepare(batch, device)
            with autocast():
                rows.append(self.logits(crops_N1XYZ, 1).float().cpu())
        logits_MK = torch.cat(rows)
        there_MK = torch.cat([batch.there_MK for _, batch in self.held_out])
        known_MK = torch.cat([batch.known_MK for _, batch in self.held_out])
        figures = {"cross_entropy": float(known_cross_entropy(logits_MK, there_MK, known_MK))}
        scores, there, known = (one.numpy() for one in (logits_MK.double(), there_MK, known_MK))
        areas = {
            f"auc/{name}": area
            for k, name in enumerate(self.weak.classes)
            if (area := area_under_curve(scores[known[:, k], k], there[known[:, k], k])) is not None
        }
        if areas:
            mean = sum(areas.values()) / len(areas)
            figures |= {"auc": mean, "error": 1 - mean, **areas}
        return Validation(figures, None)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether scans with a class are told from those without it."""
        least = self.weak.min_auc
        if "auc" not in now:
            held = "No class has a held-out scan with it and one without it, so nobody knows how well they are told."
            return Verdict("not yet", held)
        before = f"{start['auc']:.2f}" if "auc" in start else "none"
        found = f"scans with a class are told from those without by a mean AUC of {now['auc']:.2f} (step 0: {before}, "
        return self.judge(now["auc"] >= least, "what scans hold", f"{found}guessing: 0.50)", f"at least {least:.2f}")


def _known(case: Case) -> list[tuple[int, bool | None]]:
    return [pair for pair in enumerate(case.scan_labels) if pair[1] is not None]
