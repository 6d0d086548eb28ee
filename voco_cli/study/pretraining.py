"""Pre-trainings of a study: their scans and settings, drafted from the task so that both see volumes alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from voco_cli.atomic_files import write_atomic
from voco_cli.config import Settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.config.sources import nest, recipe_layer
from voco_cli.config.validation import multiples
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.errors import DataError, UsageError
from voco_cli.study.arms import PRETRAINING
from voco_cli.study.plan import RECIPE_FILE

SizeXYZ = tuple[int, int, int]

SMALL_QUARTER = 25
"""Percentile of the edges that crops are sized for; smaller volumes are padded, so that none is left out."""
LARGEST_EDGE = 96
EVEN = 4
GRIDS = (4, 3, 2)
"""Base crops along x and y, the most first."""
OF_TASK = ("weights", "weights_branch", "weights_merging", "min_loaded", "input_channels", "trust_pickle")
OF_RECIPE = ("projector_hidden", "projector_out")
"""Settings of ``model`` that a pre-training does not take from the task."""


def unlabelled(datalist: Datalist) -> Datalist:
    """Return the images of a task as scans to pre-train on: each channel a scan, no labels, none of the test split."""

    def images(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        bare = {"label": None, "category": None, "case": None}
        return tuple(one.model_copy(update=bare) for entry in entries for one in entry.channel_entries())

    return Datalist(
        name=datalist.name,
        modality=datalist.modality,
        training=images(datalist.training),
        validation=images(datalist.validation),
    )


def draft_crops(shapes: Sequence[SizeXYZ], backbone: str, levels: int) -> dict[str, Any]:
    """Return grid and crops that suit volumes, as settings, and the size that smaller volumes are padded to.

    The grid is the finest of `GRIDS` whose base crops the network takes; crops are at most twice as tall as wide.

    Args:
        shapes: of preprocessed volumes, voxels.
        backbone, levels: of the network, whose multiples crops must keep to.
    Raises:
        UsageError: the volumes are too small for two by two crops.
    """
    x, y, z = np.percentile(np.array(shapes), SMALL_QUARTER, axis=0).astype(int).tolist()
    rules = BACKBONES[backbone]
    multiple = rules.multiple(levels)
    least = multiple + 1 if rules.any_size else multiple
    for grid in GRIDS:
        width, depth = (_even(min(edge / grid, LARGEST_EDGE)) for edge in (x, y))
        height = _even(min(z, LARGEST_EDGE, 2 * max(width, depth)))
        size = (width, depth, height)
        if min(size) >= least or (grid == GRIDS[-1] and min(size) >= 2):
            break
    else:
        raise UsageError(
            f"The scans are of about {x}x{y}x{z} voxels, too small to be cut into crops.",
            "give crops with --pretrain-config, or finer voxels with preprocess.spacing_mm",
        )
    network = size
    if rules.any_size:
        network = (max(width, least), max(depth, least), max(height, least))
    elif any(edge % multiple for edge in size):
        a, b, c = multiples(size, multiple)
        network = (a, b, c)
    return {
        "crops.grid": [grid, grid],
        "crops.size": list(size),
        "crops.input_size": None if network == size else list(network),
        "preprocess.min_size_vox": [grid * width, grid * depth, height],
    }


def _even(edge: float) -> int:
    """Return the nearest multiple of `EVEN`, which a masked autoencoder's cubes fit into; small edges as they are."""
    return round(edge / EVEN) * EVEN if edge >= 2 * EVEN else int(edge)


def write_recipe(path: Path, base: str, settings: Settings, shapes: Sequence[SizeXYZ]) -> None:
    """Write the recipe that all pre-trainings of a study share, unless it is there.

    Preprocessing, network, batch and machine are those of the task; what is left is that of another recipe.

    Args:
        base: that recipe.
        settings: of the task.
        shapes: of preprocessed volumes, voxels.
    Raises:
        UsageError: no such recipe; volumes that are too small.
        ResourceError: the disk is full.
    """
    if path.is_file():
        return
    values = dict(recipe_layer(base).values)
    held = settings.model_dump(mode="json")
    own = {f"preprocess.{key}": value for key, value in held["preprocess"].items()}
    own |= {f"model.{key}": value for key, value in held["model"].items() if key not in (*OF_TASK, *OF_RECIPE)}
    own |= {f"cache.{key}": value for key, value in held["cache"].items() if key != "dir"}
    own |= {f"run.{key}": held["run"][key] for key in ("precision", "keep_memory", "threads", "loggers")}
    own |= {f"data.{key}": held["data"][key] for key in ("workers", "prefetch")}
    own["train.batch_size"] = held["train"]["batch_size"]
    if settings.preprocess.resize_vox is not None:
        shapes = [settings.preprocess.resize_vox]
    crops = draft_crops(shapes, settings.model.backbone, settings.model.levels)
    own_size = settings.preprocess.min_size_vox or (0, 0, 0)
    padded = crops.pop("preprocess.min_size_vox")
    if settings.preprocess.resize_vox is None:  # which comes after padding, and makes every volume large enough
        crops["preprocess.min_size_vox"] = [max(pair) for pair in zip(padded, own_size, strict=True)]
    # Turns in the plane need crops that are square there.
    if crops["crops.size"][0] != crops["crops.size"][1]:
        crops["augment.rotate_prob"] = 0.0
    head = (
        f"# What the pre-trainings of this study share: preprocessing, network and batch of the task, optimizer and\n"
        f"# augmentation of the recipe {base}, crops by the sizes of the scans.\n"
    )
    content = yaml.safe_dump(nest({**values, **own, **crops}), sort_keys=False, default_flow_style=None, width=100)
    write_atomic(path, (head + content).encode())


def prepare_pretraining(folder: Path, base: str, settings: Settings, datalist: Datalist, cache: VolumeCache) -> None:
    """Write the list and the recipe of a study's pre-trainings.

    Args:
        folder: of the study.
        base: recipe that they start from.
        settings: of the task.
        datalist: of the task.
        cache: of the task, with its training scans in it.
    Raises:
        DataError: no scan could be preprocessed.
        UsageError, ResourceError: as `write_recipe`.
    """
    scans = unlabelled(datalist)
    write_datalist(scans, folder / PRETRAINING / "data.json")
    shapes = []
    for entry in scans.training:
        with suppress(DataError):  # a damaged one is left out where it is read
            if (volume := cache.lookup(entry)) is not None:
                shapes.append(volume.shape_xyz)
    if not shapes:
        raise DataError("No scan of the task could be preprocessed.", "`voco tasks check` says what is wrong")
    write_recipe(folder / RECIPE_FILE, base, settings, shapes)


def steps_within(seconds: float, step_s: Sequence[float]) -> tuple[int, ...]:
    """Return the steps of each stage that take some time altogether, each stage an equal part of it.

    Args:
        seconds: of all stages.
        step_s: of a step of each stage.
    """
    return tuple(max(1, round(seconds / len(step_s) / one)) for one in step_s)


def equal_steps(steps: int, stages: int) -> tuple[int, ...]:
    """Return the steps of each stage that are so many altogether."""
    return tuple(max(1, (steps * (i + 1)) // stages - (steps * i) // stages) for i in range(stages))
