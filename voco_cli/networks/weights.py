"""Encoder weights as users take them away: a safetensors file and a JSON beside it that says what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from voco_cli.cache.whole_files import write_whole
from voco_cli.errors import DataError

FORMAT = "voco-encoder/1"
MONAI_NETWORK = {"swinunetr": "monai.networks.nets.SwinUNETR", "unet": "monai.networks.nets.DynUNet"}
"""Networks whose tensors have the names that the file holds."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a file, by name.

    Attributes:
        loaded: put into the network.
        missing: in the network's encoder-like part or elsewhere, but not in the file.
        unexpected: in the file, but not in the network.
        mismatched: in both, of different shapes; left as they were.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        in_file = len(self.loaded) + len(self.unexpected) + len(self.mismatched)
        return (
            f"{len(self.loaded)} of {in_file} tensors of the file loaded, {len(self.mismatched)} of another shape, "
            f"{len(self.unexpected)} unknown to the network; {len(self.missing)} of the network keep their values"
        )


def write_encoder(folder: Path, encoder: nn.Module, about: dict[str, Any]) -> int:
    """Write ``encoder.safetensors`` and ``encoder.json``.

    Args:
        folder: made if missing.
        encoder: its tensors bear MONAI's names already.
        about: backbone, sizes, preprocessing, step: what a reader needs to use the weights.
    Returns:
        number of tensors.
    Raises:
        ResourceError: the disk is full.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    description = {
        "format": FORMAT,
        **about,
        "loads_into": MONAI_NETWORK[about["model"]["backbone"]],
        "names": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
    write_whole(folder / "encoder.safetensors", save(tensors, {"format": FORMAT}))
    write_whole(folder / "encoder.json", json.dumps(description, indent=1).encode())
    return len(tensors)


def load_encoder(network: nn.Module, path: Path) -> LoadReport:
    """Put the tensors of an encoder file into a network that has some of the same names.

    Returns:
        the fate of each tensor; nothing is passed over in silence.
    Raises:
        DataError: the file cannot be read, or nothing in it fits the network.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as safetensors ({str(error).splitlines()[0]}).") from error
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    report = LoadReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in fitting),
        unexpected=tuple(name for name in tensors if name not in own),
        mismatched=tuple(name for name in tensors if name in own and name not in fitting),
    )
    if not fitting:
        raise DataError(f"No tensor of {path} fits the network.", "see encoder.json beside it for what it was made for")
    network.load_state_dict(fitting, strict=False)
    return report
