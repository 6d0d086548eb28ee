"""All figures of a GPU in one call: ``python -m benchmarks.gpu``, under nine minutes, from a source checkout.

For feature sizes 48, 96 and 192 in cvpr and tpami: volumes a second, TFLOP/s against the card's own matrix rate, and
memory, ours against the step as released, bf16 throughout. Then whether a step waits for the device, what copies of
bytes cost, and whether the loader keeps up. Last, at 48 and while time is left, what torch.compile (graph breaks
counted) and CUDA graphs add.

Needs torch, triton and numpy; for the loader blosc2, pydantic and PyYAML, which are asked for by name where they are
missing. Neither SimpleITK nor MONAI is imported; the reference restates MONAI's modules, see `gpu_encoder`.
``--dry`` walks through the same code on a CPU at a tiny size, and its numbers say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_data
from benchmarks.gpu_step import CVPR, RELEASED, TPAMI, Batch, GpuStep, Recipe, Way, made_batch
from voco_cli.operating_system import keep_freed_memory, usable_cores

OURS = Way("ours")
COMPILED = (Way("ours, compiled", compile="default"), Way("ours, compiled, CUDA graphs", compile="reduce-overhead"))
FEATURE_SIZES = (48, 96, 192)
TARGET_RATIO, MOST_WAIT = 2.0, 0.05
SPANS, SPAN_S = 3, 1.0
STEP_S, COMPILED_S = 15.0, 100.0
"""What a measurement may take: that much time must be left to begin it."""
LOADERS = 15
TINY = Recipe("cvpr", 1, (2, 1), 32, (64, 32, 32), (16, 16), True, 0.0)
TINY_SIZES: dict[str, Any] = {
    "train": {"batch_size": 1},
    "augment": {"rotate_prob": 0},
    "crops": {"grid": [2, 1], "size": [32, 32, 32], "input_size": [64, 32, 32]},
}


@dataclass
class Bench:
    """What was found, how much time is left, and where it runs.

    Attributes:
        out: file that holds all that was found so far, whenever the call ends.
    """

    device: torch.device
    dry: bool
    end_s: float
    out: Path
    found: dict[str, Any] = field(default_factory=dict)

    def tell(self, key: str, words: str, value: Any = None) -> None:
        """A line for people, and a value for the file."""
        print(f"{key}: {words}", flush=True)
        self.found[key] = words if value is None else value
        self.out.write_text(json.dumps(self.found, indent=1) + "\n")

    def has(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return time.monotonic() + seconds < self.end_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything; 1 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on a CPU, at a tiny size: does it run?")
    parser.add_argument("--seconds", type=float, default=500.0, help="no measurement begins that would end later")
    parser.add_argument("--out", type=Path, help="JSON file; gpu.json in $OUT, or here, by default")
    args = parser.parse_args(arguments)
    if not args.dry and not torch.cuda.is_available():
        print("There is no CUDA device here; --dry walks through the code on a CPU.")
        return 1
    if args.dry:
        keep_freed_memory()
    out = args.out or Path(os.environ.get("OUT", ".")) / "gpu.json"
    bench = Bench(torch.device("cpu" if args.dry else "cuda"), args.dry, time.monotonic() + args.seconds, out)
    name = "cpu" if args.dry else torch.cuda.get_device_name()
    bench.tell("card", f"{name}, torch {torch.__version__}, {os.cpu_count()} cores")
    lacking = gpu_data.missing()
    bench.tell("missing", f"pip install {' '.join(lacking)}" if lacking else "nothing")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # for both sides: sizes never change
    rate = _matrix_rate(bench)
    cases = [(TINY, 12)] if args.dry else [(recipe, f) for f in FEATURE_SIZES for recipe in (CVPR, TPAMI)]
    for recipe, feature_size in cases:
        _against_released(bench, rate, recipe, feature_size)
    _checks(bench, *cases[0])
    if not lacking:
        for recipe, feature_size in cases[:2]:
            _loader(bench, recipe, feature_size)
    if not args.dry:
        _compiled(bench, rate, *cases[0])
    print(f"wrote {out}")
    return 0


def _matrix_rate(bench: Bench) -> float:
    """TFLOP/s of a large product in bf16: what the card gives at best."""
    edge = 256 if bench.dry else 8192
    a, b = (torch.randn(edge, edge, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    _per_call(bench, lambda: a @ b, 3)  # libraries set themselves up
    seconds = _per_call(bench, lambda: a @ b, 3 if bench.dry else 50)
    rate = 2 * edge**3 / seconds / 1e12
    bench.tell("matrix rate", f"{rate:.4g} TFLOP/s in bf16", rate)
    return rate


def _against_released(bench: Bench, rate: float, recipe: Recipe, feature_size: int) -> None:
    """Both ways, one after the other."""
    if not bench.has(2 * STEP_S):
        bench.tell(f"{recipe.name} f={feature_size}", "no time was left")
        return
    ours, released = (_measure(bench, recipe, feature_size, way, rate) for way in (OURS, RELEASED))
    _ratio(bench, recipe, feature_size, ours, released)


def _compiled(bench: Bench, rate: float, recipe: Recipe, feature_size: int) -> None:
    """What compilers add to our own kernels."""
    if bench.has(STEP_S):
        _count_breaks(bench, feature_size)
    for way in COMPILED:
        if bench.has(COMPILED_S):
            _measure(bench, recipe, feature_size, way, rate)
        else:
            bench.tell(way.name, "no time was left")


def _ratio(bench: Bench, recipe: Recipe, feature_size: int, ours: float, released: float) -> None:
    if ours and released:
        ratio = ours / released
        verdict = "met" if ratio >= TARGET_RATIO else "MISSED"
        words = f"{ratio:.2f}x the step as released   {verdict}: {TARGET_RATIO:g}x"
        bench.tell(f"{recipe.name} f={feature_size}, ratio", words, ratio)


def _measure(bench: Bench, recipe: Recipe, feature_size: int, way: Way, rate: float) -> float:
    """Volumes a second of a recipe in a way; where memory is short everything is recomputed, crops in groups."""
    key = f"{recipe.name} f={feature_size}, {way.name}"
    for tried in (way, replace(way, recompute=True, group=recipe.crops // recipe.volumes)):
        try:
            seconds, memory = _time_step(bench, GpuStep(recipe, feature_size, tried, bench.device), recipe, tried)
        except torch.cuda.OutOfMemoryError:
            bench.tell(key, "out of memory" + ("" if tried.group else "; again with everything recomputed"))
        except Exception as error:
            # A way that does not run here is a finding, and no reason to lose the others.
            bench.tell(key, f"failed: {type(error).__name__}: {str(error)[:300]}")
            return 0.0
        else:
            done = recipe.tflop(feature_size) / seconds
            volumes = recipe.volumes / seconds
            words = f"{volumes:.4g} volumes/s, {done:.4g} TFLOP/s ({done / rate:.1%} of the matrix rate), "
            words += f"{memory / 1e9:.3g} GB" + (", recomputed in groups" if tried.group else "")
            value = {"volumes_per_s": volumes, "tflop_per_s": done, "of_matrix_rate": done / rate, "bytes": memory}
            bench.tell(key, words, value)
            return volumes
        finally:
            _forget(bench)
    return 0.0


def _time_step(bench: Bench, step: GpuStep, recipe: Recipe, way: Way) -> tuple[float, int]:
    """Median seconds of a step over spans of some, and the largest memory."""
    batch, warm_s = made_batch(recipe, way.released, bench.device), 1.0
    for _ in range(0 if bench.dry else 3 if way.compile else 2):
        warm_s = _per_call(bench, lambda: step.step(batch), 1)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count, steps = (1, 1) if bench.dry else (SPANS, max(1, round(SPAN_S / warm_s)))
    spans = sorted(_per_call(bench, lambda: step.step(batch), steps) for _ in range(count))
    memory = torch.cuda.max_memory_allocated() if bench.device.type == "cuda" else 0
    return spans[count // 2], memory


def _per_call(bench: Bench, call: Any, times: int) -> float:
    _synchronise(bench)
    start = time.perf_counter()
    for _ in range(times):
        call()
    _synchronise(bench)
    return (time.perf_counter() - start) / times


def _synchronise(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def _forget(bench: Bench) -> None:
    torch.compiler.reset()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()


def _count_breaks(bench: Bench, feature_size: int) -> None:
    """Graph breaks of the encoder, and their reasons."""
    encoder = GpuStep(TPAMI, feature_size, OURS, bench.device).encoder
    crops = torch.rand(2, 1, *TPAMI.network_vox, device=bench.device)
    explained = torch._dynamo.explain(encoder)(crops)
    reasons = "; ".join(str(one.reason) for one in explained.break_reasons[:3])
    bench.tell("graph breaks", f"{explained.graph_break_count} {reasons}", explained.graph_break_count)
    _forget(bench)


def _checks(bench: Bench, recipe: Recipe, feature_size: int) -> None:
    """Whether a step waits for the device, and what copies cost from pinned and other memory."""
    step = GpuStep(recipe, feature_size, OURS, bench.device)
    batch = made_batch(recipe, False, bench.device)
    step.step(batch)
    if bench.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            step.step(batch)
            bench.tell("synchronisation", "a step waits nowhere for the device")
        except RuntimeError as error:
            bench.tell("synchronisation", f"a step WAITS for the device: {str(error)[:300]}")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for name, copied in (("pinned bytes", batch.crops), ("pageable bytes", batch.crops.clone())):
        seconds = _per_call(bench, lambda one=copied: one.to(bench.device, non_blocking=True), 5)
        bench.tell(
            f"copy of {name}", f"{copied.nbytes / seconds / 1e9:.3g} GB/s, {1000 * seconds:.3g} ms a step", seconds
        )
    del step
    _forget(bench)


def _loader(bench: Bench, recipe: Recipe, feature_size: int) -> None:
    """Share of the time that steps wait for real loader processes."""
    if not bench.has(2 * STEP_S):
        bench.tell(f"data wait, {recipe.name}", "no time was left")
        return
    loaders = 0 if bench.dry else min(LOADERS, max(1, usable_cores() - 1))
    step = GpuStep(recipe, feature_size, OURS, bench.device)

    def take(loaded: Any) -> None:
        # Each from its own pinned memory; joined on the host they would be in none.
        crops = torch.cat([one.to(bench.device, non_blocking=True) for one in (loaded.random_RXYZ, loaded.bases_RXYZ)])
        draws = (loaded.flips_N3, loaded.turns_N, loaded.shifts_N)
        step.step(Batch(crops, *draws, loaded.labels_BSK))

    sizes = TINY_SIZES if bench.dry else {}
    try:
        share, rate = gpu_data.wait_share(recipe.name, loaders, take, 0 if bench.dry else 10, bench.device, sizes)
    except Exception as error:  # the figures that are there already must be written
        bench.tell(f"data wait, {recipe.name}", f"failed: {type(error).__name__}: {str(error)[:300]}")
        return
    verdict = "met" if share <= MOST_WAIT else "MISSED"
    words = f"{share:.1%} of the time at {rate:.4g} volumes/s with {loaders} processes   {verdict}: {MOST_WAIT:.0%}"
    bench.tell(f"data wait, {recipe.name}", words, {"share": share, "volumes_per_s": rate})
    _forget(bench)


if __name__ == "__main__":
    sys.exit(main())
