"""What the weights that a training starts from were trained on, by their own list or by what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voco_cli.config.schema import Model
from voco_cli.data.collections.published import as_said, recognise, tensor_digest
from voco_cli.data.index.trained_on import TrainingManifest, manifest_of
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.models.weights import Weights


def manifest_before(model: Model) -> TrainingManifest:
    """Return the manifest that a training from some weights goes on with: an empty one where it starts from none.

    The list beside the weights says it; where there is none, model.weights_collection does, and else what is known of
    the authors' files.

    Raises:
        DataError: the list beside the weights is damaged.
        UsageError: model.weights_collection is no collection.
    """
    weights = model.weights
    if weights is None:
        return TrainingManifest()
    own = manifest_of(weights)
    if own is not None:
        return own
    if model.weights_collection is not None:
        return TrainingManifest(collections=(as_said(weights, model.weights_collection),))
    return known_manifest(weights, lambda: _digest(model)) or TrainingManifest(unknown=(weights,))


def known_manifest(weights: str, digest: Callable[[], str | None]) -> TrainingManifest | None:
    """Return the manifest of weights that are known to be a file of the authors; None of others.

    Args:
        weights: file or address.
        digest: gives the digest of its tensors' names and shapes; none where they cannot be read.
    """
    known = recognise(weights, digest)
    return None if known is None else TrainingManifest(collections=(known,))


def digest_of(weights: Weights) -> str | None:
    """Return the digest of the tensors' names and shapes; none of our own files, which have lists of their own."""
    if weights.settings:
        return None
    return tensor_digest({name: tuple(tensor.shape) for name, tensor in weights.tensors.items()})


def _digest(model: Model) -> str | None:
    from voco_cli.models.weights import read_weights  # needs torch, and most weights have their own list

    try:
        return digest_of(read_weights(str(model.weights), trust_pickle=model.trust_pickle, branch=model.weights_branch))
    except VocoError:
        return None  # the file may be gone when a run goes on; who needs its numbers says so
