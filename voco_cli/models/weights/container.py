"""Which file holds weights, and of what kind it is by its bytes, before anything of it is decoded; needs no torch.

What is no file of weights is named for what it is: a web page, a pointer of Git LFS, half a download, a bomb.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from enum import StrEnum
from pathlib import Path

from voco_cli.data.io.scratch import kept_copy
from voco_cli.errors import DataError, UsageError
from voco_cli.object_stores import is_address, location

HUB = "hf://"
IN_FOLDER = ("weights/model.safetensors", "weights/encoder.safetensors", "model.safetensors", "encoder.safetensors")
"""Where a run, its folder of weights or a checkpoint keeps them; the whole network before the encoder alone."""


def find_file(source: str | Path, branch: str = "student") -> Path:
    """Find the file that holds the weights.

    Args:
        source: a file; a run folder or a part of one; or ``hf://owner/repository/file``, with ``@revision`` after the
            repository if wanted; or the URL of a file.
        branch: the teacher of a run is in its checkpoints only.
    Raises:
        DataError: there is nothing, or nothing that holds weights.
        UsageError: the address is incomplete, or the extra ``hub`` is missing.
    """
    if str(source).startswith(HUB):
        return _download(str(source))
    if is_address(str(source)):
        return kept_copy(location(source))
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist.", "give a run folder, a file of weights or hf://owner/repository/file")
    checkpoint = last_checkpoint(path)
    checkpoints = [] if checkpoint is None else [checkpoint]
    there = [path / name for name in IN_FOLDER if (path / name).is_file()]
    candidates = [*checkpoints, *there] if branch == "teacher" else [*there, *checkpoints]
    if not candidates:
        raise DataError(f"{path} is a folder without weights.", "give a finished run, or a file inside the folder")
    return candidates[0]


def last_checkpoint(run: Path) -> Path | None:
    """Return the tensors of the last checkpoint of a run folder; None where it has none."""
    found = run.glob("checkpoints/step-*/model.safetensors")
    return max(found, key=lambda file: (len(file.parent.name), file.parent.name), default=None)


def _download(address: str) -> Path:
    owner, _, rest = address.removeprefix(HUB).partition("/")
    repository, _, name = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not (owner and repository and name):
        raise UsageError(f"{address} is no address of a file.", "write hf://owner/repository/file")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise UsageError(
            f"{address} needs the package huggingface_hub, which is not installed.", 'pip install "voco-cli[hub]"'
        ) from error
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", name, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{address} could not be fetched ({first_line}).") from error


MOST_TIMES_LARGER = 20
"""Trained numbers hardly compress: real files unpack to 1.1 times their size, bare zeros to 1,000 times."""
ALWAYS_UNPACKED_BYTES = 2**30
LARGEST_HEADER_BYTES = 100_000_000
"""As the safetensors library has it."""
PIECE_BYTES = 2**20
GET_AGAIN = "download or copy it again"


class Container(StrEnum):
    """Forms in which weights come."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch zip"
    PICKLE = "pickle"
    GZIP = "gzip"


class Format(StrEnum):
    """Forms of export."""

    SAFETENSORS = "safetensors"
    MONAI = "monai"
    AUTHORS = "authors"
    NNUNET = "nnunet"
    NNSSL = "nnssl"


def container_of(path: Path) -> Container:
    """Tell the form of a file, and see that it is whole as far as its outside tells.

    Raises:
        DataError: empty, cut off, something else than weights, or made to fill the memory.
    """
    size = path.stat().st_size
    with _read_or_refused(path) as stream:
        start = stream.read(512)
    if _is_gzip(start):
        return Container.GZIP
    _refuse_other_things(path, start)
    if path.suffix.lower() == ".gz":
        raise DataError(f"{path} is called .gz, and is not packed by gzip.", GET_AGAIN)
    if start.startswith(b"PK\x03\x04"):
        with _read_or_refused(path) as stream:
            _require_plain_zip(path, stream, size)
        return Container.TORCH_ZIP
    if _has_header(start) or path.suffix.lower() == ".safetensors":
        _require_whole_safetensors(path, start, size)
        return Container.SAFETENSORS
    return Container.PICKLE


def unpacked(path: Path) -> Path | io.BytesIO:
    """Give the file itself, or in memory what a gzip file holds.

    Raises:
        DataError: damaged, cut off, not weights, or a bomb: it would unpack to more than 20 times its size.
    """
    with _read_or_refused(path) as stream:
        if not _is_gzip(stream.read(16)):
            return path
    content = _gunzipped(path, _most_bytes(path.stat().st_size))
    start = bytes(content.getbuffer()[:512])
    _refuse_other_things(path, start)
    if _has_header(start):
        raise DataError(f"{path} is a safetensors file, packed by gzip.", f"unpack it: gunzip --keep {path}")
    if start.startswith(b"PK\x03\x04"):
        _require_plain_zip(path, content, len(content.getbuffer()))
        content.seek(0)
    return content


