"""The network of weights that a task is drafted for: sizes and multiples of the draft follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voco_cli.errors import DataError, UsageError
from voco_cli.settings import read_saved

Backbone = Literal["unet", "swinunetr"]
SETTINGS_FILE = "settings.yaml"
SWIN_MULTIPLE = 32


@dataclass(frozen=True)
class Network:
    """What a task file says of its network.

    Attributes:
        feature_size: channels of the first level.
        levels: of the unet; each but the first halves the volume.
    """

    backbone: Backbone
    feature_size: int
    levels: int

    @property
    def multiple(self) -> int:
        """Voxels that each edge of a patch is a multiple of."""
        return SWIN_MULTIPLE if self.backbone == "swinunetr" else 2 ** (self.levels - 1)


def network_of(weights: str, trust_pickle: bool = False) -> Network:
    """The network that weights were trained in.

    A run says it in its settings, so that nothing heavy is loaded; of other files the tensors tell.

    Args:
        trust_pickle: let a pickled file run the code that it names.
    Raises:
        DataError: there are no weights, or damaged ones.
        UsageError: they belong to a network that no task can have.
    """
    run = Path(weights)
    if (run / SETTINGS_FILE).is_file():
        if not any(run.glob("weights/*.safetensors")) and not any(run.glob("checkpoints/step-*/model.safetensors")):
            raise DataError(f"{run} has no weights yet.", "let the run come to its first checkpoint")
        model = read_saved(run / SETTINGS_FILE).model
        return Network(model.backbone, model.feature_size, model.levels)
    from voco_cli.networks.weights.read import read_weights

    found = read_weights(weights, trust_pickle=trust_pickle).architecture
    if found is None:
        raise UsageError(f"{weights} does not tell its network.", "`voco weights inspect` shows what it holds")
    if not found.is_ours:
        raise UsageError(
            f"{weights} is of {found.encoder_words}, and no task has such a network.",
            f"in Python it is {found.monai_call()}",
        )
    backbone: Backbone = "swinunetr" if found.backbone == "swinunetr" else "unet"
    return Network(backbone, found.feature_size, len(found.filters))
