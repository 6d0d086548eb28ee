"""Functions over many files in processes of their own."""

from __future__ import annotations

import os
import signal

import pytest

from voco_cli.dataset.parallel import leaving_interrupts_to_us, map_files


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