def require_plausible(path: Path, claimed_bytes: int) -> None:
    """Raise if tensors claim far more numbers than the file can hold, by strides of 0 for instance.

    Raises:
        DataError: it is a bomb.
    """
    if claimed_bytes > _most_bytes(path.stat().st_size):
        raise DataError(
            f"{path} claims tensors of {claimed_bytes / 1e9:,.1f} GB, and holds {path.stat().st_size / 1e6:,.1f} MB: "
            "it is damaged, or made to fill the memory.",
            GET_AGAIN,
        )


def _most_bytes(packed_bytes: int) -> int:
    return max(ALWAYS_UNPACKED_BYTES, MOST_TIMES_LARGER * packed_bytes)


def _read_or_refused(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error


def _gunzipped(path: Path, most_bytes: int) -> io.BytesIO:
    content = io.BytesIO()
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(PIECE_BYTES):
                if content.tell() + len(piece) > most_bytes:
                    raise DataError(
                        f"{path} unpacks to more than {MOST_TIMES_LARGER} times its size, as no weights do: it is made "
                        "to fill the memory.",
                        f"if you know what it holds, unpack it yourself: gunzip --keep {path}",
                    )
                content.write(piece)
    except EOFError as error:
        raise DataError(f"{path} is cut off: the end of the gzip file is missing.", GET_AGAIN) from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged: gzip says {str(error).rstrip('.')}.", GET_AGAIN) from error
    content.seek(0)
    return content


def _refuse_other_things(path: Path, start: bytes) -> None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise DataError(f"{path} is empty.", GET_AGAIN)
    if not start.strip(b"\0"):
        raise DataError(f"{path} begins with nothing but zeros: a download or a copy was not finished.", GET_AGAIN)
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError(
            f"{path} is a pointer of Git LFS: the repository was copied without its large files.",
            "in that repository: git lfs pull",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        raise DataError(
            f"{path} is a web page, not weights: a page of login or of an error was saved in their place.",
            "download the file itself, in a browser where you are logged in",
        )
    if text.startswith((b'{"', b"{\n", b"[")) and b"\0" not in start:
        raise DataError(f"{path} is text (JSON), not weights.", "give a run folder, .safetensors or a torch file")


def _is_gzip(start: bytes) -> bool:
    return start.startswith(b"\x1f\x8b") and not _has_header(start)


def _has_header(start: bytes) -> bool:
    """Return True where a header begins as in a safetensors file, whatever the file is called."""
    return start[8:9] == b"{" and start[5:8] == b"\0\0\0"


def _require_whole_safetensors(path: Path, start: bytes, size: int) -> None:
    if len(start) < 9:
        raise DataError(f"{path} is cut off: it ends within its header.", GET_AGAIN)
    (header_bytes,) = struct.unpack("<Q", start[:8])
    if not _has_header(start) or header_bytes > LARGEST_HEADER_BYTES:
        raise DataError(f"{path} is no safetensors file: it does not begin with a header.", GET_AGAIN)
    if 8 + header_bytes > size:
        raise DataError(f"{path} is cut off: it ends within its header.", GET_AGAIN)
    with _read_or_refused(path) as stream:
        stream.seek(8)
        raw = stream.read(header_bytes)
    try:
        header = json.loads(raw)
        ends = [int(one["data_offsets"][1]) for name, one in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is damaged: its header cannot be read.", GET_AGAIN) from error
    missing = 8 + header_bytes + max(ends, default=0) - size
    if missing > 0:
        raise DataError(f"{path} is cut off: {size:,} of {size + missing:,} bytes are there.", GET_AGAIN)


def _require_plain_zip(path: Path, stream: io.BufferedReader | io.BytesIO, size: int) -> None:
    """Raise where a zip is not as torch.save writes them: whole, and nothing in it packed."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise DataError(
            f"{path} is cut off or damaged: the list at the end of the file is missing.", GET_AGAIN
        ) from error
    names = [member.filename.rpartition("/")[2] for member in members]
    if "constants.pkl" in names:
        raise DataError(
            f"{path} is a TorchScript program, not weights.",
            "save its state_dict() with torch.save where you trust the program",
        )
    if "data.pkl" not in names:
        what = "an archive of numpy arrays" if any(name.endswith(".npy") for name in names) else "a zip archive"
        raise DataError(f"{path} is {what}, not weights.", "unpack it, and give the file of weights that is in it")
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise DataError(f"{path} is packed, as torch.save never does ({packed[0]}).", "save it again with torch.save")
    if sum(member.file_size for member in members) > size:
        raise DataError(f"{path} is damaged: its parts are larger than the file.", GET_AGAIN)
