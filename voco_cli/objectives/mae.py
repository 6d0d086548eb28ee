"""Masked autoencoder: what was in the cubes that are hidden?

N crops, S crops of a volume, M cubes of a crop (A, B, C along the axes), e their edge in voxels.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (arXiv 2111.06377), for transformers
that see the visible patches alone. Convolutions and shifted windows cannot drop voxels: they are replaced in the crop,
as SimMIM (Xie et al., CVPR 2022) and nnssl's BaseMAETrainer do, or left out of every layer, as SparK does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.config.objective_schema import MaeOptions, cube_edge
from voco_cli.config.schema import Augment
from voco_cli.models.build import build_decoder, by_groups
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.crop_objective import MOST_SHOWN, CropObjective
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, ImageGrid, Sampler, Validation, Verdict

VARIANCE_FLOOR = 1e-6
"""Added to the variance of a cube before it is divided by: cubes of air have none."""


class MaskedCrops(NamedTuple):
    """Random crops of one case, as stored, which cubes of each are hidden, and its augmentation."""

    crops_SXYZ: NDArray[np.generic]
    hidden_SABC: NDArray[np.bool_]
    draws: AugmentDraws


class MaskedBatch(NamedTuple):
    """Crops of a step, volume by volume, with what `MaskedCrops` has of each."""

    crops_NXYZ: Tensor
    hidden_NABC: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor


@dataclass(frozen=True)
class MaskSampler(Sampler):
    """Crops anywhere in a volume, each with cubes to hide.

    Attributes:
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
        cubes: of a crop, along x, y, z.
        num_hidden: cubes of a crop that are hidden.
        augment: random changes of each crop.
    """

    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int
    cubes: tuple[int, int, int]
    num_hidden: int
    augment: Augment

    def draw(self, case: Case, step: int) -> MaskedCrops:
        """Return the crops of a case; no more is read than they hold."""
        generator = counter_generator(self.seed, step, case.name, "mae")
        room = np.subtract(case.volume.shape_xyz, self.size_vox)
        starts = generator.integers(0, room, size=(self.per_volume, 3), endpoint=True)
        hidden = draw_hidden(generator, self.per_volume, self.cubes, self.num_hidden)
        crops = [case.volume.read((x, y, z), self.size_vox) for x, y, z in starts.tolist()]
        draws = draw_augmentation(self.seed, step, case.name, self.per_volume, self.augment)
        return MaskedCrops(np.stack(crops), hidden, draws)

    def collate(self, samples: Sequence[MaskedCrops]) -> MaskedBatch:
        """Put the crops of all cases together."""
        parts = zip(*((one.crops_SXYZ, one.hidden_SABC, *vars(one.draws).values()) for one in samples), strict=True)
        return MaskedBatch(*(torch.from_numpy(np.concatenate(part)) for part in parts))


def draw_hidden(
    generator: np.random.Generator, crops: int, cubes: tuple[int, int, int], num_hidden: int
) -> NDArray[np.bool_]:
    """Draw the cubes that are hidden: exactly ``num_hidden`` of each crop, every choice equally likely."""
    order = generator.random((crops, int(np.prod(cubes)))).argsort(axis=1)
    return (order < num_hidden).reshape(crops, *cubes)


def by_cube(values_NXYZ: Tensor, edge: int) -> Tensor:
    """View voxels by cube: values_NAeBeCe."""
    view: Tensor = values_NXYZ.unflatten(3, (-1, edge)).unflatten(2, (-1, edge)).unflatten(1, (-1, edge))
    return view


def of_voxels(cubes_NABC: Tensor, edge: int) -> Tensor:
    """Give every voxel what its cube has: values_NXYZ."""
    spread = cubes_NABC[:, :, None, :, None, :, None].expand(-1, -1, edge, -1, edge, -1, edge)
    return spread.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def cube_statistics(crops_NXYZ: Tensor, edge: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each cube, as `by_cube` views them."""
    variance, mean = torch.var_mean(by_cube(crops_NXYZ, edge), (2, 4, 6), correction=0, keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).sqrt()


