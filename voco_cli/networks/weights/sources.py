"""From what a user names to a file on disk: a path, a run folder, a checkpoint folder, or a file on a model hub."""

from __future__ import annotations

from pathlib import Path

from voco_cli.errors import DataError, UsageError

HUB = "hf://"
IN_FOLDER = ("weights/model.safetensors", "weights/encoder.safetensors", "model.safetensors", "encoder.safetensors")
"""Where a run, its folder of weights or a checkpoint keeps them; the whole network before the encoder alone."""


def find_file(source: str | Path, branch: str = "student") -> Path:
    """The file that holds the weights.

    Args:
        source: a file; a run folder or a part of one; or ``hf://owner/repository/file``, with ``@revision`` after the
            repository if wanted.
        branch: the teacher of a run is in its checkpoints only.
    Raises:
        DataError: there is nothing, or nothing that holds weights.
        UsageError: the address is incomplete, or the extra ``hub`` is missing.
    """
    if str(source).startswith(HUB):
        return _download(str(source))
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist.", "give a run folder, a file of weights or hf://owner/repository/file")
    found = path.glob("checkpoints/step-*/model.safetensors")
    checkpoints = sorted(found, key=lambda file: (len(file.parent.name), file.parent.name))[-1:]
    there = [path / name for name in IN_FOLDER if (path / name).is_file()]
    candidates = [*checkpoints, *there] if branch == "teacher" else [*there, *checkpoints]
    if not candidates:
        raise DataError(f"{path} is a folder without weights.", "give a finished run, or a file inside the folder")
    return candidates[0]


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
