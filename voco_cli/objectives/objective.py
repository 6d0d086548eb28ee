"""What pre-training asks of an objective: one pretext task over one encoder.

An objective says what it reads of a cached volume (`Sampler`, in the loader processes), how that becomes the network's
input (`Objective.prepare`, on the device), what is minimised (`forward`), what held-out scans say of it (`validate`)
and what follows from that (`verdict`). The trainer, the pre-training task, the report and the study know no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.data.cache.volume import StoredVolume
from voco_cli.data.case_labels import CaseLabels

Figures = dict[str, float]
Autocast = Callable[[], AbstractContextManager[Any]]
"""The number format of networks, as a context."""
HELD_OUT_STEP = 2**31
"""The step whose draws the held-out crops are: one that no training reaches."""


@dataclass(frozen=True)
class Case:
    """A scan that is trained on or held out, by the name that its draws go by.

    Attributes:
        labels: what its label map says of classes; none where there is no label map, or none that is asked for.
        scan_labels: whether each class of ``objective.weak`` is somewhere in the scan, None where nobody knows; empty
            where nothing is known.
        set_name: of the scans that it is drawn with, as ``data.mix`` asks.
    """

    name: str
    volume: StoredVolume
    labels: CaseLabels | None = None
    scan_labels: tuple[bool | None, ...] = ()
    set_name: str = ""


@dataclass(frozen=True)
class FigureInfo:
    """What people are told of a held-out figure.

    Attributes:
        label: in a table.
        better: ``lower``, ``higher``, or a remark.
        chance: what guessing, or the trivial solution, gives; None where that is not known.
        short: beside the progress bar; empty leaves it out there. These are the figures that the verdict rests on.
    """

    label: str
    better: str
    chance: float | None = None
    short: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the figures say, in one word and in one sentence."""

    status: Literal["learned", "not yet", "collapsed"]
    sentence: str


@dataclass(frozen=True)
class ImageGrid:
    """Slices in rows, for the picture of a validation: a row a crop, a column a stage.

    Attributes:
        columns: what each column shows.
        rows: slices_XY of each row: grey values in [0, 1], or whole numbers that stand for classes, 0 for none.
        captions: below each row.
        classes: names of the classes 1, 2, ...
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[NDArray[np.number]]]
    captions: Sequence[str]
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class Validation:
    """One look at the held-out scans.

    Attributes:
        figures: what was measured, by name.
        picture: what is to be drawn of it, such as an `ImageGrid`; see `voco_cli.pretrain.pictures`.
    """

    figures: Figures
    picture: Any


class Sampler(ABC):
    """What loader processes read of volumes; small, as it travels to them, and without state."""

    @abstractmethod
    def draw(self, case: Case, step: int) -> Any:
        """Return what one case gives in a step, as arrays in the cache's number format.

        Everything random follows from seed, step and case alone.

        Raises:
            VocoError: the cached volume is damaged or too small.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> Any:
        """Return the batch of the samples of a step, as tensors."""


class Objective(nn.Module, ABC):
    """A pretext task: the encoder, what is put on top of it, and the loss.

    Attributes:
        encoder: what users take away.
        group_size: crops that go through the encoder at a time; None is all of them.
        recompute: keep no activations of the encoder, and compute them again in the backward pass.
    """

    title: ClassVar[str]
    """In words, for people."""
    shown_terms: ClassVar[tuple[str, ...]] = ()
    """Parts of the loss that are shown beside it."""
    score_name: str
    """Held-out figure whose lowest value marks the best checkpoint."""
    encoder: nn.Module
    group_size: int | None = None
    recompute: bool = False

    @property
    @abstractmethod
    def sampler(self) -> Sampler:
        """The part that loader processes run."""

    @property
    @abstractmethod
    def region_vox(self) -> tuple[int, int, int]:
        """The least volume that can be trained on, voxels."""

    @property
    @abstractmethod
    def crops_per_volume(self) -> int:
        """Crops of a volume that go through the encoder in a step."""

    @property
    @abstractmethod
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Label, direction and chance of each figure of a validation, in the order of a table."""

    @abstractmethod
    def prepare(self, batch: Any, device: torch.device) -> tuple[Any, ...]:
        """Return the arguments of `forward` on the device; nothing here may wait for it."""

    @abstractmethod
    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return scalars, ``loss`` among them.

        Args:
            inputs: of `prepare`.
            first_of_step: whether this is the first batch of an optimizer step.
        """

    def join(self, parts: Mapping[str, Objective]) -> None:
        """Take what is needed of the other objectives of a sum, once all are there."""

    def train_on(self, cases: Sequence[Case]) -> None:
        """Take note of all cases that are trained on, before the first is drawn."""

    @abstractmethod
    def hold_out(self, cases: Sequence[Case]) -> None:
        """Keep the cases that `validate` looks at, always the same crops, never augmented."""

    @abstractmethod
    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation | None:
        """Return the figures of the held-out cases; None where there are none.

        Args:
            at_start: nothing has been learned yet.
        """

    @abstractmethod
    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Compare the figures of the last validation with those of step 0."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the decoder tells of a voxel; empty where it tells none."""
        return ()

    @property
    def decoder(self) -> nn.Module | None:
        """What users take away beside the encoder: the decoder of its segmenter; None where none is trained."""
        return None

    def encoder_started(self) -> None:
        """Follow weights that were put into the encoder before training: copies of it are to start from them, too."""

    def encoders(self) -> list[nn.Module]:
        """Return the encoder, and further networks of its kind."""
        return [self.encoder]

    def set_grouping(self, group_size: int | None, recompute: bool) -> None:
        """Decide how crops go through the encoder; changes memory and time, and no number."""
        self.group_size, self.recompute = group_size, recompute


