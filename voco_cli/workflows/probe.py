"""`voco probe` without its command line: frozen encoders on a labelled task, each against a fresh one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config import Resolved, Settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.config.validation import multiples
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.classification.metrics import ScoredCases, measure
from voco_cli.evaluate.classification.table import scored_cases
from voco_cli.evaluate.statistics import RESAMPLES, nan_mean, patient_indices, percentile_interval, resample_patients
from voco_cli.finetune.classification import category_index
from voco_cli.models.linear_probe import LinearProbe, dice_by_class, fit_linear, nearest_classes, retrieved, sample_maps
from voco_cli.objectives.draws import counter_generator
from voco_cli.predict.frozen_encoder import REGIONS, FrozenEncoder
from voco_cli.tasks.cases import StoredCase, build_cases, open_cache, stored_cases
from voco_cli.tasks.find_data import TaskData
from voco_cli.tasks.splits import subset
from voco_cli.tasks.targets import IGNORED, index_table, target_of
from voco_cli.tasks.template import network_of
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune_checks import before_finetuning

FRESH = "none"
"""The encoder that every other is held against: fresh weights, of the seed."""
POINTS = 300
"""Voxels of each class that a case trains the linear probe with, at most."""
Statistics = dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]
"""By name a figure's values_B under weights_BN of the measured cases."""
IntXYZ = tuple[int, int, int]


@dataclass(frozen=True)
class Figure:
    """A figure over the measured cases.

    Attributes:
        value, low, high: with its 95 % bootstrap interval by patient; NaN where it is not defined.
        minus_fresh: difference from fresh weights on the same cases, with its interval; None for these themselves.
    """

    value: float
    low: float
    high: float
    minus_fresh: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class ProbedEncoder:
    """What the frozen features of one encoder tell.

    Attributes:
        weights: as the user named them; `FRESH` for none.
        loaded: share of the encoder's parameters that they filled.
        figures: by name.
        seconds: that it took.
    """

    weights: str
    loaded: float
    figures: Mapping[str, Figure]
    seconds: float


@dataclass(frozen=True)
class ProbeResult:
    """How frozen encoders did on a task.

    Attributes:
        encoders: the fresh one first.
        chance: what guessing gives, by figure, where that is known.
        num_training, num_measured: cases.
        split: that was measured on.
    """

    encoders: tuple[ProbedEncoder, ...]
    chance: dict[str, float]
    num_training: int
    num_measured: int
    split: str


def run_probe(resolved: Resolved, weights: Sequence[str], callback: Callback) -> ProbeResult:
    """Measure what frozen encoders know of a task: nothing of them is trained.

    Args:
        resolved: settings of the task; its number of labelled cases counts.
        weights: anything that ``model.weights`` takes.
    Raises:
        UsageError: no data of the task, one class only, weights that do not tell their network.
        DataError: weights or scans that cannot be read.
    """
    networks = {source: with_network(resolved.settings, source) for source in dict.fromkeys(weights)}
    resolved, data = before_finetuning(_without_weights(resolved), callback)
    training, measured, split = _cases(resolved.settings, data, callback)
    probe = _probe_label_maps if target_of(resolved.settings.task).is_label_map else _probe_categories
    found: list[ProbedEncoder] = []
    fresh: Statistics = {}
    chance: dict[str, float] = {}
    for source, settings in {FRESH: _first_network(networks, resolved.settings), **networks}.items():
        began_s = time.monotonic()
        suited = settings.model_copy(update={"preprocess": resolved.settings.preprocess})
        encoder = FrozenEncoder.load(suited)
        with callback.progress(f"probing {source}", len(training) + len(measured)) as advance:
            own, chance = probe(encoder, training, measured, advance)
        figures = {name: _figure(one, fresh.get(name), measured) for name, one in own.items()}
        fresh = fresh or own
        found.append(ProbedEncoder(source, encoder.loaded, figures, time.monotonic() - began_s))
    return ProbeResult(tuple(found), chance, len(training), len(measured), split)


def with_network(settings: Settings, weights: str) -> Settings:
    """Return the settings of a task with the network of some weights, and sizes in its multiples.

    Raises:
        UsageError, DataError: as `network_of`.
    """
    network = network_of(weights, settings.model.trust_pickle)
    update = {**network.settings, "weights": weights}
    task, preprocess = settings.task, settings.preprocess
    fitting = multiples(task.patch_size, BACKBONES[network.backbone].multiple(network.levels))
    task = task.model_copy(update={"patch_size": fitting, "deep_supervision": 0})
    return settings.model_copy(
        update={"model": settings.model.model_copy(update=update), "task": task, "preprocess": preprocess}
    )


def network_overrides(settings: Settings, weights: str) -> list[str]:
    """Return ``key=value`` of the settings by which a task has the network of some weights; none where it has."""
    own = with_network(settings, weights)
    before, now = settings.model.model_dump(), own.model.model_dump()
    pairs = [(f"model.{key}", before[key], value) for key, value in now.items() if key != "weights"]
    pairs.append(("task.patch_size", settings.task.patch_size, own.task.patch_size))
    if own.task.deep_supervision != settings.task.deep_supervision:
        pairs.append(("task.deep_supervision", settings.task.deep_supervision, 0))
    return [
        f"{key}={'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, old, value in pairs
        if old != value
    ]


