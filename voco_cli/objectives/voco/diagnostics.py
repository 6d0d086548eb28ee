"""Is it learning? Figures on held-out scans, and the verdict that follows from them.

V scans, S fixed random crops and K base crops of each, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from voco_cli.config.schema import Health
from voco_cli.objectives.objective import Figures, Verdict
from voco_cli.objectives.voco.losses import at_least_float32, cosine
from voco_cli.objectives.voco.model import Embedded, VolumeContrast


def held_out_figures(model: VolumeContrast, student: Embedded, teacher: Embedded, labels_VSK: Tensor) -> Figures:
    """Return the figures of one validation on held-out scans.

    Returns:
        rank: mean 0-based rank of the base crop with the largest label, by cosine before the ReLU, ties averaged.
        cross_rank: the same against the base crops of the next scan (absent for a single scan).
        top1: share of crops whose largest cosine is at the largest label.
        correlation: Pearson's, of logits and labels.
        label_error: mean absolute error; misleads, as logits of 0 score well.
        base_cosine: mean cosine of two base crops of a scan.
        effective_rank: exponential of the entropy of the singular values of all base embeddings.
        dead_true: share of crops whose true base has a cosine of at most 0, where the ReLU passes no gradient.
        teacher_distance: mean of 1 - cosine between student and teacher, of the same crop.
    """
    labels = labels_VSK.to(student.random_BSC.device, torch.float32)
    cosines = model.cosines(student, teacher)
    logits = model.cosines(student, teacher, after=torch.relu)
    true = labels.argmax(-1, keepdim=True)
    true_cosine = cosines.gather(-1, true)
    num_bases = labels.shape[-1]
    pairs = torch.ones(num_bases, num_bases, dtype=torch.bool, device=labels.device).triu(1)
    distance = torch.cat(
        [
            1 - torch.cosine_similarity(at_least_float32(a), at_least_float32(b), dim=-1).flatten()
            for a, b in ((student.random_BSC, teacher.random_BSC), (student.bases_BKC, teacher.bases_BKC))
        ]
    )
    figures = {
        "rank": mean_rank(cosines, true),
        "top1": (cosines.argmax(-1, keepdim=True) == true).float().mean(),
        "correlation": correlation(logits, labels),
        "label_error": (logits - labels).abs().mean(),
        "base_cosine": cosine(student.bases_BKC, student.bases_BKC)[:, pairs].mean(),
        "effective_rank": effective_rank(student.bases_BKC.flatten(0, 1)),
        "dead_true": (true_cosine <= 0).float().mean(),
        "teacher_distance": distance.mean(),
    }
    if labels.shape[0] > 1:
        elsewhere = Embedded(teacher.random_BSC, teacher.bases_BKC.roll(-1, 0))
        back = Embedded(student.random_BSC, student.bases_BKC.roll(-1, 0))
        figures["cross_rank"] = mean_rank(model.cosines(back, elsewhere), true)
    return {name: float(value) for name, value in figures.items()}


def true_ranks(cosines_VSK: Tensor, true_VS1: Tensor) -> Tensor:
    """0-based rank_VS of the true base crop of each random crop; equal cosines share the mean of their ranks."""
    at_true = cosines_VSK.gather(-1, true_VS1)
    above = (cosines_VSK > at_true).sum(-1)
    equal = (cosines_VSK == at_true).sum(-1) - 1
    ranks: Tensor = above + equal / 2
    return ranks


def mean_rank(cosines_VSK: Tensor, true_VS1: Tensor) -> Tensor:
    """Mean of :func:`true_ranks`."""
    return true_ranks(cosines_VSK, true_VS1).mean()


def correlation(logits: Tensor, labels: Tensor) -> Tensor:
    """Pearson's correlation over all entries; 0 where the logits are constant."""
    a, b = logits.flatten() - logits.mean(), labels.flatten() - labels.mean()
    norms: Tensor = a.norm() * b.norm()
    return (a * b).sum() / norms.clamp(min=1e-12)


def effective_rank(rows_NC: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values (Roy and Vetterli, EUSIPCO 2007, Sec. 2)."""
    values = torch.linalg.svdvals(at_least_float32(rows_NC))
    shares = values / values.sum().clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def chance_figures(num_bases: int) -> Figures:
    """What guessing gives, where that is known."""
    return {"rank": (num_bases - 1) / 2, "cross_rank": (num_bases - 1) / 2, "top1": 1 / num_bases, "correlation": 0.0}


@dataclass(frozen=True)
class HeldOutSize:
    """What figures rest on: held-out scans, and the random and base crops of each."""

    scans: int
    crops: int
    bases: int

    def __str__(self) -> str:
        return f"{self.scans} held-out scan{'s' if self.scans > 1 else ''} ({self.scans * self.crops} crops)"


def verdict(start: Mapping[str, float], now: Mapping[str, float], seen: HeldOutSize, health: Health) -> Verdict:
    """Compare the last look with the first one of the same seed.

    Args:
        start: figures at step 0, with the teacher as a copy of the student.
        now: figures of the last look.
        seen: what was looked at; an effective rank cannot exceed the number of base crops.
        health: the gates.
    """
    floor = min(health.min_effective_rank, seen.scans * seen.bases / 4)
    if now["base_cosine"] > health.max_base_cosine or now["effective_rank"] < floor:
        return Verdict(
            "collapsed",
            f"Collapsed: on {seen} base crops look alike (mean cosine {now['base_cosine']:.2f}, effective rank "
            f"{now['effective_rank']:.1f}); try a lower train.lr or a higher objective.voco.regularisation_weight.",
        )
    ratio = now["rank"] / max(start["rank"], 1e-6)
    found = (
        f"the true base crop ranks {now['rank']:.2f} (step 0: {start['rank']:.2f}), "
        f"logits and labels correlate {now['correlation']:.2f}"
    )
    if ratio <= health.max_rank_ratio and now["correlation"] >= health.min_correlation:
        return Verdict("learned", f"Learned to locate: on {seen} {found}.")
    return Verdict(
        "not yet",
        f"Not yet: on {seen} {found}, and learned means at most {health.max_rank_ratio:g} times the rank of "
        f"step 0 and a correlation of at least {health.min_correlation:g}; train longer or raise train.lr.",
    )
