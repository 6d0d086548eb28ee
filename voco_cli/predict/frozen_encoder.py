"""An encoder whose weights stay as they are: features of whole volumes, window by window, and of their regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.models.build import build_encoder
from voco_cli.models.weights.load import load_start
from voco_cli.objectives.augment import to_unit
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.distributed import device_alone

REGIONS = 2
"""Regions along each axis that retrieval is asked for."""
IntXYZ = tuple[int, int, int]


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder in evaluation mode.

    Attributes:
        settings: of the task, with its network.
        loaded: share of its parameters that came from weights.
    """

    settings: Settings
    encoder: nn.Module
    loaded: float
    device: torch.device

    @classmethod
    def load(cls, settings: Settings) -> FrozenEncoder:
        """Build the encoder from the seed, and fill it.

        Raises:
            UsageError, DataError: as `load_start`.
        """
        torch.manual_seed(settings.seed)
        encoder = build_encoder(settings.model, len(settings.task.channels))
        report = load_start(encoder, settings.model)
        device = device_alone(settings.run)[0]
        return cls(settings, encoder.to(device).eval(), 0.0 if report is None else report.encoder_share, device)

    def read(self, case: StoredCase) -> Tensor:
        """Return volume_1CXYZ of a case, in [0, 1]."""
        return to_unit(torch.from_numpy(case.read_channels())[None].to(self.device))

    @torch.no_grad()
    def embed(self, crops_NCXYZ: Tensor) -> Tensor:
        """Return features_NE."""
        features_NE: Tensor = self.encoder(crops_NCXYZ)
        return features_NE.float().cpu()

    @torch.no_grad()
    def maps(self, crop_1CXYZ: Tensor) -> list[Tensor]:
        """Return the feature maps of a crop, the finest first."""
        assert callable(self.encoder.feature_maps)
        return [level.float() for level in self.encoder.feature_maps(crop_1CXYZ)]

    def tiles(self, volume_1CXYZ: Tensor) -> Iterator[tuple[IntXYZ, Tensor]]:
        """Yield the lower corner of each window and the window, which together cover the volume.

        The last along an axis ends with the volume, so that zeros stand only beside volumes smaller than a window.
        """
        size = self.settings.task.patch_size
        shape = volume_1CXYZ.shape[2:]
        short = [max(0, window - edge) for edge, window in zip(shape, size, strict=True)]
        padded = F.pad(volume_1CXYZ, [amount for axis in reversed(short) for amount in (0, axis)])
        starts = [
            dict.fromkeys([*range(0, max(edge - window, 0), window), max(edge - window, 0)])
            for edge, window in zip(shape, size, strict=True)
        ]
        for x, y, z in product(*starts):
            yield (x, y, z), padded[:, :, x : x + size[0], y : y + size[1], z : z + size[2]]

    def regions(self, volume_1CXYZ: Tensor) -> Tensor:
        """Return features_RE of the eighths of a volume, each resized to a window of the task."""
        shape = volume_1CXYZ.shape[2:]
        crops = []
        for place in product(range(REGIONS), repeat=3):
            x, y, z = (
                slice(edge * n // REGIONS, edge * (n + 1) // REGIONS) for edge, n in zip(shape, place, strict=True)
            )
            crop = volume_1CXYZ[:, :, x, y, z]
            crops.append(F.interpolate(crop, size=self.settings.task.patch_size, mode="trilinear"))
        return torch.cat([self.embed(crop) for crop in crops])
