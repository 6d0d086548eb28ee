"""Which collection weights were trained on that say nothing of it themselves: the authors' files, or as a user says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from voco_cli.data.collections.catalogue import PLACE, load_collection
from voco_cli.data.index.trained_on import TrainingCollection

DIGEST_BYTES = 16
BY_NAME = "its name"
BY_NAME_AND_TENSORS = "its name, and the names and shapes of its tensors"
AS_SAID = "what --weights-collection says"


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that the authors give away.

    Attributes:
        name: of the file.
        collection: that it was trained on.
        labels: whether labels were used, in words.
        besides: what it was trained on beside the collection, of which no names are known; empty where nothing.
        tensors: `tensor_digest` of it; empty where it is not known.
    """

    name: str
    collection: str
    labels: str
    besides: str = ""
    tensors: str = ""


@cache
def published_files() -> tuple[PublishedFile, ...]:
    """Return the authors' files of weights."""
    return tuple(PublishedFile(**one) for one in yaml.safe_load((PLACE / "published.yaml").read_text(encoding="utf-8")))


def tensor_digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return 32 hexadecimal digits for the sorted names of tensors with their shapes."""
    lines = (f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
    return hashlib.blake2b("\n".join(lines).encode(errors="surrogateescape"), digest_size=DIGEST_BYTES).hexdigest()


def as_said(weights: str, collection: str) -> TrainingCollection:
    """Return what a user says of weights.

    Args:
        collection: a name, or a YAML file.
    Raises:
        UsageError: there is no such collection, or its file is not as it should be.
    """
    load_collection(collection)
    place = str(Path(collection).absolute()) if Path(collection).is_file() else collection
    return TrainingCollection(weights, place, AS_SAID)


def recognise(weights: str, digest: Callable[[], str | None] = lambda: None) -> TrainingCollection | None:
    """Return what the authors trained weights on, where these are a file of theirs.

    A file of a known name whose tensors are others is none of theirs. A file of another name that has the tensors of
    one of theirs may be a copy of it, or anybody's of the same network, which `TrainingCollection.surely` says.

    Args:
        weights: file or address; what counts is the name of the file, ``.gz`` behind it or not.
        digest: gives the `tensor_digest` of the weights; none where they cannot be read.
    """
    name = PurePosixPath(weights.replace("\\", "/")).name.removesuffix(".gz")
    named = next((one for one in published_files() if one.name == name), None)
    if named is not None:
        there = digest() if named.tensors else None
        if there is not None and there != named.tensors:
            return None
        return _collection_of(weights, named, BY_NAME if there is None else BY_NAME_AND_TENSORS)
    there = digest()
    alike = next((one for one in published_files() if one.tensors and one.tensors == there), None)
    if alike is None:
        return None
    return _collection_of(
        weights, alike, f"the names and shapes of its tensors, which are those of {alike.name}", surely=False
    )


def _collection_of(weights: str, file: PublishedFile, evidence: str, surely: bool = True) -> TrainingCollection:
    return TrainingCollection(weights, file.collection, evidence, surely, file.labels, file.besides)
