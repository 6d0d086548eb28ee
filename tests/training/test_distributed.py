"""Two processes over gloo, forked from this one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from tests.training.made_job import CPU
from tests.training.processes import fork_together
from voco_cli.errors import DataError, UsageError
from voco_cli.objectives.voco.model import Projector
from voco_cli.training.distributed import EVERYWHERE, annotate_rank, run_on_all, run_on_main

ROWS, WIDTH = 6, 5


def two_processes(folder: Path, work: Callable[[int], None]) -> list[int]:
    """Run ``work(process)`` in two processes that share a group; returns their exit codes."""

    def joined(process: int) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=60), rank=process, world_size=2)
        work(process)

    return fork_together(joined)


def _projected(rows: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Output, gradient of the rows and of the weights, of a projector with two batch norms."""
    torch.manual_seed(3)
    projector = Projector(WIDTH, (7, 7), 4).double()
    rows = rows.clone().requires_grad_()
    out = projector(rows)
    (out * target).sum().backward()
    assert rows.grad is not None
    return out.detach(), rows.grad, [p.grad for p in projector.parameters() if p.grad is not None]


def test_batch_norm_over_two_processes_is_that_of_all_rows(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) * 3 + 1
    target = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    shares = (slice(0, 2), slice(2, ROWS))  # of unequal size

    def work(process: int) -> None:
        out, of_rows, of_weights = _projected(rows[shares[process]], target[shares[process]])
        np.savez(tmp_path / f"{process}.npz", out, of_rows, *of_weights)

    assert two_processes(tmp_path, work) == [0, 0]
    out, of_rows, of_weights = _projected(rows, target)
    found = [list(np.load(tmp_path / f"{process}.npz").values()) for process in range(2)]
    for process, share in enumerate(shares):
        np.testing.assert_allclose(found[process][0], out[share], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[process][1], of_rows[share], rtol=1e-10, atol=1e-12)
    for one, other, both in zip(found[0][2:], found[1][2:], of_weights, strict=True):
        np.testing.assert_allclose(one + other, both, rtol=1e-10, atol=1e-12)


class _Pair:
    """What the functions ask of an accelerator."""

    def __init__(self, process: int) -> None:
        self.process_index, self.num_processes, self.is_main_process = process, 2, process == 0


def _gathered(values: list[Any]) -> list[Any]:
    found: list[Any] = [None, None]
    dist.all_gather_object(found, values)
    return [value for part in found for value in part]


def _notes(action: Callable[[], Any], kind: type[Exception]) -> list[str]:
    try:
        action()
    except kind as error:
        return list(getattr(error, "__notes__", ()))
    raise AssertionError("nothing was raised")


def test_faults_of_one_end_all(tmp_path: Path) -> None:
    def work(process: int) -> None:
        pair: Any = _Pair(process)

        def refuse() -> None:
            raise UsageError("no")

        def damaged_on_one() -> int:
            if process == 1:
                raise DataError("damaged")
            return 5

        def alone() -> None:
            with annotate_rank(pair):
                refuse()

        with (
            mock.patch("voco_cli.training.distributed.gather_object", _gathered),
            mock.patch(
                "voco_cli.training.distributed.broadcast_object_list",
                lambda objects: dist.broadcast_object_list(objects, 0),
            ),
        ):
            assert run_on_main(pair, lambda: f"from {process}") == "from 0"
            assert run_on_all(pair, lambda: process) == [0, 1]
            assert _notes(lambda: run_on_main(pair, refuse), UsageError) == [EVERYWHERE]
            assert _notes(lambda: run_on_all(pair, damaged_on_one), DataError) == [EVERYWHERE]
            assert _notes(alone, UsageError) == (["on process 1"] if process else [])

    assert two_processes(tmp_path, work) == [0, 0]


def test_one_process_needs_nobody() -> None:
    assert run_on_main(CPU, lambda: nn.Linear(1, 1)).in_features == 1
    assert run_on_all(CPU, lambda: 3) == [3]
