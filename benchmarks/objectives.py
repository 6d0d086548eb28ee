"""What an objective costs beside its networks, and what the loader decodes for it: SwinUNETR of feature size 48, a CPU.

A step makes the networks' input of a batch that is drawn already, then come forward, backward and optimizer. Encoder
and decoder have what lies between their input and their output, forward and backward. The optimizer takes as long
whatever crops a step has, here one to four small ones, and is told apart. The objective's own share is the rest: input,
heads, loss. What the loader decodes is counted with the crops and the cache of the recipes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple
from unittest import mock

import blosc2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.allocators import warm
from benchmarks.registry import Options
from benchmarks.rows import Figure, Ratio, Row
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.volume import StoredVolume, compress
from voco_cli.models import build
from voco_cli.objectives import REGISTRY
from voco_cli.objectives.objective import Case, Objective, WeightedSum
from voco_cli.pretrain.task import build_model

CPU = torch.device("cpu")
SUM = ("voco", "mae")
OUTSIDE_PERCENT = 10.0
VOLUME_VOX = (240, 240, 192)
"""Where the recipe leaves a volume the size that its spacing gives."""
DRAWS = 8
STEP = (
    "run.device=cpu",
    "train.batch_size=1",
    "crops.grid=2x1",
    "crops.size=32x32x64",
    "crops.input_size=null",
    "crops.random_per_volume=1",
)
OF_EACH = {
    "rotation": ("objective.rotation.orientations=4",),
    "contrast": ("objective.contrast.negatives=both", "crops.random_per_volume=2"),
    "genesis": ("objective.genesis.decoder=segmentation",),
    "fusion": ("objective.fusion.decoder=segmentation", "crops.random_per_volume=2"),
}
"""As few crops as the loss is defined for, and decoders as the recipes have them; quarter turns fit such crops."""
TINY = (
    "model.backbone=unet",
    "model.feature_size=8",
    "model.levels=3",
    "model.projector_hidden=[32]",
    "model.projector_out=32",
)
UNLABELLED = tuple(name for name in REGISTRY if name not in ("supervised", "pseudo", "weak"))
"""Those that learn from scans alone."""
QUICK = (*TINY, "crops.size=16x16x32")


def rows(options: Options) -> Iterator[Row]:
    """Each objective alone; then the parts of the sum and the sum in turns."""
    warm()
    sizes = QUICK if options.quick else ()
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as folder:
        for name in UNLABELLED:
            yield from loader_rows(name, Path(folder) / f"{name}.b2nd")
        path = Path(folder) / "voco.b2nd"
        for name in UNLABELLED:
            if name not in SUM:
                objective, settings = made((name,), sizes)
                steps = Steps(objective, settings, path)
                yield from step_rows(name, take_turns({name: steps}, options.rounds_or(2))[name])
        both, settings = made(SUM, sizes)
        assert isinstance(both, WeightedSum)
        summed = {name: Steps(part, settings, path) for name, part in both.objectives.items()}
        summed["+".join(SUM)] = Steps(both, settings, path)
        taken = take_turns(summed, options.rounds_or(3))
        for name in SUM:
            yield from step_rows(name, taken[name])
        *alone_s, sum_s = ([step.whole for step in steps] for steps in taken.values())
        name = f"steps of {' and '.join(SUM)}, against one of their sum"
        yield Ratio(name, np.sum(alone_s, 0).tolist(), sum_s, 1.0)


def made(names: Sequence[str], sizes: Sequence[str]) -> tuple[Objective, Settings]:
    """The cvpr recipe with small crops and these objectives in place of its own, and what a run builds of it."""
    weights = [f"objective.{name}.weight={int(name in names)}" for name in REGISTRY]
    words = [word for name in names for word in OF_EACH.get(name, ())]
    settings = load_settings("cvpr", None, (*STEP, *weights, *words, *sizes)).settings
    return build_model(settings, CPU), settings


def loader_rows(name: str, path: Path) -> Iterator[Row]:
    """Yield what the draws of the objective's recipe ask of the cache, and what is decoded for that."""
    settings = load_settings("cvpr" if name == "voco" else name, None, TINY).settings
    shape = settings.preprocess.resize_vox or VOLUME_VOX
    voxels = np.random.default_rng(0).integers(0, 255, (1, *shape[1:]), np.uint8).repeat(shape[0], axis=0)
    path.write_bytes(compress(voxels, settings.cache).to_cframe())
    volume, sampler = WatchedVolume(path), build_model(settings, CPU).sampler
    samples = [sampler.draw(Case("made", volume), step) for step in range(DRAWS)]
    crops = sum(part.nbytes for sample in samples for part in sample if getattr(part, "dtype", None) == np.uint8)
    asked = sum(int(np.prod(size)) for _, size in volume.asked)
    yield Figure(f"{name}: asked of the cache", "times its crops", [asked / crops], 1.0)
    yield Figure(f"{name}: decoded, in whole blocks", "times its crops", [volume.decoded_bytes() / crops])


