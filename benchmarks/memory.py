"""Peak memory of the cvpr recipe at feature size 48, one volume a step, on a CPU.

Runs only where there is room, and under a limit that stops the process, not the machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.alone import run_alone
from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Row
from benchmarks.step import OurStep, made_batch, made_model
from voco_cli.config import load_settings
from voco_cli.operating_system import free_host_bytes, keep_freed_memory

LIMIT_GB = 16.0
SPARE_GB = 14.0
"""Least free memory to begin with."""
STEPS = 2
"""The second step has the optimizer's state beside its activations."""
OVERRIDES = ("train.batch_size=1", "run.device=cpu")
QUICK = (*OVERRIDES, "model.feature_size=12", "crops.grid=2x1", "crops.input_size=32x32x64")


def rows(options: Options) -> Iterator[Row]:
    """The peak of two steps in a process of its own, which fails where it needs more than it may."""
    free_gb = free_host_bytes() / 1e9
    if not options.quick and free_gb < SPARE_GB:
        yield Note("skipped", f"{free_gb:.1f} GB are free, and {SPARE_GB:g} are needed to begin")
        return
    overrides = QUICK if options.quick else OVERRIDES
    alone = run_alone("benchmarks.memory:steps", list(overrides), STEPS, limit_bytes=int(LIMIT_GB * 1e9))
    name = "a tiny step" if options.quick else "a cvpr step, f=48, batch 1"
    yield Figure(f"peak of {name}", "GB", [alone.peak_bytes / 1e9], LIMIT_GB)
    yield Note("activations", "recomputed in the backward pass" if alone.result else "kept for the backward pass")


def steps(overrides: list[str], count: int) -> bool:
    """Take steps as the engine does; whether activations were recomputed."""
    torch.set_num_threads(1)
    settings = load_settings("cvpr", None, tuple(overrides), {}).settings
    if settings.run.keep_memory:
        keep_freed_memory()
    step = OurStep(settings, made_model(settings))
    crops, labels = made_batch(settings)
    for _ in range(count):
        step.step(crops, labels)
    return bool(step.model.recompute)
