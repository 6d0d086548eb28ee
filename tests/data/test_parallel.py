"""Functions over many files in processes of their own."""

from __future__ import annotations

import os
import signal

import pytest

from voco_cli.data.parallel import leaving_interrupts_to_us, map_files
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
    found = map_files(half, range(40), workers, done.append, killed=lambda item, error: -item, apart=True)
    assert found == [-item if item == 7 else item / 2 for item in range(40)]
    assert sum(done) == 40


def test_what_nobody_takes_names_the_item() -> None:
    with pytest.raises(ResourceError, match=r"7 ended its worker process, .* more memory than there is"):
        map_files(half, [7], 1, lambda n: None, apart=True)
