"""Memory of a training by its settings alone: parameters and activations counted, nothing run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from voco_cli.config import Settings
from voco_cli.finetune.classification import build_network as build_classification
from voco_cli.finetune.labelled_task import parameter_groups
from voco_cli.finetune.segmentation import build_network as build_segmentation
from voco_cli.finetune.segmentation import needs_recomputing
from voco_cli.models.memory import kept_bytes, plan_grouping, training_bytes
from voco_cli.models.weights import own_tensors
from voco_cli.models.weights.architecture import shapes_only
from voco_cli.pretrain.task import build_model
from voco_cli.training.distributed import in_half

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
"""Share of a SwinUNETR's activations that stay where only its transformer computes them again."""
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
    if settings.task.kind == "classification":
        return build_classification(settings, torch.device("cpu"))
    return build_segmentation(settings, recompute=False)


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
    parameters, voxels = count_parameters(settings), step_voxels(settings)
    working = training_bytes(parameters.kept, parameters.trained, amsgrad=settings.train.amsgrad)
    working += activation_bytes(settings, device, working)
    working += VOXEL_COPIES * FLOAT_BYTES * voxels
    batch_bytes = voxels  # as stored, a byte a voxel at least
    loading = loader_processes * (LOADER_BYTES + batch_bytes * settings.data.prefetch)
    if device.type == "cuda":
        return Footprint(CUDA_HOST_BYTES + loading + batch_bytes, working)
    return Footprint(PROCESS_BYTES + loading + batch_bytes + working, 0)


def activation_bytes(settings: Settings, device: torch.device, network_bytes: int = 0) -> int:
    """Return the activations that a step keeps at one time."""
    half = in_half(settings.run, device)
    rows, size = network_rows(settings)
    row_bytes = kept_bytes(settings.model, device, half=half) * math.prod(size)
    if settings.task.preset is not None and settings.task.kind == "segmentation":
        if not needs_recomputing(settings, device):
            return int(DECODER * row_bytes * rows)
        return int(DECODER * row_bytes * (1 if device.type == "cpu" else rows * TRANSFORMER_RECOMPUTED))
    grouping = plan_grouping(settings.model, rows, size, device, half=half, network_bytes=network_bytes)
    return int(row_bytes * (grouping.size if grouping.recompute else rows))


def network_rows(settings: Settings) -> tuple[int, tuple[int, int, int]]:
    """Return how many crops, patches or volumes of a batch go through the network, and their size, voxels."""
    task, crops, batch = settings.task, settings.crops, settings.train.batch_size
    if task.preset is None:
        return batch * settings.objective.encoder_passes(crops)[0], crops.network_size_vox
    if task.kind == "segmentation":
        return batch * task.patches_per_volume, task.patch_size
    assert settings.preprocess.resize_vox is not None  # the settings see to it
    return batch, settings.preprocess.resize_vox


def step_voxels(settings: Settings) -> int:
    """Return the voxels that go through the network in a batch, all channels and the label map."""
    rows, size = network_rows(settings)
    task = settings.task
    channels = 1 if task.preset is None else len(task.channels) + (task.kind == "segmentation")
    return rows * math.prod(size) * channels


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in own_tensors(network).values())
