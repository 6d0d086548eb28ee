"""The errors that a user may meet, each with the exit code of the command that it ends.

VocoError            1   a finding: a check that did not hold
├── UsageError       2   settings, arguments, input of the wrong kind
├── DataError        3   a file that is damaged or missing
│   └── GeometryError    spacing, direction or extent that cannot be used
├── ResourceError    4   disk or memory
└── Interrupted     75   stopped on request; the same command goes on

A message is one sentence: the object, what is wrong with it. What to do goes into the hint.
"""

from __future__ import annotations


class VocoError(Exception):
    """Something that the user can understand and mend; everything else is a bug.

    Args:
        message: one sentence that names the file, key or value and what is wrong with it.
        hint: what to do, printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[VocoError], tuple[str, str | None]]:
        # Exceptions with a second argument must say how they travel between worker processes.
        return type(self), (self.message, self.hint)


class UsageError(VocoError):
    """Wrong settings, arguments or input."""

    exit_code = 2


class DataError(VocoError):
    """A file that is damaged, missing or not what its name says."""

    exit_code = 3


class GeometryError(DataError):
    """Spacing, direction or extent that cannot be used."""


class ResourceError(VocoError):
    """Not enough disk or memory."""

    exit_code = 4


class Interrupted(VocoError):
    """Stopped by a signal after a checkpoint was written."""

    exit_code = 75
