"""Whose scans belong together, without saying whose they are."""

from __future__ import annotations

from collections.abc import Iterable


class PatientNumbers:
    """Numbers in place of patients' names, in the order in which they are met, for files that others may get.

    Who shares a number is one patient; numbers of two files have nothing to do with each other.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, patient: str) -> str:
        """Return ``p001`` for the first patient, always the same for the same one."""
        return f"p{self._numbers.setdefault(patient, len(self._numbers) + 1):03d}"


def numbered(patients: Iterable[str]) -> tuple[str, ...]:
    """Return the number of each scan's patient: ``p001, p002, p001, ...``."""
    return tuple(map(PatientNumbers(), patients))