def reconstruction_loss(predicted_NXYZ: Tensor, crops_NXYZ: Tensor, hidden_NABC: Tensor, options: MaeOptions) -> Tensor:
    """Return the mean error of voxels, of hidden ones or of all.

    Args:
        crops_NXYZ: before anything was hidden.
        hidden_NABC: bool; cubes of equal edges tile a crop.
        options: ``loss``, ``loss_over``, ``normalise_cubes``.
    Source: nnssl, BaseMAETrainer: sum of squared errors times the mask over the sum of the mask.
    """
    edge = crops_NXYZ.shape[1] // hidden_NABC.shape[1]
    predicted, target = by_cube(predicted_NXYZ.float(), edge), by_cube(crops_NXYZ, edge)
    if options.normalise_cubes:
        mean, sd = cube_statistics(crops_NXYZ, edge)
        target = (target - mean) / sd
    error = predicted - target
    error = error.square() if options.loss == "l2" else error.abs()
    if options.loss_over == "all":
        return error.mean()
    # All cubes have equally many voxels: the mean over hidden voxels is that over the means of hidden cubes.
    return (error.mean((2, 4, 6)) * hidden_NABC).sum() / hidden_NABC.sum()


def build(settings: Settings, encoder: nn.Module) -> MaskedAutoencoder:
    """Return a masked autoencoder over an encoder."""
    return MaskedAutoencoder(settings, encoder)


