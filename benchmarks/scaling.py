"""What would limit 8 and 64 GPUs: a simulation from the costs of a step, a loader process, links and a disk.

Measured here: what a loader process spends on a volume of cvpr and the bytes that it reads, counted: the gradient.
The step on a GPU is that of a kept result, links and disk are assumed; each is replaced by ``--given NAME=NUMBER``
with what was measured on the machine in question. Gloo between two processes here shows how link figures are fitted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Row, Table

SIZES = (1, 8, 64)
LIMITS = ("compute", "loader", "collective", "disk")
SMALL_BYTES, LARGE_BYTES = 1 << 10, 1 << 26
VOLUMES = 4


@dataclass(frozen=True)
class Costs:
    """What a step of one GPU costs, and what there is to do it with.

    Attributes:
        step_s: seconds of a step of one GPU alone, forward to optimizer.
        volumes: of a GPU in a step.
        overlap: share of the step in which gradients travel while the GPU computes: most of the backward pass.
        gradient_bytes: that are summed over all GPUs in a step.
        norms: sums of the projector's batch norm in a step, forward and backward; nothing is computed meanwhile.
        norm_bytes: of one of them.
        load_s: seconds of a loader process for a volume.
        loaders: loader processes of a GPU.
        volume_bytes: read from the cache for a volume.
        gpus_per_node: GPUs between which the fast link is.
        inner_latency_s, inner_bytes_per_s: of that link, a message and one direction.
        outer_latency_s, outer_bytes_per_s: between nodes, all network cards of a node together.
        disk_bytes_per_s: of the store that all nodes read.
    """

    step_s: float
    gradient_bytes: float
    norms: float
    norm_bytes: float
    load_s: float
    volume_bytes: float
    volumes: float = 2
    overlap: float = 0.5
    loaders: float = 8
    gpus_per_node: float = 8
    inner_latency_s: float = 5e-6
    inner_bytes_per_s: float = 200e9
    outer_latency_s: float = 15e-6
    outer_bytes_per_s: float = 25e9
    disk_bytes_per_s: float = 2e9


NAMES = tuple(one.name for one in fields(Costs))
"""What ``--given`` takes."""


@dataclass(frozen=True)
class Simulated:
    """A step of so many GPUs.

    Attributes:
        needs_s: what each of `LIMITS` takes of it: loader and disk work beside the GPU, collectives after it.
    """

    gpus: int
    needs_s: Mapping[str, float]

    @property
    def step_s(self) -> float:
        """Return the seconds between two steps: of the GPU with what it waits for, or, where more, of what feeds it."""
        needs = self.needs_s
        return max(needs["compute"] + needs["collective"], needs["loader"], needs["disk"])

    @property
    def limit(self) -> str:
        """Return what to improve first: what feeds the GPUs where that is slower, else the longer part of a step."""
        feeding = max(("loader", "disk"), key=lambda name: self.needs_s[name])
        if self.needs_s[feeding] == self.step_s:
            return feeding
        return max(("compute", "collective"), key=lambda name: self.needs_s[name])


def ring_s(processes: int, data_bytes: float, latency_s: float, bytes_per_s: float) -> float:
    """Return the seconds of an all-reduce in a ring: 2 (n - 1) messages one after the other, each of 1/n of the data.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    messages = 2 * (processes - 1)
    return messages * (latency_s + data_bytes / processes / bytes_per_s)


def link_of(two_s: Mapping[int, float]) -> tuple[float, float]:
    """Return latency and bytes a second from the all-reduce of two processes at two sizes, bytes to seconds."""
    (small, small_s), (large, large_s) = sorted(two_s.items())
    bytes_per_s = (large - small) / (large_s - small_s)
    return max(0.0, (small_s - small / bytes_per_s) / 2), bytes_per_s


def simulate(costs: Costs, gpus: int) -> Simulated:
    """Work out the step of so many GPUs, each with its own batch; a ring is as slow as the slowest link in it."""
    inside = gpus <= costs.gpus_per_node
    latency_s = costs.inner_latency_s if inside else costs.outer_latency_s
    bytes_per_s = costs.inner_bytes_per_s if inside else costs.outer_bytes_per_s
    gradient_s = ring_s(gpus, costs.gradient_bytes, latency_s, bytes_per_s)
    norms_s = costs.norms * ring_s(gpus, costs.norm_bytes, latency_s, bytes_per_s)
    collective_s = norms_s + max(0.0, gradient_s - costs.overlap * costs.step_s)
    loading_s = costs.volumes * costs.load_s
    in_turn_s = costs.step_s + collective_s + loading_s
    needs_s = {
        "compute": costs.step_s,
        "loader": loading_s / costs.loaders if costs.loaders else in_turn_s,
        "collective": collective_s,
        "disk": gpus * costs.volumes * costs.volume_bytes / costs.disk_bytes_per_s,
    }
    return Simulated(gpus, needs_s)


