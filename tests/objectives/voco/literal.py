"""The formulae of the reference, written out with plain Python numbers and loops: slow, and nothing to get wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]
EPS = 1e-6


def cosine(a: Vector, b: Vector) -> float:
    norm_a = max(math.sqrt(sum(x * x for x in a)), 1e-8)
    norm_b = max(math.sqrt(sum(x * x for x in b)), 1e-8)
    return sum(x * y for x, y in zip(a, b, strict=True)) / (norm_a * norm_b)


def logits(feats: Matrix, bases: Matrix) -> list[list[float]]:
    return [[max(0.0, cosine(feat, base)) for base in bases] for feat in feats]


def positive(labels: Matrix, predicted: Matrix) -> float:
    total = weight = 0.0
    for row_y, row_p in zip(labels, predicted, strict=True):
        for y, p in zip(row_y, row_p, strict=True):
            total += -y * math.log(1 - abs(y - p) + EPS)
            weight += y
    return total / (weight + EPS)


def negative_squares(labels: Matrix, predicted: Matrix) -> float:
    pairs = [(y, p) for row in zip(labels, predicted, strict=True) for y, p in zip(*row, strict=True)]
    at_zero = [p for y, p in pairs if y == 0]
    return sum(p * p for p in at_zero) / (len(at_zero) + EPS)


def negative_logs(labels: Matrix, predicted: Matrix) -> float:
    pairs = [(y, p) for row in zip(labels, predicted, strict=True) for y, p in zip(*row, strict=True)]
    at_zero = [p for y, p in pairs if y == 0]
    return sum(-math.log(1 - p + EPS) for p in at_zero) / (len(at_zero) + EPS)


def cvpr(labels: Matrix, predicted: Matrix) -> float:
    return positive(labels, predicted) + negative_squares(labels, predicted)


def tpami(labels: Matrix, predicted: Matrix) -> float:
    return positive(labels, predicted) + negative_logs(labels, predicted)


def paper(labels: Matrix, predicted: Matrix) -> float:
    pairs = [(y, p) for row in zip(labels, predicted, strict=True) for y, p in zip(*row, strict=True)]
    return sum(-math.log(1 - abs(y - p) + EPS) for y, p in pairs) / len(pairs)


def regularisation(bases: Matrix) -> float:
    count = len(bases)
    total = 0.0
    for i in range(count):
        for j in range(i + 1, count):
            total += max(0.0, cosine(bases[i], bases[j])) ** 2
    return 2.0 / (count * (count - 1)) * total


def inter_volume(
    student: Sequence[Matrix],
    student_bases: Sequence[Matrix],
    teacher: Sequence[Matrix],
    teacher_bases: Sequence[Matrix],
) -> list[float]:
    losses = []
    for i in range(len(student)):
        j = (i + 1) % len(student)
        losses.append(tpami(logits(teacher[i], teacher_bases[j]), logits(student[i], student_bases[j])))
    return losses


def overlap_share(low: Sequence[int], size: Sequence[int], cell: Sequence[int], base: Sequence[int]) -> float:
    """Share of a crop's voxels in a base crop, counted one by one."""
    inside = 0
    for x in range(low[0], low[0] + size[0]):
        for y in range(low[1], low[1] + size[1]):
            for z in range(low[2], low[2] + size[2]):
                inside += (x // base[0], y // base[1], z // base[2]) == tuple(cell)
    return inside / (size[0] * size[1] * size[2])
