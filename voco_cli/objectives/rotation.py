"""Rotation prediction: how was this crop turned?

N crops, E features of the encoder, R orientations.

Source: Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018,
for images; a crop of a volume has 24 orientations in place of 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.schema import Augment
from voco_cli.objectives.augment import resize, to_unit
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.draws import counter_generator, draw_starts
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Sampler, Validation, Verdict


class Orientation(NamedTuple):
    """A rotation of a cube onto itself: axes in a new order, then some of them reversed."""

    axes: tuple[int, int, int]
    flipped: tuple[int, ...]

    def turn(self, crop_XYZ: Tensor) -> Tensor:
        """Return the crop, turned."""
        return crop_XYZ.permute(self.axes).flip(self.flipped)

    def turn_back(self, crop_XYZ: Tensor) -> Tensor:
        """Undo `turn`."""
        back = tuple(self.axes.index(axis) for axis in range(3))
        return crop_XYZ.flip(self.flipped).permute(back)


def rotations(count: int) -> list[Orientation]:
    """Return the quarter turns in the x-y plane (4), or all rotations of a cube (24); the first leaves it as it is."""
    found = []
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        matrix = np.eye(3)[list(axes)] * np.where(flips, -1, 1)[:, None]
        if np.linalg.det(matrix) > 0 and (count == 24 or (axes[2] == 2 and not flips[2])):
            x, y, z = axes
            found.append(Orientation((x, y, z), tuple(axis for axis in range(3) if flips[axis])))
    return found


class TurnedCrops(NamedTuple):
    """Random crops of one case, as stored, and how each is to be turned."""

    crops_SXYZ: NDArray[np.generic]
    orientations_S: NDArray[np.int64]


class TurnedBatch(NamedTuple):
    """Crops of a step, volume by volume, and the number of the orientation of each."""

    crops_NXYZ: Tensor
    orientations_N: Tensor


@dataclass(frozen=True)
class TurnSampler(Sampler):
    """Crops anywhere in a volume, each in a random orientation.

    Attributes:
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
        orientations: how many there are to choose from.
    """

    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int
    orientations: int

    def draw(self, case: Case, step: int) -> TurnedCrops:
        """Return the crops of a case; no more is read than they hold."""
        generator = counter_generator(self.seed, step, case.name, "rotation")
        starts = draw_starts(generator, case.volume.shape_xyz, self.size_vox, self.per_volume)
        orientations = generator.integers(0, self.orientations, self.per_volume)
        crops = [case.volume.read((x, y, z), self.size_vox) for x, y, z in starts.tolist()]
        return TurnedCrops(np.stack(crops), orientations)

    def collate(self, samples: Sequence[TurnedCrops]) -> TurnedBatch:
        """Put the crops of all cases together."""
        crops = np.concatenate([sample.crops_SXYZ for sample in samples])
        return TurnedBatch(
            torch.from_numpy(crops), torch.from_numpy(np.concatenate([one.orientations_S for one in samples]))
        )


def build(settings: Settings, encoder: nn.Module) -> RotationPrediction:
    """Return rotation prediction over an encoder."""
    return RotationPrediction(settings, encoder)


class RotationPrediction(CropObjective):
    """Classify the orientation of a crop from its features, by one linear layer.

    Args:
        settings: seed, crops (``size``, ``input_size``, ``random_per_volume``), ``objective.rotation``, health.
        encoder: has an attribute ``out_features``.
    """

    title = "rotation prediction"
    shown_terms = ("accuracy",)
    score_name = "error"
    held_out: list[tuple[Case, TurnedBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.orientations = rotations(settings.objective.rotation.orientations)
        width = encoder.out_features
        assert isinstance(width, int)
        self.head = nn.Linear(width, len(self.orientations))

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> TurnSampler:
        """Return what draws crops to turn, which is all that is done to them."""
        return TurnSampler(seed, self.settings.crops.size, per_volume, len(self.orientations))

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Accuracy, error and cross entropy of the orientations."""
        count = len(self.orientations)
        return {
            "accuracy": FigureInfo("orientation told", "higher", 1 / count, "accuracy"),
            "error": FigureInfo("orientation not told", "lower", 1 - 1 / count),
            "cross_entropy": FigureInfo("cross entropy", "lower", math.log(count)),
        }

    def prepare(self, batch: TurnedBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return crops_N1XYZ as the network gets them, turned, and the numbers of their orientations."""
        pairs = zip(batch.orientations_N.tolist(), batch.crops_NXYZ.to(device, non_blocking=True), strict=True)
        turned = torch.stack([self.orientations[number].turn(crop) for number, crop in pairs])
        crops_N1XYZ = resize(to_unit(turned)[:, None], self.settings.crops.network_size_vox)
        return crops_N1XYZ, batch.orientations_N.to(device, non_blocking=True)

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the cross entropy, and the share of crops whose orientation was told."""
        crops_N1XYZ, orientations_N = inputs
        logits_NR = self.logits(crops_N1XYZ)
        right = (logits_NR.detach().argmax(-1) == orientations_N).float().mean()
        return {"loss": F.cross_entropy(logits_NR.float(), orientations_N), "accuracy": right}

    def logits(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return logits_NR of crops as the network gets them."""
        logits_NR: Tensor = self.head(self.encode(crops_N1XYZ))
        return logits_NR

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return accuracy and cross entropy on the held-out crops."""
        logits = []
        for _, batch in self.held_out:
            crops_N1XYZ, _ = self.prepare(batch, device)
            with autocast():
                logits.append(self.logits(crops_N1XYZ).float().cpu())
        logits_NR = torch.cat(logits)
        truth_N = torch.cat([batch.orientations_N for _, batch in self.held_out])
        told_N = logits_NR.argmax(-1)
        accuracy = float((told_N == truth_N).float().mean())
        entropy = float(F.cross_entropy(logits_NR, truth_N))
        figures = {"accuracy": accuracy, "error": 1 - accuracy, "cross_entropy": entropy}
        return Validation(figures, self._picture(told_N.tolist()))

    def _picture(self, told: Sequence[int]) -> ImageGrid:
        """Return a crop of each of the first cases: as it lies in the scan, as it was given, and turned back."""
        rows, captions = [], []
        for number, (case, batch) in enumerate(self.held_out[:MOST_SHOWN]):
            truth, guess = int(batch.orientations_N[0]), told[number * len(batch.orientations_N)]
            crop_XYZ = to_unit(batch.crops_NXYZ[0])
            turned_XYZ = self.orientations[truth].turn(crop_XYZ)
            stages = (crop_XYZ, turned_XYZ, self.orientations[guess].turn_back(turned_XYZ))
            rows.append([stage[:, :, stage.shape[2] // 2].numpy() for stage in stages])
            captions.append(f"{case.name}: {'told' if guess == truth else 'not told'}")
        return ImageGrid(("as it lies in the scan", "as the network gets it", "turned back as told"), rows, captions)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether orientations are told often enough."""
        least, count = self.settings.objective.rotation.min_accuracy, len(self.orientations)
        found = (
            f"the orientation of {now['accuracy']:.0%} is told (step 0: {start['accuracy']:.0%}, "
            f"guessing: {1 / count:.0%})"
        )
        return self.judge(now["accuracy"] >= least, "to tell rotations", found, f"at least {least:.0%}")
