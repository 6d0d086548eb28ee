"""Seconds of a run: one crop timed on the processor, or a table for a GPU, times the passes that the run is worth."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

import torch

from voco_cli.config import Resolved, Settings
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.predict.sliding_window import FLIPS, window_starts
from voco_cli.resources.amounts import Amount
from voco_cli.resources.memory import build_for_training, network_rows
from voco_cli.training.dataloader import loader_workers
from voco_cli.training.distributed import in_half
from voco_cli.training.run_dir import RunFolder

BACKWARD = 2.0
"""A backward pass takes about twice its forward pass."""
LARGEST_TRIED_VOX = 64**3
GPU_PASS_S = {"swinunetr": 0.067e-9, "unet": 0.08e-9}
"""A forward pass on an H100 in bf16, seconds of each voxel and each channel of the first level. Measured for swinunetr,
with steps of cvpr and tpami at 48, 96 and 192 channels, a backward pass counted as two: 0.060 to 0.071; for unet worked
out from its operations at the same rate."""
FULL_PRECISION = 2.5
"""A pass in fp32, of one in bf16."""
GPU_DECODER = 2.0
"""A network with its decoder, of its encoder alone."""
H100_MULTIPROCESSORS = 132
CPU_FACTOR, GPU_FACTOR = 2.0, 3.0
"""An estimate of time may be wrong by these factors either way."""
LOAD_S = {"zstd": 0.5e-9, "lz4": 0.2e-9}
"""A loader's share of a volume, seconds of each voxel of its crops; measured on a core of an AMD EPYC."""
RESAMPLE_S = 4.7e-9
"""From logits to labels, seconds of each voxel of a scan and each output; measured as above."""
MEASURE_S = 2e-9
"""Metrics of a label map, seconds of each voxel of a scan and each class; measured as above."""
SURVEY_S = 15e-9
"""Going through a label map before training, seconds of each preprocessed voxel; measured as above."""
WRITE_BYTES_PER_S = 200e6
"""A checkpoint to a disk."""
START_S = {"swinunetr": 10.0, "unet": 6.0}
"""Until a run has its libraries and its network."""
PICTURE_S, PICTURE_BYTES = 1.0, 150_000
"""Drawing a validation of a pre-training."""
LONG_S = 2 * 3600.0
"""Runs below this need no question."""