def _without_weights(resolved: Resolved) -> Resolved:
    settings = resolved.settings
    model = settings.model.model_copy(update={"weights": None})
    return replace(resolved, settings=settings.model_copy(update={"model": model}))


def _first_network(networks: dict[str, Settings], settings: Settings) -> Settings:
    """Return settings of a fresh encoder of the same network as the first weights."""
    first = next(iter(networks.values()), settings)
    return first.model_copy(update={"model": first.model.model_copy(update={"weights": None})})


def _cases(settings: Settings, data: TaskData, callback: Callback) -> tuple[list[StoredCase], list[StoredCase], str]:
    """Return the cases that train the probe, those that are measured, and the split of the latter.

    Raises:
        UsageError: nothing labelled to measure on.
        DataError: no case can be used.
    """
    target, datalist = target_of(settings.task), data.datalist
    training = subset(datalist.training, settings.task, settings.seed)
    split, entries = next(
        ((name, known) for name in ("test", "validation") if (known := _known(getattr(datalist, name), target))),
        ("", []),
    )
    if not entries:
        raise UsageError(f"{data.origin} has no labelled case to measure on.", "task.split=seeded draws some")
    cache = open_cache(settings)
    stored = build_cases(cache, [*training, *entries], callback)
    usable, left_out = stored_cases(cache, training, settings, stored)
    measured, others = stored_cases(cache, entries, settings, stored)
    for name, reason in [*left_out, *others]:
        callback.warn(f"left out: {name}: {reason}")
    if not usable or not measured:
        raise DataError(f"No case of {data.origin} can be used to {'measure on' if usable else 'train the probe'}.")
    return usable, measured, split


def _known(entries: Sequence[Any], target: Any) -> list[Any]:
    return [entry for entry in entries if target.is_known(entry)]


def _probe_label_maps(
    encoder: FrozenEncoder, training: Sequence[StoredCase], measured: Sequence[StoredCase], advance: Callable[[], None]
) -> tuple[Statistics, dict[str, float]]:
    """Return figures, and those of chance.

    Raises:
        UsageError: the training cases hold one class only.
    """
    task = encoder.settings.task
    names = [one.name for one in task.classes]
    num_classes = len(names) + 1
    features, classes = [], []
    counts_K = np.zeros(num_classes)
    for case in training:
        found, index, counted = _sampled(encoder, case, num_classes)
        features.append(found)
        classes.append(index)
        counts_K += counted
        advance()
    try:
        prior_K = torch.from_numpy(counts_K / counts_K.sum())
        probe = fit_linear(torch.cat(features), torch.cat(classes), num_classes, prior_K)
    except ValueError as error:
        raise UsageError(
            f"The label maps of the {len(training)} training cases hold one class only, and a probe needs two.",
            "raise task.cases, or check the task with `voco tasks check`",
        ) from error
    dice, embedded = [], []
    for case in measured:
        volume = encoder.read(case)
        truth = _truth(case, encoder.settings)
        dice.append(dice_by_class(_segment(encoder, probe, volume), truth, num_classes, IGNORED))
        embedded.append(encoder.regions(volume))
        advance()
    dice_NK = np.stack(dice)
    own = {"linear Dice": _mean_of(nan_mean(dice_NK, axis=1))}
    own |= {f"linear Dice, {name}": _mean_of(dice_NK[:, k]) for k, name in enumerate(names)} if len(names) > 1 else {}
    regions = REGIONS**3
    patients = np.repeat(patient_indices([one.entry.patient for one in measured]), regions)
    places = np.tile(np.arange(regions), len(measured))
    crops_NE = torch.cat(embedded)
    place_N = retrieved(crops_NE, places.tolist(), patients.tolist()).reshape(-1, regions).mean(1)
    patient_N = retrieved(crops_NE, patients.tolist(), places.tolist()).reshape(-1, regions).mean(1)
    own |= {"same region": _mean_of(place_N), "same patient": _mean_of(patient_N)}
    return own, {"same region": 1 / regions, "same patient": 1 / len(set(patients.tolist()))}


