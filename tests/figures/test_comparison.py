"""The picture of a comparison, of both kinds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from tests.evaluate.made_scores import random_scores
from voco_cli.evaluate.classification.compare import ClassificationComparison, compare_classifications
from voco_cli.evaluate.segmentation.compare import compare_tables
from voco_cli.figures.comparison import compose, draw_comparison
from voco_cli.figures.style import figure_style

PNG = b"\x89PNG\r\n\x1a\n"


def size_px(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize("metric", ["dice", "hd95_mm"])
def test_two_and_more_runs(metric: str) -> None:
    rng = np.random.default_rng(0)
    names = [f"organ {i} with a name" for i in range(13)]
    tables = [made_table(rng.uniform(0.5, 1, (20, 13)), names=names) for _ in range(3)]
    heights = []
    for count in (2, 3):
        runs = ["scratch", "voco_$x_1$", "a very long name of a run that nobody would want to read"][:count]
        picture = draw_comparison(compare_tables(runs, tables[:count], 100), metric)
        assert picture.startswith(PNG)
        heights.append(size_px(picture)[1])
    assert heights[1] > heights[0]


def test_values_that_are_not_there() -> None:
    table = made_table([[math.nan, 0.5], [math.nan, math.nan]])
    assert draw_comparison(compare_tables(["a", "b"], [table, table], 100), "dice").startswith(PNG)


def test_one_case_and_other_formats() -> None:
    table = made_table([[0.4, 0.5]])
    comparison = compare_tables(["a", "b"], [table, table], 100)
    assert draw_comparison(comparison, "dice", "pdf").startswith(b"%PDF")


def compared(count: int, categories: int = 3) -> ClassificationComparison:
    first = random_scores(0, num_categories=categories)
    others = [random_scores(0, num_categories=categories) for _ in range(count - 1)]
    rng = np.random.default_rng(0)
    others = [replace(one, probabilities_NK=rng.dirichlet(np.ones(categories), len(one.cases))) for one in others]
    runs = ["scratch", "voco_$x_1$", "a very long name of a run that nobody would want to read"][:count]
    return compare_classifications(runs, [first, *others], 200)


@pytest.mark.parametrize(("count", "categories"), [(2, 2), (2, 3), (3, 3)])
def test_two_and_more_classifications(count: int, categories: int) -> None:
    assert draw_comparison(compared(count, categories)).startswith(PNG)


def test_the_marks_stand_where_the_numbers_say() -> None:
    found = compared(2)
    with figure_style():
        forest, dots = compose(found, found.panels("figures")).axes
    labels = [label.get_text() for label in forest.get_yticklabels()]
    assert labels[:5] == ["AUC", "accuracy", "balanced accuracy", "macro F1", "normal: AUC"]
    marks = [line for line in forest.lines if line.get_marker() in ("D", "o")]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [
        (one.difference, row) for row, one in enumerate(found.differences)
    ]
    assert [line.get_markerfacecolor() != "white" for line in marks] == [one.p_holm < 0.05 for one in found.differences]
    bars = [line for line in dots.lines if line.get_linewidth() == 2]
    assert [bar.get_ydata()[0] for bar in bars] == pytest.approx(found.true_probabilities.mean(axis=1))


def test_one_patient_and_other_formats() -> None:
    tables = [replace(random_scores(seed, 6), patients=("p",) * 6, truth_N=np.array([0, 1, 2] * 2)) for seed in (1, 2)]
    comparison = compare_classifications(["a", "b"], tables, 100)
    assert draw_comparison(comparison, file_format="pdf").startswith(b"%PDF")