class WeightedSum(Objective):
    """Several objectives over one encoder: each draws and measures on its own, and the losses are added.

    No pass through the encoder is shared, as no two objectives give it the same crops: what each does to its own
    before (docs/concepts/objectives.md) is its task. A step costs the sum of theirs, less all optimizer steps but one.

    Args:
        parts: objectives by name, over the very same encoder.
        weights: of each in the sum.
    """

    title = "several objectives"

    def __init__(self, parts: Mapping[str, Objective], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.weights = dict(weights)
        first = next(iter(parts))
        self.encoder = parts[first].encoder
        self.score_name = f"{first}/{parts[first].score_name}"

    @property
    def objectives(self) -> dict[str, Objective]:
        """The parts by their own type."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Objective)}

    @property
    def sampler(self) -> Sampler:
        """All samplers, one after the other."""
        return _Samplers({name: part.sampler for name, part in self.objectives.items()})

    @property
    def region_vox(self) -> tuple[int, int, int]:
        """The largest edge of any part along each axis, voxels."""
        x, y, z = np.max([part.region_vox for part in self.objectives.values()], axis=0).tolist()
        return (x, y, z)

    @property
    def crops_per_volume(self) -> int:
        """Those of all parts: what they keep for the backward pass is there at the same time."""
        return sum(part.crops_per_volume for part in self.objectives.values())

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Those of all parts, as ``voco/rank``."""
        parts = self.objectives.items()
        return {f"{name}/{key}": info for name, part in parts for key, info in part.figure_infos.items()}

    def prepare(self, batch: Mapping[str, Any], device: torch.device) -> tuple[Any, ...]:
        """Return the inputs of every part."""
        return tuple(part.prepare(batch[name], device) for name, part in self.objectives.items())

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the weighted sum as ``loss``, and every term of every part as ``voco/prediction``."""
        terms: dict[str, Tensor] = {}
        losses = []
        for (name, part), own in zip(self.objectives.items(), inputs, strict=True):
            found = part(*own, first_of_step=first_of_step)
            losses.append(self.weights[name] * found["loss"])
            terms |= {f"{name}/{key}": value for key, value in found.items()}
        return {"loss": torch.stack(losses).sum(), **terms}

    def train_on(self, cases: Sequence[Case]) -> None:
        """Tell every part."""
        for part in self.objectives.values():
            part.train_on(cases)

    def hold_out(self, cases: Sequence[Case]) -> None:
        """Hold them out from every part."""
        for part in self.objectives.values():
            part.hold_out(cases)

    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation | None:
        """Return the figures of all parts; the picture is a mapping of theirs."""
        found = {name: part.validate(device, autocast, at_start) for name, part in self.objectives.items()}
        there = {name: one for name, one in found.items() if one is not None}
        if not there:
            return None
        figures = {f"{name}/{key}": value for name, one in there.items() for key, value in one.figures.items()}
        return Validation(figures, {name: one.picture for name, one in there.items()})

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Return the worst of the parts' verdicts, and all sentences."""
        order: dict[str, int] = {"collapsed": 0, "not yet": 1, "learned": 2}
        found = [part.verdict(_under(name, start), _under(name, now)) for name, part in self.objectives.items()]
        worst = min(found, key=lambda one: order[one.status])
        return Verdict(worst.status, " ".join(one.sentence for one in found))

    @property
    def decoder(self) -> nn.Module | None:
        """The one that tells classes, or else the first that a part has."""
        there = [part for part in self.objectives.values() if part.decoder is not None]
        return min(there, key=lambda part: not part.classes).decoder if there else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the part that tells any."""
        return next((part.classes for part in self.objectives.values() if part.classes), ())

    def encoder_started(self) -> None:
        """Tell every part."""
        for part in self.objectives.values():
            part.encoder_started()

    def set_grouping(self, group_size: int | None, recompute: bool) -> None:
        """Decide it for every part."""
        super().set_grouping(group_size, recompute)
        for part in self.objectives.values():
            part.set_grouping(group_size, recompute)

    def encoders(self) -> list[nn.Module]:
        """Return every network once."""
        return list(dict.fromkeys(one for part in self.objectives.values() for one in part.encoders()))


@dataclass(frozen=True)
class _Samplers(Sampler):
    parts: Mapping[str, Sampler]

    def draw(self, case: Case, step: int) -> dict[str, Any]:
        return {name: part.draw(case, step) for name, part in self.parts.items()}

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {name: part.collate([sample[name] for sample in samples]) for name, part in self.parts.items()}


def _under(name: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of one part under its own names."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in figures.items() if key.startswith(prefix)}
