"""Weights that a run starts from, as the settings ask for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from voco_cli.networks.weights.architecture import shapes_only
from voco_cli.networks.weights.load import load_into
from voco_cli.networks.weights.read import read_weights
from voco_cli.networks.weights.report import LoadReport
from voco_cli.settings.sections import Model


def check_start(build: Callable[[], nn.Module], model: Model) -> LoadReport | None:
    """What `load_start` would do to the network that ``build`` makes, without its memory: in a second, beforehand.

    Raises:
        UsageError, DataError: as `load_start`.
    """
    if model.weights is None:
        return None
    with shapes_only():
        network = build()
    return load_start(network, model)


def load_start(network: nn.Module, model: Model) -> LoadReport | None:
    """Fill a network with ``model.weights``; it keeps what they do not hold.

    Returns:
        the fate of each tensor; None where no weights are asked for.
    Raises:
        UsageError, DataError: as :func:`read_weights` and :func:`load_into`.
    """
    if model.weights is None:
        return None
    weights = read_weights(
        model.weights,
        trust_pickle=model.trust_pickle,
        branch=model.weights_branch,
        patch_merging=None if model.weights_merging == "auto" else model.weights_merging,
    )
    return load_into(network, weights, min_loaded=model.min_loaded, input_channels=model.input_channels)
