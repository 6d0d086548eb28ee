"""What goes wrong with the machine while something trains, as sentences: a full disk, no memory, a killed process."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from voco_cli.errors import ResourceError, VocoError

ALMOST_FULL_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)


@contextmanager
def translate_errors(folder: Path, what: str) -> Iterator[None]:
    """Recognise a full disk.

    Args:
        folder: an existing folder on that disk.
        what: what could not be done, for the message.
    Raises:
        ResourceError: the disk of the folder is full.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, ResourceError) as error:
        full = any(getattr(fault, "errno", None) in FULL for fault in (error, error.__cause__))
        full = full or "os error 28" in str(error).lower()
        if isinstance(error, RuntimeError | SafetensorError):  # torch does not say why
            full = full or shutil.disk_usage(folder).free < ALMOST_FULL_BYTES
        if full:
            raise ResourceError(
                f"The disk of {folder} is full: {what}.", "free some space, then run the same command again to resume"
            ) from error
        raise


@contextmanager
def translate_machine_errors() -> Iterator[None]:
    """Recognise missing memory, killed loader processes and lost companions.

    Raises:
        ResourceError: memory of the device, of the machine or shared between processes; open files; a killed process.
        VocoError: another process of the run ended.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError, EOFError) as error:
        found = _sentence(error)
        if found is None:
            raise
        raise found from error


def _sentence(error: RuntimeError | MemoryError | OSError | EOFError) -> VocoError | None:
    import torch  # late: a run folder can be locked and written to without it

    text = str(error)
    first = text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__
    # Between processes torch hands over open files; one that cannot be received fails in the second way.
    if getattr(error, "errno", None) in NO_MORE_FILES or "Too many open files" in text or "items of ancdata" in text:
        return ResourceError(
            "More files would be open at once than this machine allows a process.",
            "type `ulimit -n 4096` first, or set data.workers=0; then run the same command again to resume",
        )
    if isinstance(error, EOFError):  # what is left to us where the other side could not open one
        return ResourceError(
            "A loader process could not hand over its scans, most often because too many files were open.",
            "type `ulimit -n 4096` first, or set data.workers=0; then run the same command again to resume",
        )
    if isinstance(error, OSError):
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return ResourceError(
            f"The device ran out of memory ({first}).",
            "start anew with model.checkpointing=on, or with a lower train.batch_size and a higher train.accumulate",
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return ResourceError(f"The machine ran out of memory ({first}).", "lower data.workers or data.prefetch")
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        return ResourceError(
            f"A loader process was killed, most often for want of memory ({first}).",
            "lower data.workers or data.prefetch, then run the same command again to resume",
        )
    if "unable to write to file </torch" in text or "unable to open shared memory" in text:
        return ResourceError(f"The shared memory is full ({first}).", "lower data.prefetch or set data.workers=0")
    if "closed by peer" in text or "reset by peer" in text:
        return VocoError("Another process of this run ended, so this one cannot go on.", "see what the other one said")
    return None
