import math

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from voco_cli.evaluate.segmentation.compare import compare_tables
from voco_cli.figures.comparison import draw_comparison

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
        picture = draw_comparison(compare_tables(runs, tables[:count], 100), metric, 2.0)
        assert picture.startswith(PNG)
        heights.append(size_px(picture)[1])
    assert heights[1] > heights[0]


def test_values_that_are_not_there() -> None:
    table = made_table([[math.nan, 0.5], [math.nan, math.nan]])
    assert draw_comparison(compare_tables(["a", "b"], [table, table], 100), "dice", 2.0).startswith(PNG)


def test_one_case_and_other_formats() -> None:
    table = made_table([[0.4, 0.5]])
    comparison = compare_tables(["a", "b"], [table, table], 100)
    assert draw_comparison(comparison, "dice", 2.0, "pdf").startswith(b"%PDF")
