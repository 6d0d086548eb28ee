"""Pseudo-labels: a teacher tells classes that a scan is not labelled for; the student learns what it is sure of.

N crops, K classes, X Y Z voxels of a crop.

Source: a mean teacher as in Tarvainen and Valpola, NeurIPS 2017 (arXiv 1703.01780), with a weak view for the teacher, a
strong one for the student and a threshold as in FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685). The released
semi-supervised code of VoCo's authors has one frozen copy of the student from half of the steps on, the same view for
both, no threshold and weight 1: the recipe voco-semi.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.config.objective_schema import ContrastOptions
from voco_cli.config.schema import Augment
from voco_cli.data.case_labels import CaseLabels
from voco_cli.foreign_text import named
from voco_cli.models.build import by_groups
from voco_cli.models.class_union import Inside, exclusive_logits
from voco_cli.objectives.augment import add_noise, change_gamma, lower_resolution, network_input
from voco_cli.objectives.contrast import draw_changes
from voco_cli.objectives.crop_objective import CropObjective
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation, draw_starts
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, Objective, Sampler, Validation, Verdict
from voco_cli.objectives.partial_labels import deep_loss
from voco_cli.objectives.supervised import Supervised, class_figures


class UnlabelledCrops(NamedTuple):
    """Random crops of one case, as stored, with the classes that it is not labelled for, and what is done to them."""

    crops_SXYZ: NDArray[np.generic]
    unknown_K: NDArray[np.bool_]
    draws: AugmentDraws
    changes: tuple[NDArray[Any], ...]


class UnlabelledBatch(NamedTuple):
    """Crops of a step, case by case; gammas, blurs, zooms, noise and its seeds are those of the strong view."""

    crops_NXYZ: Tensor
    unknown_NK: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor
    changes: tuple[Tensor, ...]


@dataclass(frozen=True)
class UnlabelledSampler(Sampler):
    """Crops anywhere in any volume, with or without labels.

    Attributes:
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
        num_classes: K.
        augment: flips, quarter turns and shifts of both views.
        strong: changes of the intensity of the student's view.
    """

    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int
    num_classes: int
    augment: Augment
    strong: ContrastOptions

    def draw(self, case: Case, step: int) -> UnlabelledCrops:
        """Return the crops of a case; no more is read than they hold."""
        generator = counter_generator(self.seed, step, case.name, "pseudo")
        starts = draw_starts(generator, case.volume.shape_xyz, self.size_vox, self.per_volume)
        crops = [case.volume.read((x, y, z), self.size_vox) for x, y, z in starts.tolist()]
        labels = case.labels or CaseLabels(complete=(), values=())
        unknown = ~labels.is_complete(self.num_classes)
        draws = draw_augmentation(self.seed, step, f"pseudo of {case.name}", self.per_volume, self.augment)
        return UnlabelledCrops(np.stack(crops), unknown, draws, draw_changes(generator, self.per_volume, self.strong))

    def collate(self, samples: Sequence[UnlabelledCrops]) -> UnlabelledBatch:
        """Put the crops of all cases together."""
        parts = (
            np.concatenate([one.crops_SXYZ for one in samples]),
            np.repeat(np.stack([one.unknown_K for one in samples]), self.per_volume, axis=0),
            np.concatenate([one.draws.flips_N3 for one in samples]),
            np.concatenate([one.draws.turns_N for one in samples]),
            np.concatenate([one.draws.shifts_N for one in samples]),
        )
        changes = tuple(
            torch.from_numpy(np.concatenate(column)) for column in zip(*(one.changes for one in samples), strict=True)
        )
        crops, unknown, flips, turns, shifts = map(torch.from_numpy, parts)
        return UnlabelledBatch(crops, unknown, flips, turns, shifts, changes)


def pseudo_labels(logits_NKXYZ: Tensor, thresholds_K: Tensor, rule: str, inside: Inside) -> tuple[Tensor, Tensor]:
    """Return what a teacher tells of each voxel and class, and whether it is sure enough of it.

    Args:
        thresholds_K: least probability of the answer, that it is there or that it is not; 0.5 keeps all.
        rule: ``sigmoid`` asks each class by itself; ``argmax`` gives a voxel to the likeliest class, and to those that
            this lies inside.
    Returns:
        targets_NKXYZ and kept_NKXYZ, bool.
    """
    shares_NKXYZ = logits_NKXYZ.sigmoid()
    kept = torch.maximum(shares_NKXYZ, 1 - shares_NKXYZ) >= thresholds_K.view(1, -1, 1, 1, 1)
    if rule == "sigmoid":
        return shares_NKXYZ >= 0.5, kept
    index_NXYZ = exclusive_logits(logits_NKXYZ, inside).argmax(1)
    own = [index_NXYZ == k + 1 for k in range(logits_NKXYZ.shape[1])]
    each = list(own)
    for whole, parts in inside:
        each[whole] = torch.stack([own[whole], *(own[part] for part in parts)]).any(0)
    return torch.stack(each, dim=1), kept


def ramp(step: int, start: float, length: float) -> float:
    """Return the share of its weight that a term has in a step: 0 before ``start``, then rising to 1 linearly."""
    if step < start:
        return 0.0
    return 1.0 if length <= 0 else min(1.0, (step - start + 1) / length)


def build(settings: Settings, encoder: nn.Module) -> Pseudo:
    """Return pseudo-labelling over an encoder; its decoder is that of the supervised objective."""
    return Pseudo(settings, encoder)


class Pseudo(CropObjective):
    """Learn from what a teacher tells of the classes that a crop is not labelled for.

    Args:
        settings: seed, crops, augmentation, model, ``objective.pseudo``, steps.
        encoder: of `voco_cli.models.build.build_encoder`.
    """

    title = "pseudo-labels"
    steps_done: Tensor
    used_K: Tensor
    shown_terms = ("kept",)
    score_name = "error"

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.pseudo = settings.objective.pseudo
        self.names = settings.objective.supervised.classes
        named_thresholds = {one.name: one.threshold for one in self.pseudo.thresholds}
        self.thresholds = [named_thresholds.get(name, self.pseudo.threshold) for name in self.names]
        self.teacher_encoder = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.teacher_segmenter: nn.Module = nn.Identity()
        self.register_buffer("steps_done", torch.zeros(1))
        self.register_buffer("used_K", torch.zeros(max(1, len(self.names))))
        self._on_host: tuple[int, Tensor] | None = None  # number of the step and used_K > 0, on the CPU
        self._supervised: tuple[Supervised, ...] = ()
        self.begin()

    def begin(self) -> None:
        """Count from the first step, with no class that the teacher is known to be good enough for."""
        self.steps_done.zero_()
        self.used_K.fill_(float(self.pseudo.min_dice == 0))
        self._on_host = None

    def join(self, parts: Mapping[str, Objective]) -> None:
        """Take the supervised objective's decoder for the student, and a copy for the teacher."""
        student = parts["supervised"]
        assert isinstance(student, Supervised)
        self._supervised = (student,)  # in a tuple, or its tensors would be here a second time
        self.teacher_segmenter = copy.deepcopy(student.segmenter).requires_grad_(False).eval()

    @property
    def student(self) -> Supervised:
        """The objective whose decoder learns."""
        return self._supervised[0]

    def encoders(self) -> list[nn.Module]:
        """Return the encoder and the teacher's."""
        return [self.encoder, self.teacher_encoder]

    def train(self, mode: bool = True) -> Pseudo:
        """Set the mode; the teacher is never trained, and gives its finest output alone."""
        super().train(mode)
        self.teacher_encoder.eval()
        self.teacher_segmenter.eval()
        return self

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> UnlabelledSampler:
        """Return what draws crops of all cases."""
        settings = self.settings
        return UnlabelledSampler(
            seed, settings.crops.size, per_volume, max(1, len(self.names)), augment, settings.objective.contrast
        )

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Dice of the teacher on whole held-out scans, and how many classes are used."""
        infos = {
            "dice": FigureInfo("mean Dice of the teacher", "higher", None, "teacher"),
            "error": FigureInfo("1 minus that Dice", "lower"),
            "used": FigureInfo("classes whose teacher is good enough", "higher"),
        }
        return infos | {f"dice/{name}": FigureInfo(f"teacher's Dice of {name}", "higher") for name in self.names}

    def prepare(self, batch: UnlabelledBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return weak_N1XYZ for the teacher, strong_N1XYZ for the student, and unknown_NK on the CPU."""
        crops, size = batch.crops_NXYZ.to(device, non_blocking=True), self.settings.crops.network_size_vox
        weak = network_input(crops, batch.flips_N3, batch.turns_N, batch.shifts_N, size)
        strong = weak
        if self.pseudo.strong:
            gammas, blurs, zooms, noise, seeds = batch.changes
            strong = add_noise(lower_resolution(change_gamma(weak, gammas), blurs, zooms), noise, seeds)
        return weak, strong, batch.unknown_NK

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the loss of the pseudo-labels with the share of its weight in this step, and what was kept."""
        weak, strong, unknown_NK = inputs
        step, used_K = self._advance(first_of_step)
        steps = self.settings.train.steps
        share = ramp(step, self.pseudo.from_share * steps, self.pseudo.ramp_share * steps)
        known_NK = unknown_NK & used_K
        if share == 0 or not bool(known_NK.any()):
            nothing = weak.new_zeros(())
            kept_K = weak.new_zeros(len(used_K))
            return {"loss": nothing, "kept": nothing, **self._by_class(kept_K)}
        targets, kept = self._told(weak)
        outputs = self._student_outputs(strong)
        found = deep_loss(outputs, targets, known_NK, kept)
        asked_NK = known_NK.to(kept.device, non_blocking=True).float()
        kept_K = (kept.float().mean((2, 3, 4)) * asked_NK).sum(0) / asked_NK.sum(0).clamp(min=1)
        mean = kept_K.sum() / (asked_NK.sum(0) > 0).sum().clamp(min=1)
        return {"loss": share * found.loss, "kept": mean.detach(), **self._by_class(kept_K.detach())}

    def _by_class(self, kept_K: Tensor) -> dict[str, Tensor]:
        return {f"kept/{name}": one for name, one in zip(self.names, kept_K, strict=False)}

    def _advance(self, first_of_step: bool) -> tuple[int, Tensor]:
        """Count the step, move the teacher, and return the number of the step, from 0, and used_K on the CPU."""
        if self._on_host is None:  # once after a start, or every step would wait for the device
            self._on_host = (int(self.steps_done.item()), self.used_K.cpu() > 0)
        step, used_K = self._on_host
        if first_of_step:
            self._move_teacher(step)
            self.steps_done += 1
            self._on_host = (step + 1, used_K)
            return step, used_K
        return step - 1, used_K

    @torch.no_grad()
    def _move_teacher(self, step: int) -> None:
        """Copy the student until the teacher is first used; then average it in, or leave the teacher as it is."""
        started = step > self.pseudo.from_share * self.settings.train.steps
        keep = 0.0 if not started else 1.0 if self.pseudo.teacher == "frozen" else self.pseudo.ema
        if keep == 1:
            return
        pairs = ((self.teacher_encoder, self.encoder), (self.teacher_segmenter, self.student.segmenter))
        for teacher, student in pairs:
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - keep)

    @torch.no_grad()
    def _told(self, weak_N1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.teacher_logits(weak_N1XYZ).float()
        thresholds_K = logits.new_tensor(self.thresholds)
        return pseudo_labels(logits, thresholds_K, self.pseudo.rule, self.student.inside)

    def teacher_logits(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return logits_NKXYZ of the teacher."""
        maps_of = self.teacher_encoder.feature_maps
        assert callable(maps_of)
        decode = self.teacher_segmenter
        return by_groups(lambda group: decode(maps_of(group)), (crops_N1XYZ,), self.group_size, recompute=False)

    def _student_outputs(self, strong_N1XYZ: Tensor) -> Tensor:
        if self.pseudo.trains_encoder:
            return self.decode(self.student.segmenter, strong_N1XYZ)
        with torch.no_grad():
            maps = self.encoder.feature_maps(strong_N1XYZ)  # type: ignore[operator]
        outputs: Tensor = self.student.segmenter(maps)
        return outputs

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Nothing of its own: the teacher is measured on the scans that the supervised objective holds out."""

    @torch.no_grad()
    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation | None:
        """Measure the teacher on whole held-out scans, and decide which classes it may tell."""
        measure = self.student.measure_scan
        if measure is None or not self.student.held_out:
            return None

        def network(windows_N1XYZ: Tensor) -> Tensor:
            with autocast():
                logits = exclusive_logits(self.teacher_logits(windows_N1XYZ), self.student.inside)
            return logits.float()

        rows = [measure(case, network, device) for case, _ in self.student.held_out]
        figures = class_figures(np.asarray(rows, np.float64), self.names)
        least = self.pseudo.min_dice
        used = [least == 0 or figures.get(f"dice/{name}", -1.0) >= least for name in self.names]
        self.used_K.copy_(torch.tensor(used, dtype=self.used_K.dtype))
        self._on_host = None
        return Validation({**figures, "used": float(sum(used))}, None)

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Not asked: `validate` measures whole scans."""
        raise AssertionError

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say which classes the teacher is good enough for."""
        if "used" not in now:
            return Verdict("not yet", "No labelled scan is held out, so no class of the teacher is known to be right.")
        least = self.pseudo.min_dice
        poor = [name for name in self.names if least > 0 and now.get(f"dice/{name}", -1.0) < least]
        if not poor:
            return Verdict("learned", f"Pseudo-labels of all {len(self.names)} classes are used.")
        why = f"the teacher's Dice on held-out scans is below {least:.2f}, or not known"
        return Verdict("learned" if now["used"] else "not yet", f"No pseudo-labels of {named(poor)} are used: {why}.")
