"""What several processes do as one: whatever fails on one of them fails on all, with the same sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from voco_cli.errors import VocoError

T = TypeVar("T")
EVERYWHERE = "on every process"
"""Note on an error that all processes end with."""
ALONE = "on process"
"""How the note on the error of one process begins."""


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Do something on the main process while the others wait for its result.

    Returns:
        what the action returned, on every process; it must be picklable where there are several.
    Raises:
        VocoError: the action's, on every process.
    """
    outcome: list[Any] = [_outcome(action) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    result: T = _result(outcome[0], accelerator)
    return result


def on_all(accelerator: Accelerator, action: Callable[[], T]) -> list[T]:
    """Do something on every process.

    Returns:
        what it returned, by process.
    Raises:
        VocoError: that of the first process on which it failed, on every process.
    """
    outcomes = [_outcome(action)]
    if accelerator.num_processes > 1:
        outcomes = gather_object(outcomes)
    return [_result(outcome, accelerator) for outcome in outcomes]


def _outcome(action: Callable[[], T]) -> T | VocoError:
    try:
        return action()
    except VocoError as error:
        return error


def _result(outcome: Any, accelerator: Accelerator) -> Any:
    if isinstance(outcome, VocoError):
        if accelerator.num_processes > 1:
            outcome.add_note(EVERYWHERE)
        raise outcome
    return outcome


@contextmanager
def lonely_faults_noted(accelerator: Accelerator) -> Iterator[None]:
    """Note on an error that this process alone ends with which one it is, as the main process will not tell of it."""
    try:
        yield
    except VocoError as error:
        if accelerator.process_index and EVERYWHERE not in getattr(error, "__notes__", ()):
            error.add_note(f"{ALONE} {accelerator.process_index}")
        raise