class MaskedAutoencoder(CropObjective):
    """Predict the voxels of hidden cubes from those around them.

    Args:
        settings: seed, crops (``size``, ``input_size``, ``random_per_volume``), augmentation, model,
            ``objective.mae``, health.
        encoder: of `build_encoder`; with ``masking: sparse`` one that has ``visible_maps``.
    """

    title = "masked autoencoder"
    score_name = "error_ratio"
    held_out: list[tuple[Case, MaskedBatch]]

    def __init__(self, settings: Settings, encoder: nn.Module) -> None:
        super().__init__(settings, encoder)
        self.mae = settings.objective.mae
        self.reconstruct = build_decoder(settings.model, encoder, 1, self.mae.decoder)
        widths = encoder.map_widths if self.mae.masking == "sparse" else (1,)
        assert isinstance(widths, tuple)
        learned = self.mae.token == "learned"
        self.tokens = nn.ParameterList(nn.Parameter(torch.zeros(width), requires_grad=learned) for width in widths)

    @property
    def decoder(self) -> nn.Module | None:
        """That of the segmentation network, where it is what reconstructs."""
        return self.reconstruct if self.mae.decoder == "segmentation" else None

    @property
    def edge_vox(self) -> int:
        """Edge of a cube, voxels of a crop as the network gets it."""
        return cube_edge(self.mae.cube_vox, self.settings.crops.network_size_vox)

    def crop_sampler(self, seed: int, per_volume: int, augment: Augment) -> MaskSampler:
        """Return what draws crops, augmented as VoCo's are, and cubes to hide."""
        crops, edge = self.settings.crops, self.edge_vox
        x, y, z = (size // edge for size in crops.network_size_vox)
        return MaskSampler(seed, crops.size, per_volume, (x, y, z), int(self.mae.share * x * y * z), augment)

    @property
    def figure_infos(self) -> Mapping[str, FigureInfo]:
        """Squared error in hidden voxels, against that of the visible voxels' mean and as it is."""
        return {
            "error_ratio": FigureInfo("error in hidden voxels against the visible mean's", "lower", 1.0, "error"),
            "hidden_error": FigureInfo("squared error in hidden voxels", "lower"),
        }

    def prepare(self, batch: MaskedBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return crops_N1XYZ as the network gets them before anything is hidden, and the hidden cubes."""
        crops = batch.crops_NXYZ.to(device, non_blocking=True)
        size = self.settings.crops.network_size_vox
        crops_N1XYZ = network_input(crops, batch.flips_N3, batch.turns_N, batch.shifts_N, size)
        return crops_N1XYZ, batch.hidden_NABC.to(device, non_blocking=True)

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        """Return the error of the reconstruction."""
        crops_N1XYZ, hidden_NABC = inputs
        predicted_NXYZ = self.predict(crops_N1XYZ, hidden_NABC)
        return {"loss": reconstruction_loss(predicted_NXYZ, crops_N1XYZ[:, 0], hidden_NABC, self.mae)}

    def predict(self, crops_N1XYZ: Tensor, hidden_NABC: Tensor) -> Tensor:
        """Return the reconstruction, predicted_NXYZ, of which the network sees the cubes that are not hidden."""
        hidden_N1XYZ = of_voxels(hidden_NABC, self.edge_vox)[:, None]
        if self.mae.masking == "sparse":
            visible_N1XYZ = (~hidden_N1XYZ).to(crops_N1XYZ.dtype)
            seen = (crops_N1XYZ, visible_N1XYZ)
            return by_groups(self._decode_visible, seen, self.group_size, recompute=self.recompute)[:, 0]
        masked_N1XYZ = torch.where(hidden_N1XYZ, self.tokens[0].to(crops_N1XYZ.dtype), crops_N1XYZ)
        return self.decode(self.reconstruct, masked_N1XYZ)[:, 0]

    def _decode_visible(self, crops_N1XYZ: Tensor, visible_N1XYZ: Tensor) -> Tensor:
        """Fill each level with its token where nothing is visible, and decode."""
        assert callable(self.encoder.visible_maps)
        levels, masks = self.encoder.visible_maps(crops_N1XYZ, visible_N1XYZ)
        parts = zip(levels, masks, self.tokens, strict=True)
        filled = [level + (1 - mask) * token.view(1, -1, 1, 1, 1) for level, mask, token in parts]
        values_N1XYZ: Tensor = self.reconstruct(filled)
        return values_N1XYZ

    def measure(self, device: torch.device, autocast: Autocast) -> Validation:
        """Return the error on the held-out crops, and how it looks in one crop of each of the first scans."""
        errors_2: list[Tensor] = []
        rows: list[list[NDArray[np.float32]]] = []
        for _, batch in self.held_out:
            crops_N1XYZ, hidden_NABC = self.prepare(batch, device)
            with autocast():
                predicted_NXYZ = self.predict(crops_N1XYZ, hidden_NABC)
            errors_2.append(hidden_errors(predicted_NXYZ, crops_N1XYZ[:, 0], hidden_NABC, self.mae).cpu())
            if len(rows) < MOST_SHOWN:
                rows.append(self._stages(predicted_NXYZ[:1], crops_N1XYZ[:1, 0], hidden_NABC[:1]))
        own, trivial = torch.stack(errors_2).mean(0).tolist()
        figures = {"error_ratio": own / max(trivial, VARIANCE_FLOOR), "hidden_error": own}
        columns = ("as it lies in the scan", "as the network gets it", "filled in", "error")
        captions = [case.name for case, _ in self.held_out[: len(rows)]]
        return Validation(figures, ImageGrid(columns, rows, captions))

    def _stages(self, predicted_1XYZ: Tensor, crops_1XYZ: Tensor, hidden_1ABC: Tensor) -> list[NDArray[np.float32]]:
        """Return the middle slice of a crop: whole, masked, with hidden voxels as predicted, and what that misses."""
        edge, shown = self.edge_vox, predicted_1XYZ.float()
        hidden = of_voxels(hidden_1ABC, edge)
        if self.mae.normalise_cubes:  # with the true mean and deviation, which are not predicted
            mean, sd = cube_statistics(crops_1XYZ, edge)
            shown = (by_cube(shown, edge) * sd + mean).reshape(crops_1XYZ.shape)
        filled = torch.where(hidden, shown, crops_1XYZ)
        masked = crops_1XYZ.masked_fill(hidden, 0.0)
        stages = (crops_1XYZ, masked, filled, (filled - crops_1XYZ).abs())
        return [stage[0, :, :, stage.shape[3] // 2].clamp(0, 1).cpu().numpy() for stage in stages]

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        """Say whether hidden voxels are predicted better than by the mean of the visible ones."""
        most = self.mae.max_error_ratio
        found = (
            f"the squared error in hidden voxels is {now['error_ratio']:.2f} of that of the visible voxels' mean "
            f"(step 0: {start['error_ratio']:.2f})"
        )
        return self.judge(now["error_ratio"] <= most, "to fill in what is hidden", found, f"at most {most:.2f}")


def hidden_errors(predicted_NXYZ: Tensor, crops_NXYZ: Tensor, hidden_NABC: Tensor, options: MaeOptions) -> Tensor:
    """Return two mean squared errors of hidden voxels: of the prediction, and of the mean of what is visible.

    Args:
        options: ``normalise_cubes``: then targets are normalised, and the mean of visible cubes is 0.
    """
    measured = options.model_copy(update={"loss": "l2", "loss_over": "hidden"})
    own = reconstruction_loss(predicted_NXYZ, crops_NXYZ, hidden_NABC, measured)
    if options.normalise_cubes:
        trivial_N = crops_NXYZ.new_zeros(len(crops_NXYZ))
    else:
        mean, _ = cube_statistics(crops_NXYZ, crops_NXYZ.shape[1] // hidden_NABC.shape[1])
        visible = ~hidden_NABC
        trivial_N = (mean.flatten(1) * visible.flatten(1)).sum(1) / visible.flatten(1).sum(1)
    trivial_NXYZ = trivial_N.view(-1, 1, 1, 1).expand_as(crops_NXYZ)
    return torch.stack([own, reconstruction_loss(trivial_NXYZ, crops_NXYZ, hidden_NABC, measured)])