def rows(options: Options) -> Iterator[Row]:
    """Yield what was measured, what was taken as given, and a table of sizes with what limits each."""
    latency_s, bytes_per_s = link_of(gloo_seconds(3 if options.quick else 20))
    yield Figure("gloo between two processes here: latency", "us", [1e6 * latency_s])
    yield Figure("gloo between two processes here", "GB/s", [bytes_per_s / 1e9])
    costs = replace(measured_costs(1 if options.quick else 8), **dict(options.given))
    for name in NAMES:
        said = "given" if name in dict(options.given) else "measured, counted or assumed; see benchmarks/scaling.py"
        yield Note(name, f"{getattr(costs, name):.4g} ({said})")
    found = [simulate(costs, gpus) for gpus in SIZES]
    alone_s = found[0].step_s
    cells = [[one.gpus, *(one.needs_s[name] for name in LIMITS), one.step_s, alone_s / one.step_s] for one in found]
    yield Table("simulated, s a step", ["GPUs", *LIMITS, "step", "efficiency"], cells)
    for one in found:
        yield Note(f"{one.gpus} GPUs", f"limited by {one.limit}; {one.gpus * costs.volumes / one.step_s:.4g} volumes/s")


CVPR_STEP_S = 2 / 16.47
"""A step of cvpr at feature size 48 with two volumes on an H100: results/nvidia-h100-80gb-hbm3/2026-11-26.json."""


def measured_costs(rounds: int) -> Costs:
    """Measure what a loader process does for a volume of cvpr, and count what is summed in a step.

    Args:
        rounds: draws of each volume; the CPU seconds of the later ones count.
    """
    from benchmarks.gpu_data import settings_of, write_volume
    from voco_cli.data.cache.volume import StoredVolume
    from voco_cli.objectives.objective import Case
    from voco_cli.objectives.voco.sampling import CropSampler
    from voco_cli.resources.costs import count_parameters

    settings = settings_of("cvpr", 0, {})
    sampler = CropSampler(settings, 1)
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as folder:
        paths = [Path(folder) / f"{number}.b2nd" for number in range(VOLUMES)]
        for number, path in enumerate(paths):
            write_volume(path, settings.crops.region_vox, number)
        cases = [Case(path.stem, StoredVolume(path)) for path in paths]
        for case in cases:
            sampler.collate([sampler.draw(case, 0)])
        start_s = process_time()
        for step in range(1, rounds + 1):
            for case in cases:
                sampler.collate([sampler.draw(case, step)])
        load_s = (process_time() - start_s) / (rounds * VOLUMES)
        volume_bytes = sum(path.stat().st_size for path in paths) / VOLUMES
    hidden = settings.model.projector_hidden
    return Costs(
        step_s=CVPR_STEP_S,
        gradient_bytes=4 * count_parameters(settings).trained,
        norms=len(hidden) * 2 * 3,  # of sum and of squares; student, teacher, the student's backward pass
        norm_bytes=4 * max(hidden),
        load_s=load_s,
        volume_bytes=volume_bytes,
        volumes=settings.train.batch_size,
    )


def gloo_seconds(rounds: int) -> dict[int, float]:
    """Least seconds of an all-reduce between two processes of this machine, by its bytes."""
    context = get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as folder, closing(here):
        both = [context.Process(target=_reduce, args=(rank, folder, rounds, there)) for rank in range(2)]
        for one in both:
            one.start()
        there.close()
        found: dict[int, float] = here.recv()
        for one in both:
            one.join()
    return found


def _reduce(rank: int, folder: str, rounds: int, found: Connection) -> None:
    """Be one of two processes; the first says what it found."""
    import torch
    from torch import distributed as dist

    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    taken_s = {}
    for size in (SMALL_BYTES, LARGE_BYTES):
        data, times_s = torch.ones(size // 4), []
        for _ in range(rounds):
            dist.barrier()
            start_s = perf_counter()
            dist.all_reduce(data)
            times_s.append(perf_counter() - start_s)
        taken_s[size] = min(times_s)
    if rank == 0:
        found.send(taken_s)
    dist.destroy_process_group()
