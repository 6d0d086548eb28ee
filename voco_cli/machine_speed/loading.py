"""How many volumes a second the loader of a run gives, when nobody else needs the cores."""

from __future__ import annotations

import time
from contextlib import closing, nullcontext
from dataclasses import dataclass

import torch

from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.engine.job import Place
from voco_cli.engine.loading import load_batches, loader_workers
from voco_cli.engine.sampler import BatchPlan
from voco_cli.errors import VocoError
from voco_cli.planning.trial import crop_cases
from voco_cli.pretraining.crops import CropDataset, collate
from voco_cli.settings import Settings

SPANS = 5
"""Rates that are taken one after another."""
ENDLESS = 10**9
CPU = Place(torch.device("cpu"), 0, 1, nullcontext)


@dataclass(frozen=True)
class LoadingRequest:
    """What to load, and for how long after the first batches."""

    settings: Settings
    cases: tuple[StoredCase, ...]
    budget_s: float


@dataclass(frozen=True)
class Loading:
    """What came of it.

    Attributes:
        volumes_per_s: in each span of time.
        crops_per_volume: random and base crops.
        loaders: loader processes.
    """

    volumes_per_s: tuple[float, ...]
    crops_per_volume: int
    loaders: int


def time_loading(request: LoadingRequest) -> Loading:
    """Draw batches as a run does, and count.

    Raises:
        DataError: a stored volume is damaged.
    """
    settings = request.settings
    loaders, size = loader_workers(settings.data), settings.train.batch_size
    cases = crop_cases(request.cases, size)
    dataset = CropDataset(cases, settings, 1)
    plan = BatchPlan(len(cases), size, settings.seed)
    ahead = max(1, loaders * settings.data.prefetch)
    rates: list[float] = []
    with closing(load_batches(dataset, plan, (0, ENDLESS), collate, settings.data, CPU)) as batches:
        for _ in range(ahead):  # what is prepared while the processes start is no rate
            _checked(next(batches))
        for _ in range(SPANS):
            start_s, drawn = time.perf_counter(), 0
            while not drawn or time.perf_counter() - start_s < request.budget_s / SPANS:
                _checked(next(batches))
                drawn += size
            rates.append(drawn / (time.perf_counter() - start_s))
    grid = settings.crops.grid_xyz
    return Loading(tuple(rates), settings.crops.random_per_volume + grid[0] * grid[1] * grid[2], loaders)


def _checked(batch: object) -> None:
    if isinstance(batch, VocoError):
        raise batch
