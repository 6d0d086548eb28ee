"""Models Genesis: a crop is made unlike itself in several ways, and restored.

N crops, X Y Z voxels of each, B boxes in a crop.

Source: Zhou et al., "Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis", MICCAI 2019, with the
probabilities and sizes of the released code. The output has no sigmoid here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.objective_schema import GenesisOptions
from voco_cli.config.schema import Augment
from voco_cli.models.build import build_decoder
from voco_cli.objectives.augment import resize, to_unit
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Validation, Verdict
from voco_cli.objectives.seeded_crops import SeededBatch, SeededCropSampler, as_slices, draw_boxes

MOST_FLIPS = 3
MOST_PAINTED, ANOTHER_PROB = 5, 0.95
"""Boxes of noise, or windows that are kept, in a crop at most, and the probability that one more is drawn."""
INPAINTED, OUTPAINTED = (1 / 6, 1 / 3), (3 / 7, 4 / 7)
"""Edge of a box of noise, and of a window that is kept, as a share of the crop's."""
TABLE = 4 * 255 + 1
"""Entries of an intensity map over [0, 1]; each of the 256 steps of a stored byte has its own."""


def build(settings: Settings, encoder: nn.Module) -> ModelsGenesis:
    """Return restoration over an encoder."""
    return ModelsGenesis(settings, encoder)


def corrupt(crop_XYZ: Tensor, seed: int, options: GenesisOptions) -> tuple[Tensor, Tensor]:
    """Flip a crop, and make it unlike itself: voxels shuffled, then intensities mapped, then parts painted over.

    Args:
        crop_XYZ: in [0, 1], float32.
        seed: of everything; the same on the same kind of device.
    Returns:
        corrupted_XYZ and clean_XYZ, which is flipped only; both in [0, 1].
    """
    draws = np.random.Generator(np.random.Philox(seed))
    generator = torch.Generator(crop_XYZ.device).manual_seed(seed)
    clean = crop_XYZ.flip(_draw_flips(draws, options.flip_prob))
    crop, edges = clean, np.asarray(clean.shape)
    if draws.random() < options.shuffle_prob:
        most = np.maximum(2, (edges * options.shuffle_max).astype(np.int64)).clip(max=edges)
        crop = shuffle_boxes(crop, draw_boxes(draws, clean.shape, 1, most, options.shuffle_boxes), generator)
    if draws.random() < options.intensity_prob:
        curve = intensity_map(draws.random((2, 2)), decreasing=bool(draws.random() < options.decreasing_prob))
        crop = curve.to(crop.device, non_blocking=True)[(crop * (TABLE - 1)).round().long()]
    if draws.random() < options.painting_prob:
        inside = bool(draws.random() < options.inpainting_share)
        share = INPAINTED if inside else OUTPAINTED
        count = _draw_count(draws, MOST_PAINTED, ANOTHER_PROB, least=int(not inside))
        least, most = (np.maximum(1, (edges * one).astype(np.int64)) for one in share)
        crop = paint(crop, draw_boxes(draws, clean.shape, least, most, count), generator, inside=inside)
    return crop, clean


def _draw_flips(draws: np.random.Generator, prob: float) -> tuple[int, ...]:
    """Draw axes to flip: up to three times one more, of any axis; the same axis twice is back again."""
    times = np.bincount(draws.integers(0, 3, _draw_count(draws, MOST_FLIPS, prob)), minlength=3)
    return tuple(np.flatnonzero(times % 2).tolist())


def _draw_count(draws: np.random.Generator, most: int, prob: float, least: int = 0) -> int:
    """Draw a number: beginning from ``least``, one more with a probability, until it is not or there are most."""
    return min(least + int((draws.random(most) < prob).cumprod().sum()), most)


def intensity_map(points_22: NDArray[np.float64], *, decreasing: bool) -> Tensor:
    """Return what [0, 1] becomes, in `TABLE` equal steps: a cubic Bezier curve from (0, 0) to (1, 1).

    Both coordinates of such a curve rise with its parameter, wherever the points lie in the unit square.

    Args:
        points_22: control points between the ends, each x and y.
        decreasing: the curve is run through backwards along y, so that bright becomes dark.
    """
    t = np.linspace(0, 1, TABLE)
    x, y = 3 * (1 - t) ** 2 * t * points_22[0, :, None] + 3 * (1 - t) * t**2 * points_22[1, :, None] + t**3
    return torch.from_numpy(np.interp(t, x, y[::-1] if decreasing else y)).float()


def shuffle_boxes(crop_XYZ: Tensor, boxes_B23: NDArray[np.int64], generator: torch.Generator) -> Tensor:
    """Put the voxels of each box in a random order; where boxes overlap, the later one is seen.

    Each box takes its voxels from the crop as it was. All boxes are done at once: every voxel of every box is an entry
    of one long list, which is sorted by the box, and by a random number within.

    Args:
        boxes_B23: lower corners and sizes, voxels.
        generator: on the crop's device.
    """
    device, count = crop_XYZ.device, int(boxes_B23[:, 1].prod(1).sum())
    boxes = torch.from_numpy(boxes_B23).to(device, non_blocking=True)
    volumes = boxes[:, 1].prod(1)
    box = torch.repeat_interleave(torch.arange(len(boxes), device=device), volumes, output_size=count)
    entry = torch.arange(count, device=device)
    within = entry - (volumes.cumsum(0) - volumes)[box]
    (x, y, z), (_, size_y, size_z) = boxes[box, 0].T, boxes[box, 1].T
    x, y, z = x + within // (size_y * size_z), y + within // size_z % size_y, z + within % size_z
    place = (x * crop_XYZ.shape[1] + y) * crop_XYZ.shape[2] + z
    order = torch.argsort(box * 2**31 + torch.randint(2**31, (count,), generator=generator, device=device))
    last = torch.full((crop_XYZ.numel(),), -1, device=device).scatter_reduce(0, place, entry, "amax")
    flat = crop_XYZ.flatten()
    shuffled = flat[place[order[last.clamp(min=0)]]]
    return torch.where(last >= 0, shuffled, flat).view_as(crop_XYZ)


