"""Functions over many files in processes of their own."""

from __future__ import annotations

import signal

from voco_cli.dataset.parallel import leaving_interrupts_to_us, map_files


def how_ctrl_c_is_taken(_: int) -> bool:
    """Imported and called in a worker, which has run no line of ours before."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_workers_leave_ctrl_c_to_the_command() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert map_files(how_ctrl_c_is_taken, [1, 2, 3], 2, lambda n: None) == [True, True, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_this_process_hears_again_whatever_happens() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with leaving_interrupts_to_us():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            raise ValueError
    except ValueError:
        assert signal.getsignal(signal.SIGINT) is before
