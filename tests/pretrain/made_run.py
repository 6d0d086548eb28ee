"""A finished pre-training run of four steps, its scans, and the literal way from a scan to logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional as F

from tests.pretrain.tiny_run import TINY, tiny_run, write_data
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.reader import read_scan
from voco_cli.models.build import build_encoder

SHORT = ("train.steps=4", "train.validate_every=4", "train.lr=0.01")
BASES = [(0, 0, 0), (0, 24, 0), (24, 0, 0), (24, 24, 0)]
"""Lower corners of the base crops: x slowest."""
SIZE = 24


@dataclass(frozen=True)
class MadeRun:
    """A run folder, and scans that it was not trained on."""

    run: Path
    scans: list[Path]

    @property
    def settings(self) -> Settings:
        return load_settings("debug", None, (*TINY, *SHORT), {}).settings


def made_run(folder: Path) -> MadeRun:
    """Pre-train for four steps."""
    data = write_data(folder / "data", 3, 2)
    tiny_run(data, folder / "run", *SHORT)
    return MadeRun(folder / "run", [entry.image for entry in read_datalist(data).validation])


def stored_volume(path: Path, settings: Settings) -> NDArray[np.float32]:
    """The preprocessed scan in the 256 steps of the cache."""
    volume = preprocess(read_scan(path), settings.preprocess).array_xyz
    return (np.rint(volume * 255) / 255).astype(np.float32)


def cut(volume: NDArray[np.float32], start: tuple[int, int, int]) -> NDArray[np.float32]:
    x, y, z = start
    return volume[x : x + SIZE, y : y + SIZE, z : z + SIZE]


def tensors_of(made: MadeRun, step: int = 4) -> dict[str, torch.Tensor]:
    return load_file(made.run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def literal_features(made: MadeRun, crops: list[NDArray[np.float32]], branch: str = "encoder") -> torch.Tensor:
    """Each crop alone through the encoder of the checkpoint."""
    encoder = build_encoder(made.settings.model)
    prefix = f"{branch}."
    encoder.load_state_dict(
        {name.removeprefix(prefix): t for name, t in tensors_of(made).items() if name.startswith(prefix)}
    )
    encoder.eval()
    with torch.no_grad():
        return torch.cat([encoder(torch.from_numpy(crop.copy())[None, None]) for crop in crops])


def literal_projection(made: MadeRun, features: torch.Tensor, branch: str = "projector") -> torch.Tensor:
    """Linear, batch norm over all rows, ReLU, linear."""
    tensors = tensors_of(made)
    hidden = features @ tensors[f"{branch}.0.weight"].T + tensors[f"{branch}.0.bias"]
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, unbiased=False) + 1e-5)
    return hidden.relu() @ tensors[f"{branch}.3.weight"].T + tensors[f"{branch}.3.bias"]


def literal_logits(
    made: MadeRun,
    random: list[NDArray[np.float32]],
    bases: list[NDArray[np.float32]],
    others: list[NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Logits of crops over base crops; ``others`` are base crops that are projected along and not asked about."""
    crops = [*random, *(others or []), *bases]
    student = literal_projection(made, literal_features(made, crops))
    teacher = literal_projection(made, literal_features(made, crops, "teacher_encoder"), "teacher_projector")

    def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.stack([F.cosine_similarity(one, other, dim=0) for other in b]) for one in a])

    n, k = len(random), len(bases)
    forth, back = cosines(student[:n], teacher[-k:]), cosines(teacher[:n], student[-k:])
    return (0.5 * (forth.relu() + back.relu())).numpy()
