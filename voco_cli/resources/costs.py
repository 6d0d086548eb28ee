"""Memory and time of a training and of a prediction, by their settings, and one crop timed through the network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from voco_cli.config import Resolved, Settings
from voco_cli.errors import UsageError
from voco_cli.finetune.labelled_task import parameter_groups
from voco_cli.finetune.segmentation import needs_recomputing
from voco_cli.models.build import build_decoder, build_encoder, build_task_network, decode_groups
from voco_cli.models.memory import kept_bytes, plan_grouping, room_bytes, training_bytes
from voco_cli.models.weights import own_tensors
from voco_cli.models.weights.architecture import shapes_only
from voco_cli.predict.sliding_window import FLIPS, window_starts
from voco_cli.pretrain.task import build_model
from voco_cli.resources.amounts import Amount
from voco_cli.training.dataloader import batches_at_once, loader_workers
from voco_cli.training.distributed import in_half
from voco_cli.training.run_dir import RunFolder

CPU = torch.device("cpu")
FLOAT_BYTES = 4
PROCESS_BYTES = int(0.6e9)
"""A process with its libraries before it does anything; measured with torch on a CPU, and rounded up."""
CUDA_HOST_BYTES = int(2.5e9)
"""The same with a CUDA context."""
LOADER_BYTES = int(0.15e9)
"""What a loader process has of its own, besides its batches."""
CHECKPOINT_EXTRA_BYTES = 40_000
"""Headers, random states and the state of the task, in a checkpoint."""
DECODER = 2
"""A decoder keeps about as much as its encoder."""
TRANSFORMER_RECOMPUTED = 0.6
"""Share of the activations that stay where only a transformer computes them again."""
VOXEL_COPIES = 3
"""Float copies of the crops or patches of a step, besides the activations: moved, augmented, joined."""


@dataclass(frozen=True)
class Parameters:
    """Numbers in a model.

    Attributes:
        kept: parameters and buffers, a teacher's among them: what a checkpoint holds of the model.
        trained: parameters that the optimizer moves.
        exported: what the weights hold that are written beside the checkpoints.
    """

    kept: int
    trained: int
    exported: int

    def checkpoint_bytes(self, amsgrad: bool) -> int:
        """Return the size of a checkpoint: the model, the optimizer's moments, and what is written beside them.

        With AMSGrad the optimizer keeps the largest second moments, too.
        """
        return FLOAT_BYTES * (self.kept + self.trained * (3 if amsgrad else 2)) + CHECKPOINT_EXTRA_BYTES


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training takes: of the machine, and of the device where it has its own memory."""

    host_bytes: int
    device_bytes: int


def build_for_training(settings: Settings) -> nn.Module:
    """Build the model that the settings train."""
    if settings.task.preset is None:
        return build_model(settings, torch.device("cpu"))
    return build_task_network(settings)


def count_parameters(settings: Settings) -> Parameters:
    """Count the numbers of the model that the settings ask for, without making it."""
    with shapes_only():
        model = build_for_training(settings)
    if settings.task.preset is None:
        exported = model.encoder
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    else:
        exported = model
        trained = sum(p.numel() for group in parameter_groups(model, settings) for p in group.parameters)
    assert isinstance(exported, nn.Module)
    return Parameters(_numbers(model), trained, _numbers(exported))


def training_footprint(settings: Settings, device: torch.device, loader_processes: int) -> Footprint:
    """Estimate what a training takes.

    Args:
        device: where it will run; free memory there decides whether activations are recomputed.
        loader_processes: of this run.
    """
    parameters, voxels = count_parameters(settings), batch_voxels(settings)
    working = training_bytes(parameters.kept, parameters.trained, amsgrad=settings.train.amsgrad)
    working += activation_bytes(settings, device, working)
    working += VOXEL_COPIES * FLOAT_BYTES * voxels
    batch_bytes = voxels  # as stored, a byte a voxel at least
    loading = loader_processes * (LOADER_BYTES + batch_bytes * batches_at_once(settings.data))
    if device.type == "cuda":
        return Footprint(CUDA_HOST_BYTES + loading + batch_bytes, working)
    return Footprint(PROCESS_BYTES + loading + batch_bytes + working, 0)


def activation_bytes(settings: Settings, device: torch.device, network_bytes: int = 0) -> int:
    """Return the activations that a step keeps at one time.

    Args:
        network_bytes: what networks and optimizer will take of a GPU.
    """
    half = in_half(settings.run, device)
    rows, size = rows_per_batch(settings), settings.input_size_vox
    decoder = settings.objective.decoder if settings.task.preset is None else None
    row_bytes = kept_bytes(settings.model, device, half=half, decoder=decoder) * math.prod(size)
    if settings.task.preset is not None and settings.task.is_voxelwise:
        if not needs_recomputing(settings, device):
            return int(DECODER * row_bytes * rows)
        return int(DECODER * row_bytes * (1 if device.type == "cpu" else rows * TRANSFORMER_RECOMPUTED))
    grouping = plan_grouping(
        settings.model, rows, size, device, half=half, network_bytes=network_bytes, decoder=decoder
    )
    return int(row_bytes * (grouping.size if grouping.recompute else rows))


def rows_per_batch(settings: Settings) -> int:
    """Return how many crops, patches or volumes of a batch go through the network."""
    task, batch = settings.task, settings.train.batch_size
    if task.preset is None:
        return batch * settings.objective.encoder_passes(settings.crops)[0]
    return batch * task.patches_per_volume if task.is_voxelwise else batch


