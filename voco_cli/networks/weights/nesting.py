"""Where in a checkpoint the tensors of its network lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

RAW = (
    *("state_dict", "network_weights", "model_state_dict", "model_state", "model_weights", "net", "network", "model"),
    *("weights", "params", "module", "shadow"),
)
"""Under these keys checkpoints keep a network, in the order in which they are looked for."""
EMA = (
    *("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "ema_state"),
    *("ema_weights", "params_ema", "ema_params"),
)
"""Under these, its copy that was averaged over the steps."""
BRANCHES = (
    *("student", "teacher", "backbone", "encoder_q", "encoder_k", "encoder", "momentum_encoder"),
    *("online_encoder", "target_encoder", "online_network", "target_network"),
)
"""Under these, one of several networks; the key stays before the names of its tensors."""
NO_NETWORK = ("optim", "sched", "scaler", "loss", "metric", "random", "rng", "head", "projector", "discriminator")
DEEPEST = 8


def tensors_of(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the mapping of names to tensors of a checkpoint, whichever way it is nested.

    Names of a copy that was averaged over the steps begin with ``ema.``.
    """
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return {}
    here = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    nested = _nested(content, depth)
    # A step or a loss that was kept as a tensor lies beside the network, not in place of it.
    return nested if len(nested) >= len(here) else here


def places_of(content: Any) -> list[str]:
    """Return keys of a checkpoint below which there are tensors, whatever they are called."""
    if not isinstance(content, Mapping):
        return []
    return [str(name) for name, value in content.items() if isinstance(value, Mapping) and tensors_of(value)]


def _nested(content: Mapping[Any, Any], depth: int) -> dict[str, Tensor]:
    raw = next((found for name in RAW if (found := tensors_of(content.get(name), depth + 1))), {})
    averaged = next((found for name in EMA if (found := tensors_of(content.get(name), depth + 1))), {})
    if raw or averaged:
        return {**raw, **{_under("ema", name): tensor for name, tensor in averaged.items()}}
    branches = {
        _under(branch, name): tensor
        for branch in BRANCHES
        for name, tensor in tensors_of(content.get(branch), depth + 1).items()
    }
    return branches or _only_other(content, depth)


def _only_other(content: Mapping[Any, Any], depth: int) -> dict[str, Tensor]:
    """The tensors below a key of any name, where there is but one such key."""
    others = [
        found
        for name, value in content.items()
        if not any(word in str(name).lower() for word in NO_NETWORK)
        and isinstance(value, Mapping)
        and (found := tensors_of(value, depth + 1))
    ]
    return others[0] if len(others) == 1 else {}


def _under(prefix: str, name: str) -> str:
    return name if name.startswith(f"{prefix}.") else f"{prefix}.{name}"
