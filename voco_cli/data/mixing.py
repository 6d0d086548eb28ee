"""How often sets of scans of different size are drawn: in proportion, by the square root of their size, or alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voco_cli.config.schema import Mix

POWERS: dict[Mix, float] = {"proportional": 1.0, "sqrt": 0.5, "equal": 0.0}
"""A set of n scans has the weight n to this power."""
MOST_NAMED = 12
WITHOUT_NAME = "others"
OWN_STREAM = 1
"""Keeps these draws apart from the shuffles of epochs without sets."""


def draws_of_sets(sizes: Sequence[int], draws: int, most_each: int, mix: Mix) -> NDArray[np.int64]:
    """Return how many of the draws of an epoch each set gets; what is lost by rounding goes to the largest remainders.

    A set has at most ``most_each`` draws of each of its scans; the others share what it cannot take.

    Args:
        sizes: scans of each set, none of them 0.
        most_each: batches of the epoch, as a batch has no scan twice.
    """
    weights = np.asarray(sizes, np.float64) ** POWERS[mix]
    most = np.asarray(sizes, np.int64) * most_each
    wanted, full = np.zeros(len(sizes)), np.zeros(len(sizes), np.bool_)
    for _ in sizes:
        left = draws - most[full].sum()
        wanted = np.where(full, most, left * weights / max(weights[~full].sum(), np.finfo(float).tiny))
        if not (wanted > most).any():
            break
        full |= wanted > most
    found = np.floor(wanted).astype(np.int64)
    order = np.argsort(found - wanted, kind="stable")
    found[order[: draws - int(found.sum())]] += 1
    return found


@dataclass(frozen=True, eq=False)
class SetMix:
    """Epochs that draw sets as a mix asks.

    Attributes:
        members: numbers of the scans of each set.
        mix: how often each is drawn.
    """

    members: tuple[NDArray[np.int64], ...]
    mix: Mix

    def batch(self, seed: int, epoch: int, position: int, shape: tuple[int, int]) -> NDArray[np.int64]:
        """Return the scans of one batch of all processes together, in random order; none is in it twice.

        Args:
            shape: batches of an epoch, and scans of a batch.
        """
        row: NDArray[np.int64] = _mixed_epoch(self, seed, epoch, shape)[position]
        return row


@lru_cache(maxsize=2)
def _mixed_epoch(mix: SetMix, seed: int, epoch: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the scans of every batch of an epoch, a row a batch.

    Draws are laid out set by set and scan by scan, and dealt to the batches in turn: every batch has nearly the same
    share of each set, and draws of one scan, never more than there are batches, fall into different ones. A scan that
    is drawn once more than others of its set in this epoch is so by turns: over many epochs all are drawn alike.
    """
    batches, width = shape
    counts = draws_of_sets([len(one) for one in mix.members], batches * width, batches, mix.mix)
    generator = np.random.default_rng([seed, epoch, OWN_STREAM])
    drawn = []
    for number in generator.permutation(len(mix.members)).tolist():
        members = mix.members[number]
        each, more = divmod(int(counts[number]), len(members))
        turns = np.random.default_rng([seed, number, OWN_STREAM, OWN_STREAM]).permutation(len(members))
        times = np.full(len(members), each)
        times[turns[(epoch * more + np.arange(more)) % len(members)]] += 1
        order = generator.permutation(len(members))
        drawn.append(np.repeat(members[order], times[order]))
    dealt = np.concatenate(drawn).reshape(width, batches).T
    return generator.permuted(generator.permutation(dealt), axis=1)


def set_mix(names: Sequence[str], mix: Mix) -> SetMix | None:
    """Return how scans are drawn by the name of the set of each; none where that is in proportion, set or not."""
    if mix == "proportional":
        return None
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return SetMix(tuple(np.asarray(places[name], np.int64) for name in sorted(places)), mix)


def single_draws(names: Sequence[str], mix: Mix) -> tuple[float, ...]:
    """Return the cumulative probability of each scan in a single draw; empty where all are as likely."""
    if mix == "proportional":
        return ()
    sizes = Counter(names)
    weights = np.array([sizes[name] ** (POWERS[mix] - 1) for name in names])
    return tuple((np.cumsum(weights) / weights.sum()).tolist())


def epoch_words(names: Iterable[str], mix: Mix, batches: int, width: int) -> str | None:
    """Say how often an epoch draws each set; nothing where there is one alone.

    Args:
        names: of the set of each scan.
        batches, width: of an epoch, and scans in one of all processes together.
    """
    sizes = dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
    if len(sizes) < 2:
        return None
    counts = draws_of_sets(list(sizes.values()), batches * width, batches, mix).tolist()
    parts = [f"{name or WITHOUT_NAME} {n} (of {size})" for (name, size), n in zip(sizes.items(), counts, strict=True)]
    more = f" and {len(parts) - MOST_NAMED} sets more" if len(parts) > MOST_NAMED else ""
    return f"draws of scans by set in an epoch (data.mix {mix}): {', '.join(parts[:MOST_NAMED])}{more}"