def crop_seconds(settings: Settings) -> float:
    """Time one crop, patch or volume through the network, forward, on the processor.

    Small ones are timed several at once, as training takes them: alone, the overhead of each layer is most of their
    time. Of a large one a part of at most 64 x 64 x 64 voxels is timed and scaled up. A pre-training is timed by its
    encoder. The faster of two passes counts, as other programs may disturb one.
    """
    rows, size = network_rows(settings)
    tried = size if math.prod(size) <= LARGEST_TRIED_VOX else (64, 64, 64)
    at_once = min(rows, LARGEST_TRIED_VOX // math.prod(tried))
    pretraining = settings.task.preset is None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = (build_encoder(settings.model) if pretraining else build_for_training(settings)).eval()
        crops = torch.rand(at_once, 1 if pretraining else len(settings.task.channels), *tried)
        network(crops)  # the first call makes room
        took_s = []
        for _ in range(2):
            began_s = time.perf_counter()
            network(crops)
            took_s.append(time.perf_counter() - began_s)
    return min(took_s) / at_once * math.prod(size) / math.prod(tried)


def table_seconds(settings: Settings, device: torch.device) -> float:
    """Look up one crop, patch or volume through the network, forward, on a GPU; by its multiprocessors where other."""
    model = settings.model
    of_voxel = GPU_PASS_S[model.backbone] * model.feature_size
    of_voxel *= 1.0 if in_half(settings.run, device) else FULL_PRECISION
    of_voxel *= 1.0 if settings.task.preset is None or settings.task.kind == "classification" else GPU_DECODER
    of_voxel *= H100_MULTIPROCESSORS / torch.cuda.get_device_properties(device).multi_processor_count
    return of_voxel * math.prod(network_rows(settings)[1])


def pass_seconds(settings: Settings, device: torch.device) -> Amount:
    """Return the seconds of one crop, patch or volume through the network, forward, where the run will compute."""
    if device.type == "cuda":
        return Amount.within(table_seconds(settings, device), GPU_FACTOR)
    return Amount.within(crop_seconds(settings), CPU_FACTOR)


def passes_per_step(settings: Settings) -> float:
    """Return the forward passes that an optimizer step is worth; a teacher network adds one for each crop."""
    own, teacher = settings.objective.encoder_passes(settings.crops) if settings.task.preset is None else (1, 0)
    return network_rows(settings)[0] * settings.train.accumulate * (1.0 + BACKWARD + teacher / own)


def step_seconds(settings: Settings, one_pass: Amount) -> Amount:
    """Return the seconds of an optimizer step: computing, or what the loader processes need where that is more."""
    compute = one_pass.times(passes_per_step(settings))
    task, crops = settings.task, settings.crops
    if task.preset is None:
        bases = math.prod(crops.grid_xyz) * math.prod(crops.base_size_vox)
        stored_vox = settings.train.batch_size * (crops.random_per_volume * math.prod(crops.size) + bases)
    else:
        rows, size = network_rows(settings)
        stored_vox = rows * math.prod(size) * (len(task.channels) + 1)
    reading_s = settings.train.accumulate * stored_vox * LOAD_S[settings.cache.codec]
    loaders = loader_workers(settings.data)
    if not loaders:
        return Amount(compute.value + reading_s, "estimated", compute.low + reading_s, compute.high + reading_s)
    low, value, high = (max(one, reading_s / loaders) for one in (compute.low, compute.value, compute.high))
    return Amount(value, "estimated", low, high)


def count_windows(shape_xyz: tuple[int, int, int], settings: Settings) -> int:
    """Count the windows over a preprocessed volume."""
    pairs = zip(shape_xyz, settings.task.patch_size, strict=True)
    return math.prod(len(window_starts(size, window, settings.predict.overlap)) for size, window in pairs)


def case_seconds(shape_xyz: tuple[int, int, int], source_vox: int, settings: Settings, one_pass: Amount) -> Amount:
    """Return the seconds of predicting a preprocessed case.

    Args:
        shape_xyz: of the preprocessed volume.
        source_vox: voxels of its scan, one channel.
    """
    if settings.task.kind == "classification":
        return one_pass
    windows = one_pass.times(count_windows(shape_xyz, settings) * (len(FLIPS) if settings.predict.flips else 1))
    rest_s = source_vox * settings.task.num_outputs * RESAMPLE_S
    return Amount(windows.value + rest_s, windows.known, windows.low + rest_s, windows.high + rest_s)


def validation_seconds(settings: Settings, num_held_out: int, one_pass: Amount) -> Amount:
    """Return the seconds of a validation of a pre-training: its crops through student and teacher, and a picture."""
    crops = settings.crops.model_copy(update={"random_per_volume": settings.health.crops_per_case})
    look = one_pass.times(min(num_held_out, settings.health.cases) * sum(settings.objective.encoder_passes(crops)))
    return Amount(look.value + PICTURE_S, "estimated", look.low, look.high + PICTURE_S)


def require_choice(resolved: Resolved, command: str, measure: Callable[[Settings], float] | None = None) -> None:
    """Refuse to begin days of work on a processor under a recipe that nobody has named.

    Args:
        command: what was typed, for the hint.
        measure: seconds of one crop forward through the encoder; None times it.
    Raises:
        UsageError: the recipe is the default one, there is no GPU, and the run would be long; with how long.
    """
    settings = resolved.settings
    if resolved.sources["recipe"] != "default" or _has_gpu(settings.run.device):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or RunFolder(settings.run.dir).is_started():
        return
    crop_s = (measure or crop_seconds)(settings)
    run_s = crop_s * passes_per_step(settings) * settings.train.steps
    if run_s < LONG_S:
        return
    size = "x".join(map(str, settings.crops.network_size_vox))
    raise UsageError(
        f"No recipe was chosen, and the default, {settings.recipe}, would take about {_long(run_s)} on this "
        f"processor ({settings.train.steps:,} steps; a crop of {size} voxels took its network {crop_s:.2g} s "
        f"just now).",
        f"`{command} --recipe debug` shows in minutes whether it learns on these scans; "
        f"`{command} --recipe {settings.recipe}` begins the long run",
    )


def _has_gpu(device: str) -> bool:
    if device == "auto":
        return torch.cuda.is_available() or torch.backends.mps.is_available()
    return device != "cpu"


def _long(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.0f} hours"
    days = hours / 24
    return f"{days:,.0f} days" if days < 730 else f"{days / 365:.0f} years"
