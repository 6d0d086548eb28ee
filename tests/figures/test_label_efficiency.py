import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.evaluate.made_results import made_table
from voco_cli.figures.label_efficiency import _compose, draw_label_efficiency
from voco_cli.figures.style import figure_style
from voco_cli.study.analysis import METRICS, LabelEfficiency, ScoredRun, label_efficiency, verdict

PNG = b"\x89PNG\r\n\x1a\n"


def found(arms: tuple[str, ...], sizes: tuple[int, ...], seeds: int) -> LabelEfficiency:
    """Arm number a is 0.05 a above the first; seeds and cases differ by known steps."""
    case = np.linspace(0, 0.1, 12)[:, None]
    runs = [
        ScoredRun(arm, n, s, made_table(0.6 + 0.01 * n + 0.001 * s * (a + 1) + 0.05 * a + case, names=["organ"]))
        for s in range(seeds)
        for n in sizes
        for a, arm in enumerate(arms)
    ]
    return label_efficiency(runs, METRICS["segmentation"], resamples=200)


@pytest.mark.parametrize(
    "arms", [("none",), ("none", "voco_$x_1$"), ("none", *(f"a rather long name {i}" for i in range(4)))]
)
def test_any_number_of_arms(arms: tuple[str, ...]) -> None:
    assert draw_label_efficiency(found(arms, (5, 10), 3)).startswith(PNG)


@pytest.mark.parametrize("scale", [1.0, 0.01, 0.001])
def test_the_names_of_the_axes_are_on_the_picture(scale: float) -> None:
    case = scale * np.linspace(0, 0.1, 12)[:, None]
    runs = [
        ScoredRun(arm, 4, s, made_table(scale * (0.4 + 0.05 * a + 0.03 * s) + case, names=["organ"]))
        for a, arm in enumerate(("none", "voco"))
        for s in range(2)
    ]
    study = label_efficiency(runs, METRICS["segmentation"], resamples=200)
    with figure_style():
        figure = _compose(study)
        renderer = FigureCanvasAgg(figure).get_renderer()
        lefts = [axes.get_tightbbox(renderer).x0 / figure.dpi for axes in figure.axes]
    assert lefts[0] > 0.1
    assert lefts[1] > figure.axes[0].get_position().x1 * 9.0 + 0.1


def test_one_seed_and_other_formats() -> None:
    assert draw_label_efficiency(found(("none", "voco"), (5,), 1), file_format="pdf").startswith(b"%PDF")


def test_the_marks_stand_where_the_numbers_say() -> None:
    study = found(("none", "voco"), (5, 10, 20), 3)
    with figure_style():
        scores, gains = _compose(study).axes
    lines = [line for line in scores.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in lines] == [
        [one.mean for one in study.scores if one.arm == arm] for arm in ("none", "voco")
    ]
    assert [label.get_text() for label in scores.get_xticklabels()] == ["5", "10", "20"]
    filled = [line for line in gains.lines if line.get_marker() == "s"]
    assert [line.get_ydata()[0] for line in filled] == [one.difference for one in study.gains]
    assert {verdict(one) for one in study.gains} == {"higher"}
    assert all(line.get_markerfacecolor() != "white" for line in filled)
    low, high = gains.get_ylim()
    assert low < 0 < high


def test_a_difference_that_is_not_shown_is_hollow() -> None:
    study = found(("none", "voco"), (5,), 1)
    with figure_style():
        _, gains = _compose(study).axes
    assert [line.get_markerfacecolor() for line in gains.lines if line.get_marker() == "s"] == ["white"]
