"""What training will take by its settings alone: parameters and activations counted, nothing run.

It decides whether a trial is safe, and which other settings might fit; a trial says how much it really is.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from voco_cli.engine.device import in_half
from voco_cli.finetuning.classification_job import build_network as build_classification
from voco_cli.finetuning.parameter_groups import parameter_groups
from voco_cli.finetuning.segmentation_job import build_network as build_segmentation
from voco_cli.finetuning.segmentation_job import needs_recomputing
from voco_cli.networks.activation_memory import kept_bytes, plan_grouping
from voco_cli.networks.weights import own_tensors
from voco_cli.networks.weights.architecture import shapes_only
from voco_cli.planning.tried import FLOAT_BYTES, PROCESS_BYTES, Footprint, Parameters
from voco_cli.pretraining.job import build_model
from voco_cli.settings import Settings

CPU = torch.device("cpu")
CUDA_HOST_BYTES = int(2.5e9)
"""The same with a CUDA context."""
LOADER_BYTES = int(0.15e9)
"""What a loader process has of its own, besides its batches."""
DECODER = 2
"""A decoder keeps about as much as its encoder."""
TRANSFORMER_RECOMPUTED = 0.6
"""Share of a SwinUNETR's activations that stay where only its transformer computes them again."""
VOXEL_COPIES = 3
"""Float copies of the crops or patches of a step, besides the activations: moved, augmented, joined."""


def count_parameters(settings: Settings) -> Parameters:
    """Count the numbers of the model that the settings ask for, without making it."""
    with shapes_only():
        model = _build(settings)
    exported = model if settings.task.preset is not None else model.encoder
    assert isinstance(exported, nn.Module)
    if settings.task.preset is not None:
        trained = sum(p.numel() for group in parameter_groups(model, settings) for p in group.parameters)
    else:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Parameters(_numbers(model), trained, _numbers(exported))


def training_footprint(settings: Settings, device: torch.device, loader_processes: int) -> Footprint:
    """Estimate what a training takes.

    Args:
        device: where it will run; free memory there decides whether activations are recomputed.
        loader_processes: of this run.
    """
    parameters = count_parameters(settings)
    voxels = step_voxels(settings)
    working = parameters.training_bytes(settings.train.amsgrad)
    working += activation_bytes(settings, device, working)
    working += VOXEL_COPIES * FLOAT_BYTES * voxels
    batch_bytes = voxels  # as stored, a byte a voxel at least
    loading = loader_processes * (LOADER_BYTES + batch_bytes * settings.data.prefetch)
    if device.type == "cuda":
        return Footprint(CUDA_HOST_BYTES + loading + batch_bytes, working, parameters)
    return Footprint(PROCESS_BYTES + loading + batch_bytes + working, 0, parameters)


def activation_bytes(settings: Settings, device: torch.device, network_bytes: int = 0) -> int:
    """Activations that a step keeps at one time."""
    task, model, train = settings.task, settings.model, settings.train
    half = in_half(settings.run, device)
    of_voxel = kept_bytes(model, device, half=half)
    if task.preset is not None and task.kind == "segmentation":
        patches = train.batch_size * task.patches_per_volume
        kept = DECODER * of_voxel * math.prod(task.patch_size)
        if not needs_recomputing(settings, device):
            return int(kept * patches)
        return int(kept * (1 if device.type == "cpu" else patches * TRANSFORMER_RECOMPUTED))
    rows, size = _rows(settings)
    grouping = plan_grouping(model, rows, size, device, half=half, network_bytes=network_bytes)
    return int(of_voxel * math.prod(size) * (grouping.size if grouping.recompute else rows))


def step_voxels(settings: Settings) -> int:
    """Voxels that go through the network in a batch, all channels."""
    task = settings.task
    if task.preset is not None and task.kind == "segmentation":
        patches = settings.train.batch_size * task.patches_per_volume
        return patches * math.prod(task.patch_size) * (1 + len(task.channels))
    rows, size = _rows(settings)
    return rows * math.prod(size) * (len(task.channels) if task.preset is not None else 1)


def _rows(settings: Settings) -> tuple[int, tuple[int, int, int]]:
    """Crops of a step and their size; of a classification, its volumes."""
    batch = settings.train.batch_size
    if settings.task.preset is not None:
        size = settings.preprocess.resize_vox
        assert size is not None  # the settings see to it
        return batch, size
    crops = settings.crops
    return batch * (crops.random_per_volume + math.prod(crops.grid_xyz)), crops.network_size_vox


def _build(settings: Settings) -> nn.Module:
    if settings.task.preset is None:
        return build_model(settings, CPU)
    if settings.task.kind == "classification":
        return build_classification(settings, CPU)
    return build_segmentation(settings, recompute=False)


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in own_tensors(network).values())