def batch_voxels(settings: Settings) -> int:
    """Return the voxels that go through the network in a batch, all channels and the label map."""
    task = settings.task
    channels = 1 if task.preset is None else len(task.channels) + task.is_voxelwise
    return rows_per_batch(settings) * math.prod(settings.input_size_vox) * channels


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in own_tensors(network).values())


BACKWARD = 2.0
"""A backward pass takes about twice its forward pass."""
LARGEST_TRIED_VOX = 64**3
TRIED_ON_DEVICE = 8
"""So many times as much goes through a network on a GPU, or the overhead of each layer would be most of the time."""
TIME_FACTOR = 2.0
"""An estimate of time may be wrong by this factor either way."""
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
START_S = 8.0
"""Until a run has its libraries and its network: 6 to 10 of those measured."""
PICTURE_S, PICTURE_BYTES = 1.0, 150_000
"""Drawing a validation of a pre-training."""
LONG_S = 2 * 3600.0
"""Runs below this need no question."""


def forward_seconds(network: Callable[[torch.Tensor], torch.Tensor], inputs_NCXYZ: torch.Tensor) -> float:
    """Time a forward pass on the device of its input: the faster of two, as other programs may disturb one."""
    took_s = []
    with torch.no_grad():
        for _ in range(3):
            began_s = time.perf_counter()
            network(inputs_NCXYZ).sum().item()  # read back, so that a device has done it
            took_s.append(time.perf_counter() - began_s)
    return min(took_s[1:])  # the first call makes room


def crop_seconds(settings: Settings, device: torch.device = CPU) -> float:
    """Time one crop, patch or volume through the network, forward, where the run will compute.

    Small ones are timed several at once, as training takes them: alone, the overhead of each layer is most of their
    time. Of a large one a part of at most 64 x 64 x 64 voxels is timed and scaled up. A pre-training is timed by its
    encoder, and by the decoder of those of its objectives that have one. On a GPU no more goes in than there is room
    for.
    """
    size, half = settings.input_size_vox, in_half(settings.run, device)
    tried = size if math.prod(size) <= LARGEST_TRIED_VOX else (64, 64, 64)
    at_once = LARGEST_TRIED_VOX * (1 if device.type == "cpu" else TRIED_ON_DEVICE) // math.prod(tried)
    if device.type == "cuda":
        of_one = kept_bytes(settings.model, device, half=half) * math.prod(tried)
        at_once = min(at_once, max(1, int(room_bytes(device) / of_one)))
    at_once = min(rows_per_batch(settings), at_once)
    pretraining = settings.task.preset is None
    with torch.random.fork_rng(devices=[]), torch.autocast(device.type, torch.bfloat16, enabled=half):
        crops = torch.rand(at_once, 1 if pretraining else len(settings.task.channels), *tried, device=device)
        if not pretraining:
            seconds = forward_seconds(build_task_network(settings).eval().to(device), crops)
        else:
            encoder = build_encoder(settings.model).eval().to(device)
            seconds = forward_seconds(encoder, crops)
            if kind := settings.objective.decoder:
                decoder = build_decoder(settings.model, encoder, 1, kind).eval().to(device)
                decoded = forward_seconds(
                    lambda crops: decode_groups(encoder, decoder, crops, None, recompute=False, training=False), crops
                )
                seconds += settings.objective.decoded_share(settings.crops) * (decoded - seconds)
        return seconds / at_once * math.prod(size) / math.prod(tried)


def pass_seconds(settings: Settings, device: torch.device) -> Amount:
    """Return the seconds of one crop, patch or volume through the network, forward, where the run will compute."""
    seconds = crop_seconds(settings, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what was timed is not counted as taken
    return Amount.within(seconds, TIME_FACTOR)


def passes_per_step(settings: Settings) -> float:
    """Return the forward passes that an optimizer step is worth; a teacher network adds one for each crop."""
    own, teacher = settings.objective.encoder_passes(settings.crops) if settings.task.preset is None else (1, 0)
    return rows_per_batch(settings) * settings.train.accumulate * (1.0 + BACKWARD + teacher / own)


def step_seconds(settings: Settings, one_pass: Amount) -> Amount:
    """Return the seconds of an optimizer step: computing, or what the loader processes need where that is more."""
    compute = one_pass.times(passes_per_step(settings))
    if settings.task.preset is None:
        stored_vox = rows_per_batch(settings) * math.prod(settings.crops.size)  # resized only on the device
    else:
        stored_vox = batch_voxels(settings)
    reading_s = settings.train.accumulate * stored_vox * LOAD_S[settings.cache.codec]
    loaders = loader_workers(settings.data)
    if not loaders:
        return compute.plus(reading_s)
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
    if not settings.task.is_voxelwise:
        return one_pass
    windows = one_pass.times(count_windows(shape_xyz, settings) * (len(FLIPS) if settings.predict.flips else 1))
    return windows.plus(source_vox * settings.task.num_outputs * RESAMPLE_S)


def validation_seconds(settings: Settings, num_held_out: int, one_pass: Amount) -> Amount:
    """Return the seconds of a validation of a pre-training: its crops through student and teacher, and a picture."""
    crops = settings.crops.model_copy(update={"random_per_volume": settings.health.crops_per_case})
    passes = min(num_held_out, settings.health.cases) * sum(settings.objective.encoder_passes(crops))
    return one_pass.times(passes).plus(PICTURE_S)


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
