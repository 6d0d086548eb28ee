"""Faults of the machine as sentences."""

from __future__ import annotations

import errno
import os

import pytest

from voco_cli.cli.exit import tell
from voco_cli.errors import ResourceError
from voco_cli.training.errors import translate_machine_errors

NO_MORE_FILES = [
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    RuntimeError("Too many open files. Communication with the workers is no longer possible."),
    RuntimeError("received 0 items of ancdata"),
]


@pytest.mark.parametrize("fault", NO_MORE_FILES, ids=str)
def test_too_many_open_files_say_how_to_allow_more(fault: Exception) -> None:
    with pytest.raises(ResourceError, match="More files would be open at once") as told, translate_machine_errors():
        raise fault
    assert told.value.hint is not None
    assert "ulimit -n 4096" in told.value.hint


def test_a_loader_process_that_breaks_off_is_a_want_of_resources() -> None:
    """The parser of the command line takes an EOFError for an answer that nobody gave, and says Abort."""
    with pytest.raises(ResourceError, match="could not hand over its scans") as told, translate_machine_errors():
        raise EOFError
    assert "ulimit -n 4096" in str(told.value.hint)


def test_other_faults_of_files_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), translate_machine_errors():
        raise FileNotFoundError(errno.ENOENT, "No such file")


def test_a_command_that_may_open_no_more_files_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(NO_MORE_FILES[0]) == 4
    assert "ulimit -n 4096" in capsys.readouterr().err