def _mean_of(values_N: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the weighted mean over the cases that have a value."""
    there = ~np.isnan(values_N)

    def mean(weights_BN: NDArray[np.float64]) -> NDArray[np.float64]:
        sums_B, totals_B = weights_BN[:, there] @ values_N[there], weights_BN[:, there].sum(1)
        return np.asarray(np.divide(sums_B, totals_B, out=np.full(len(weights_BN), np.nan), where=totals_B > 0))

    return mean


def _figure(own: Any, fresh: Any, measured: Sequence[StoredCase]) -> Figure:
    """Return a figure with its interval, and its difference from the fresh encoder's."""
    patient_N = patient_indices([case.entry.patient for case in measured])
    all_1N = np.ones((1, len(measured)))
    weights_BN = resample_patients(int(patient_N.max()) + 1, RESAMPLES, 0)[:, patient_N]
    value, values_B = float(own(all_1N)[0]), own(weights_BN)
    if fresh is None:
        return Figure(value, *percentile_interval(values_B))
    difference = value - float(fresh(all_1N)[0])
    low, high = percentile_interval(values_B - fresh(weights_BN))
    return Figure(value, *percentile_interval(values_B), (difference, low, high))


def _truth(case: StoredCase, settings: Settings) -> NDArray[np.uint8]:
    labels = case.volumes[0].read_label((0, 0, 0), case.shape_xyz)
    return np.asarray(index_table(settings.task.classes, settings.task.ignore_value)[labels])


def _sampled(encoder: FrozenEncoder, case: StoredCase, num_classes: int) -> tuple[Tensor, Tensor, NDArray[np.float64]]:
    """Return features_PE and classes_P of some voxels of a case, and how many voxels each class has in all."""
    truth = _truth(case, encoder.settings)
    generator = counter_generator(encoder.settings.seed, 0, case.name, "probe")
    chosen = []
    for k in range(num_classes):
        places = np.flatnonzero(truth == k)
        chosen.append(places if places.size <= POINTS else generator.choice(places, POINTS, replace=False))
    places_P3 = torch.from_numpy(np.stack(np.unravel_index(np.concatenate(chosen), truth.shape), axis=1))
    classes_P = torch.from_numpy(np.repeat(np.arange(num_classes), [len(one) for one in chosen]))
    size = torch.tensor(encoder.settings.task.patch_size)
    features, order = [], []
    left_P = torch.ones(len(places_P3), dtype=torch.bool)
    for start, tile in encoder.tiles(encoder.read(case)):
        inside = left_P & ((places_P3 >= torch.tensor(start)) & (places_P3 < torch.tensor(start) + size)).all(1)
        left_P &= ~inside
        if inside.any():
            own = places_P3[inside] - torch.tensor(start)
            features.append(sample_maps(encoder.maps(tile), own, size.tolist()).cpu())
            order.append(inside.nonzero()[:, 0])
    counts_K = np.array([np.count_nonzero(truth == k) for k in range(num_classes)], dtype=np.float64)
    return torch.cat(features), classes_P[torch.cat(order)], counts_K


def _segment(encoder: FrozenEncoder, probe: LinearProbe, volume_1CXYZ: Tensor) -> NDArray[np.intp]:
    """Return the class of each voxel."""
    x, y, z = volume_1CXYZ.shape[2:]
    size = encoder.settings.task.patch_size
    found = np.zeros((x + size[0], y + size[1], z + size[2]), np.intp)
    there = LinearProbe(probe.weights_KE.float().to(encoder.device), probe.bias_K.float().to(encoder.device))
    for (a, b, c), tile in encoder.tiles(volume_1CXYZ):
        logits_KXYZ = there.logits_of_maps(encoder.maps(tile), size)
        found[a : a + size[0], b : b + size[1], c : c + size[2]] = logits_KXYZ.argmax(0).cpu().numpy()
    return found[:x, :y, :z]


def _probe_categories(
    encoder: FrozenEncoder, training: Sequence[StoredCase], measured: Sequence[StoredCase], advance: Callable[[], None]
) -> tuple[Statistics, dict[str, float]]:
    """Return figures, and those of chance.

    Raises:
        UsageError: the training cases have one category only.
    """
    task = encoder.settings.task
    num_classes = len(task.classes)
    embedded = {}
    for case in [*training, *measured]:
        embedded[case.name] = encoder.embed(encoder.read(case))
        advance()
    known_ME, asked_NE = (torch.cat([embedded[case.name] for case in cases]) for cases in (training, measured))
    classes_M = torch.tensor([category_index(task, case.entry) for case in training])
    try:
        probe = fit_linear(known_ME, classes_M, num_classes)
    except ValueError as error:
        raise UsageError(
            f"The {len(training)} training cases are all of one category, and a probe needs two.", "raise task.cases"
        ) from error
    linear_NK = probe.logits(asked_NE).softmax(1)
    nearest_NK = nearest_classes(asked_NE, known_ME, classes_M, num_classes)
    truth = [(case.name, case.entry.patient, category_index(task, case.entry)) for case in measured]
    own: Statistics = {}
    for name, shares_NK in (("linear", linear_NK), ("kNN", nearest_NK)):
        rows = {case.name: row.tolist() for case, row in zip(measured, shares_NK, strict=True)}
        scored = scored_cases(truth, rows, [one.name for one in task.classes])
        for key, title in (("auc", "AUC"), ("balanced_accuracy", "balanced accuracy")):
            own[f"{name} {title}"] = partial(_measured, scored, key)
    chance = {name: 0.5 if name.endswith("AUC") else 1 / len({index for _, _, index in truth}) for name in own}
    return own, chance


def _measured(scored: ScoredCases, key: str, weights_BN: NDArray[np.float64]) -> NDArray[np.float64]:
    return measure(scored, weights_BN)[0][key]
