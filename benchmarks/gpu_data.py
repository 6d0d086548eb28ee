"""Whether the loader keeps up with the GPU: real loader processes on made volumes, and the share of time that waits.

Needs blosc2, pydantic and PyYAML beside torch; without them `missing` says so and the rest of the benchmark goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

NEEDED = ("blosc2", "pydantic", "yaml")
VOLUMES = 16
RECIPES = Path(__file__).parent.parent / "voco_cli" / "config" / "recipes"


def missing() -> list[str]:
    """What this part needs and the machine lacks."""
    return [name for name in NEEDED if find_spec(name) is None]


def write_volume(path: Path, shape: tuple[int, int, int], seed: int) -> None:
    """A volume in our cache's format: noisy tissue in the middle half, nothing around it."""
    from voco_cli.config.schema import Cache
    from voco_cli.data.cache.volume import compress

    stored = np.random.default_rng(seed).normal(120, 8, shape).clip(0, 255).astype(np.uint8)
    stored[: shape[0] // 4], stored[-shape[0] // 4 :] = 0, 0
    path.write_bytes(compress(stored, Cache()).to_cframe())


def settings_of(recipe: str, loaders: int, sizes: dict[str, Any]) -> Any:
    """The recipe of that name as it is shipped, with so many loader processes and other sizes where asked."""
    import yaml

    from voco_cli.config import Settings

    values = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())
    for section, fields in {"data": {"workers": loaders}, **sizes}.items():
        values[section] = {**values.get(section, {}), **fields}
    return Settings.model_validate({**values, "recipe": recipe})


def wait_share(
    recipe: str,
    loaders: int,
    step: Callable[[Any], object],
    seconds: float,
    device: torch.device,
    sizes: dict[str, Any],
) -> tuple[float, float]:
    """Take steps on what the loader gives.

    Args:
        step: gets a `CropBatch`; what it returns is not looked at.
        sizes: other settings than the recipe's, by section.
    Returns:
        share of the time that waited for batches, and volumes a second.
    """
    from voco_cli.data.cache.volume import StoredVolume
    from voco_cli.objectives.objective import Case
    from voco_cli.objectives.voco.sampling import CropSampler
    from voco_cli.pretrain.dataset import PretrainingDataset
    from voco_cli.training.dataloader import BatchPlan, load_batches
    from voco_cli.training.task import DeviceContext

    settings = settings_of(recipe, loaders, sizes)
    size, waited, taken = settings.train.batch_size, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.b2nd" for i in range(VOLUMES)]
        for seed, path in enumerate(paths):
            write_volume(path, settings.crops.region_vox, seed)
        cases = [Case(path.stem, StoredVolume(path)) for path in paths]
        dataset = PretrainingDataset(cases, CropSampler(settings, 1))
        plan, place = BatchPlan(VOLUMES, size, 0), DeviceContext(device, 0, 1, nullcontext)
        with closing(load_batches(dataset, plan, (0, 10**9), dataset.collate, settings.data, place)) as batches:
            for _ in range(1 + loaders):
                step(next(batches).drawn)
            _finish(device)
            begin = time.perf_counter()
            while not taken or time.perf_counter() - begin < seconds:
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                step(batch.drawn)
                taken += size
            _finish(device)
            whole = time.perf_counter() - begin
    return waited / whole, taken / whole


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
