from __future__ import annotations

import os
import signal

import pytest

from voco_cli.data.parallel import WorkerKilledError, run_jobs


def square(job: int) -> int:
    """Fails at 3, and is killed at 5."""
    if job == 3:
        raise ValueError("three")
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job * job


def test_killed_worker_costs_its_own_job_only() -> None:
    outcomes: dict[int, int | Exception] = {}
    run_jobs(square, range(8), 2, outcomes.__setitem__)
    assert sorted(outcomes) == list(range(8))
    assert {job: outcome for job, outcome in outcomes.items() if isinstance(outcome, int)} == {
        0: 0,
        1: 1,
        2: 4,
        4: 16,
        6: 36,
        7: 49,
    }
    assert str(outcomes[3]) == "three"
    assert isinstance(outcomes[5], WorkerKilledError)
    assert "memory" in str(outcomes[5])


def test_one_worker_stays_in_this_process() -> None:
    outcomes: dict[int, int | Exception] = {}
    run_jobs(square, [1, 3, 4], 1, outcomes.__setitem__)
    assert outcomes[1] == 1
    assert isinstance(outcomes[3], ValueError)
    assert outcomes[4] == 16


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_receiver_raises_stops_the_rest(workers: int) -> None:
    seen: list[int] = []

    def receive(job: int, outcome: int | Exception) -> None:
        seen.append(job)
        raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        run_jobs(square, [1, 2, 4, 6, 7, 8], workers, receive)
    assert len(seen) == 1