def paint(crop_XYZ: Tensor, boxes_B23: NDArray[np.int64], generator: torch.Generator, *, inside: bool) -> Tensor:
    """Put uniform noise into the boxes, or else everywhere but in them."""
    noise = torch.rand(crop_XYZ.shape, generator=generator, device=crop_XYZ.device)
    below, above = (crop_XYZ, noise) if inside else (noise, crop_XYZ)
    painted = below.clone()
    for box in as_slices(boxes_B23):
        painted[box] = above[box]
    return painted


class ModelsGenesis(CropObjective):
    """Restore crops voxel by voxel, by a decoder over the encoder.

    Args:
        settings: seed, crops (``size``, ``input_size``, ``random_per_volume``), ``objective.genesis``, health.
        encoder: of `voco_cli.models.build.build_encoder`.
    """

    title = "restoration (Models Genesis)"
    score_name = "ratio"
    held_out: list[tuple[Case, SeededBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.restorer = build_decoder(settings.model, encoder, 1, settings.objective.genesis.decoder)

    @property
    def decoder(self) -> nn.Module | None:
        """The restorer, where it is a segmenter's."""
        return self.restorer if self.settings.objective.genesis.decoder == "segmentation" else None

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> SeededCropSampler:
        """Return what draws crops to corrupt, which is all that is done to them."""
        return SeededCropSampler("genesis", seed, self.settings.crops.size, per_volume)

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Error of restored crops, and of the two answers that need no learning."""
        return {
            "ratio": FigureInfo("error against the best trivial answer", "lower", 1.0, "ratio"),
            "mse": FigureInfo("mean squared error of restored crops", "lower"),
            "input_mse": FigureInfo("the same of the input, handed back", "the same at each look"),
            "mean_mse": FigureInfo("the same of each crop's mean", "the same at each look"),
        }

    def prepare(self, batch: SeededBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return corrupted_N1XYZ, as the network gets them, and clean_N1XYZ."""
        crops = resize(
            to_unit(batch.crops_NXYZ.to(device, non_blocking=True))[:, None], self.settings.crops.network_size_vox
        )
        options = self.settings.objective.genesis
        pairs = [corrupt(crop, seed, options) for crop, seed in zip(crops[:, 0], batch.seeds_N.tolist(), strict=True)]
        corrupted, clean = zip(*pairs, strict=True)
        return torch.stack(corrupted)[:, None], torch.stack(clean)[:, None]

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the mean squared error over all voxels."""
        corrupted_N1XYZ, clean_N1XYZ = inputs
        return {"loss": F.mse_loss(self.restored(corrupted_N1XYZ).float(), clean_N1XYZ)}

    def restored(self, corrupted_N1XYZ: Tensor) -> Tensor:
        """Return restored_N1XYZ."""
        return self.decode(self.restorer, corrupted_N1XYZ)

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return the error on the held-out crops, beside those of the trivial answers."""
        sums, shown = torch.zeros(3), []
        for _, batch in self.held_out:
            corrupted, clean = self.prepare(batch, device)
            with autocast():
                restored = self.restored(corrupted).float()
            answers = (restored, corrupted, clean.mean((1, 2, 3, 4), keepdim=True).expand_as(clean))
            sums += torch.stack([F.mse_loss(answer, clean) for answer in answers]).cpu()
            shown.append([one[0, 0, :, :, one.shape[4] // 2].cpu() for one in (clean, corrupted, restored)])
        mse, input_mse, mean_mse = (sums / len(shown)).tolist()
        figures = {"ratio": mse / max(min(input_mse, mean_mse), 1e-12), "mse": mse}
        figures |= {"input_mse": input_mse, "mean_mse": mean_mse}
        return Validation(figures, self._picture(shown[:MOST_SHOWN]))

    def _picture(self, shown: Sequence[Sequence[Tensor]]) -> ImageGrid:
        """Return a crop of each of the first cases: as it is, as it was given, restored, and what is wrong."""
        rows, captions = [], []
        for (case, _), (clean, corrupted, restored) in zip(self.held_out, shown, strict=False):
            error = (restored - clean).abs()
            rows.append([stage.clamp(0, 1).numpy() for stage in (clean, corrupted, restored, error)])
            captions.append(f"squared error {float(error.square().mean()):.4f}: {case.name}")
        return ImageGrid(("clean", "corrupted", "restored", "error"), rows, captions)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether crops are restored better than by an answer that needs no learning."""
        most = self.settings.objective.genesis.max_ratio
        found = (
            f"the mean squared error of restored crops is {now['mse']:.4f} (step 0: {start['mse']:.4f}, the input "
            f"handed back: {now['input_mse']:.4f}, each crop's mean: {now['mean_mse']:.4f})"
        )
        wanted = f"at most {most:g} times the better of the last two"
        return self.judge(now["ratio"] <= most, "to restore", found, wanted)
