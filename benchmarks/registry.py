"""All cases of ``python -m benchmarks``, in the order in which they run; the one that needs most memory comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.rows import Row


@dataclass(frozen=True)
class Options:
    """What the command line asks of every case.

    Attributes:
        rounds: pairs of runs; none is the case's own number.
        quick: sizes of seconds, to see that a case works; its numbers say nothing.
        scans: real CTs for the cases that read scans; generated ones where there are none.
        data: folder of a task's labelled data, for the case that trains on it.
        minutes: of the clock for each side of that case.
        work: folder in which the cases that train for long keep their runs, and go on.
        given: costs by name, for the case that simulates many GPUs.
    """

    rounds: int | None = None
    quick: bool = False
    scans: tuple[Path, ...] = ()
    data: Path | None = None
    minutes: float = 6.0
    work: Path | None = None
    given: tuple[tuple[str, float], ...] = ()

    def rounds_or(self, usual: int) -> int:
        """Pairs of runs: as asked, else as is usual for the case, else two where it must be quick."""
        return self.rounds or (2 if self.quick else usual)


Rows = Callable[[Options], Iterator[Row]]


@dataclass(frozen=True)
class Case:
    """One subject that is measured.

    Attributes:
        name: what it is called on the command line.
        words: what is compared with what.
        place: module of the function ``rows``, imported in the process that measures.
    """

    name: str
    words: str
    place: str

    def rows(self, options: Options) -> Iterator[Row]:
        """Measure; what is found comes row by row."""
        rows: Rows = import_module(self.place).rows
        return rows(options)


CASES = (
    Case("preprocessing", "from the file to the volume: MONAI's transforms, ours", "benchmarks.preprocessing"),
    Case("data_path", "from the cache to crops: pickled float32 and MONAI's crops, our store", "benchmarks.data_path"),
    Case("losses", "the terms of the loss: a loop over samples and pairs, ours", "benchmarks.losses"),
    Case("encoder", "SwinUNETR's encoder on a CPU: MONAI's modules, ours", "benchmarks.encoder"),
    Case("segmenter", "a window through SwinUNETR on a CPU: MONAI's modules, ours", "benchmarks.segmenter"),
    Case("step", "the whole cvpr step on a CPU: as released, ours", "benchmarks.step"),
    Case("objectives", "a step of each on a CPU: its own share, the loader's bytes, the sum", "benchmarks.objectives"),
    Case("inference", "prediction of a CT: MONAI's sliding window and inversion, ours", "benchmarks.inference"),
    Case("surface", "surface metrics: MONAI's calls, DeepMind's code, ours", "benchmarks.surface"),
    Case("tumours", "a tumour painted onto a scan, every rule: CPU seconds by radius", "benchmarks.tumours"),
    Case("startup", "from the command to its first words and to the first step", "benchmarks.startup"),
    Case("growth", "100 to 160,000 scans: index, list, cache look-up, split, start", "benchmarks.growth"),
    Case("scaling", "8 and 64 GPUs, simulated: compute, loader, collectives or disk?", "benchmarks.scaling"),
    Case("finetuning", "Dice at equal minutes: a plain recipe, the preset (needs --data)", "benchmarks.finetuning"),
    Case("lesions", "segmenting lesions: 4 real labels, painted tumours, both (needs --work)", "benchmarks.lesions"),
    Case("omni", "full, part and no labels: supervised, + pseudo, + voco, all (needs --work)", "benchmarks.omni"),
    Case("memory", "peak of a cvpr step at feature size 48, batch 1, on a CPU", "benchmarks.memory"),
)


def find_cases(names: list[str]) -> list[Case]:
    """The cases of these names, in their own order; all of them where none is named.

    Raises:
        KeyError: names that no case has.
    """
    unknown = sorted(set(names) - {case.name for case in CASES})
    if unknown:
        raise KeyError(", ".join(unknown))
    return [case for case in CASES if not names or case.name in names]