@dataclass(frozen=True)
class WatchedVolume(StoredVolume):
    """A cached volume that keeps what is asked of it: corner and size of each region, voxels."""

    asked: list[tuple[Sequence[int], Sequence[int]]] = field(default_factory=list, compare=False)

    def read(self, start_xyz: Any, size_xyz: Any, out_xyz: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read as the volume does, and note what was asked."""
        self.asked.append((start_xyz, size_xyz))
        return super().read(start_xyz, size_xyz, out_xyz)

    def decoded_bytes(self) -> int:
        """All blocks that a region touches are decoded, whole ones; in every chunk they begin anew."""
        array = blosc2.open(str(self.path), mode="r")
        pieces = list(zip(array.chunks, array.blocks, strict=True))
        blocks = sum(
            int(np.prod([touched(*axis) for axis in zip(start, size, *zip(*pieces, strict=True), strict=True)]))
            for start, size in self.asked
        )
        return int(blocks * int(np.prod(array.blocks)) * array.dtype.itemsize)


def touched(start: int, size: int, chunk: int, block: int) -> int:
    """Return how many blocks along an axis a region has a voxel in."""
    return len({(place // chunk, place % chunk // block) for place in range(start, start + size)})


class Took(NamedTuple):
    """CPU seconds of a step, of its networks and of its optimizer."""

    whole: float
    networks: float
    optimizer: float


class Steps:
    """Steps of an objective on one batch of one case."""

    def __init__(self, objective: Objective, settings: Settings, path: Path) -> None:
        self.objective = objective
        self.batch = objective.sampler.collate([objective.sampler.draw(Case("made", StoredVolume(path)), 0)])
        train = settings.train
        wanted = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            wanted, lr=train.lr, weight_decay=train.weight_decay, amsgrad=train.amsgrad, foreach=True
        )

    def take(self) -> Took:
        """Take a step."""
        start, networks = process_time(), NetworkClock(build.by_groups)
        with mock.patch.object(build, "by_groups", networks.by_groups):
            self.objective(*self.objective.prepare(self.batch, CPU))["loss"].backward()
        learned = process_time()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        end = process_time()
        return Took(end - start, networks.forward_s + learned - networks.backward_from, end - learned)


class NetworkClock:
    """CPU seconds in networks, through which every objective goes by `voco_cli.models.build.by_groups`.

    The backward pass of a network begins when the gradient of its output is known, and lasts to the end, as nothing of
    an objective lies below its networks. (Of the masked autoencoder its token does, a sum.)

    Attributes:
        forward_s: of all passes, a teacher's among them.
        backward_from: on the clock of the process.
    """

    def __init__(self, by_groups: Callable[..., Tensor]) -> None:
        self.run = by_groups
        self.forward_s, self.backward_from = 0.0, 0.0

    def by_groups(self, *inputs: Any, **options: Any) -> Tensor:
        """Run as the wrapped function does, and take the time."""
        start = process_time()
        found = self.run(*inputs, **options)
        self.forward_s += process_time() - start
        if found.requires_grad:
            found.register_hook(lambda _: setattr(self, "backward_from", process_time()))
        return found


def take_turns(steps: Mapping[str, Steps], rounds: int) -> dict[str, list[Took]]:
    """Take one step of each to warm up, then so many rounds."""
    taken = [{name: one.take() for name, one in steps.items()} for _ in range(rounds + 1)]
    return {name: [turn[name] for turn in taken[1:]] for name in steps}


def step_rows(name: str, taken: Sequence[Took]) -> Iterator[Row]:
    """Seconds of steps, and the share of them that is the optimizer's and the objective's own."""
    whole, networks, optimizer = np.transpose(taken)
    yield Figure(f"{name}: a step", "s", whole.tolist())
    yield Figure(f"{name}: optimizer", "% of it", (100 * optimizer / whole).tolist())
    own = 100 * (whole - networks - optimizer) / whole
    yield Figure(f"{name}: outside encoder, decoder, optimizer", "% of it", own.tolist(), OUTSIDE_PERCENT)
