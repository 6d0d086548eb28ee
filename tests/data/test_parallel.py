"""Functions over many files in processes of their own."""

from __future__ import annotations

import os
import signal

import pytest

from voco_cli.data.parallel import WorkerKilledError, leaving_interrupts_to_us, map_files, run_jobs
from voco_cli.errors import ResourceError


def is_deaf_to_ctrl_c(_: int) -> bool:
    """Imported and called in a worker, which has run no line of ours before."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_leave_ctrl_c_to_the_command() -> None:
    assert map_files(is_deaf_to_ctrl_c, [1, 2, 3], 2, lambda n: None) == [True, True, True]
    assert not is_deaf_to_ctrl_c(0)


def test_ctrl_c_while_workers_start_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), leaving_interrupts_to_us():
        os.kill(os.getpid(), signal.SIGINT)


def test_this_process_hears_again_whatever_happens() -> None:
    with pytest.raises(ValueError, match="wrong"), leaving_interrupts_to_us():
        raise ValueError("wrong")
    assert not is_deaf_to_ctrl_c(0)


def half(item: int) -> float:
    """Kills its process at 7."""
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item / 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_ends_its_process_costs_itself_only(workers: int) -> None:
    done: list[int] = []
    found = map_files(half, range(40), workers, done.append, killed=lambda item, error: -item, own_process=True)
    assert found == [-item if item == 7 else item / 2 for item in range(40)]
    assert sum(done) == 40


def test_what_nobody_takes_names_the_item() -> None:
    with pytest.raises(ResourceError, match=r"7 ended its worker process, .* more memory than there is"):
        map_files(half, [7], 1, lambda n: None, own_process=True)


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


class KillsWhileSent:
    """Ends the worker while the result is on its way."""

    def __reduce__(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


def leave(job: str) -> object:
    """Ends its process without an error, or on the way back, or does neither."""
    if job == "quits":
        os._exit(0)
    return KillsWhileSent() if job == "sends" else job


@pytest.mark.parametrize("bad", ["quits", "sends"])
def test_a_worker_that_leaves_without_an_error_is_noticed(bad: str) -> None:
    outcomes: dict[str, object] = {}
    run_jobs(leave, ["a", bad, "b"], 2, outcomes.__setitem__)
    assert isinstance(outcomes.pop(bad), WorkerKilledError)
    assert outcomes == {"a": "a", "b": "b"}
