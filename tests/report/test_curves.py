"""From lines of metrics.jsonl to charts."""

from pathlib import Path

from tests.report.made_runs import METRICS, write_json_lines
from voco_cli.report.curves import compared_charts, finetuning_charts, gather_values, pretraining_charts, read_curves


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_json_lines(path, METRICS)
    odd = ["[1, 2]", '{"split": "train", "loss": 9}', '{"step": "x", "loss": 9}', '{"step": 11, "split": "train", "lo']
    path.write_text(path.read_text() + "\n".join(odd))
    found = read_curves(path)
    assert found.points("train", "loss") == ((5, 2.0), (10, 1.0))
    assert found.validated == [0, 10]
    assert found.figures(10)["rank"] == 0.5
    assert found.figures(3) == {}
    assert read_curves(tmp_path / "none.jsonl").validated == []


def test_a_step_that_was_run_again_counts_once() -> None:
    found = gather_values([{"step": 2, "split": "train", "loss": 5.0}, {"step": 2, "split": "train", "loss": 4.0}])
    assert found.points("train", "loss") == ((2, 4.0),)


def test_charts_of_a_pretraining() -> None:
    charts = pretraining_charts(gather_values(METRICS), {"rank": 1.5, "top1": 0.25})
    by_title = {chart.title: chart for chart in charts}
    assert [line.name for line in by_title["Loss and its terms"].lines] == ["loss", "positive"]
    assert [line.name for line in by_title["Correlation and top-1"].lines] == ["correlation", "top-1"]
    assert [level.text for level in by_title["Rank of the true base crop (0 is best)"].levels] == ["chance"]
    assert [level.text for level in by_title["Correlation and top-1"].levels] == ["chance, top-1"]
    assert {"Learning rate", "Throughput (scans a second)", "Share of time spent waiting for data"} <= set(by_title)
    # Nothing wrote these.
    assert not {"Distance of student and teacher", "Gradient norm"} & set(by_title)


def test_a_chart_shows_few_classes_or_their_mean() -> None:
    for count, names in ((2, ["mean Dice", "c0", "c1"]), (7, ["mean Dice"])):
        values = {f"dice/c{n}": 0.5 for n in range(count)}
        charts = finetuning_charts(gather_values([{"step": 1, "split": "validation", "dice": 0.5, **values}]))
        assert [line.name for line in charts[0].lines] == names


def test_runs_together_have_a_line_each() -> None:
    first = gather_values(METRICS)
    other = gather_values([{"step": 4, "split": "train", "loss": 3.0}])
    charts = {chart.title: chart for chart in compared_charts([("a", first), ("b", other)], {})}
    assert [(line.name, line.number) for line in charts["Loss"].lines] == [("a", 1), ("b", 2)]
    assert [line.name for line in charts["Top-1"].lines] == ["a"]


def test_numbers_that_no_chart_can_hold_are_passed_over() -> None:
    odd = [
        {"step": 1, "split": "train", "loss": 10**400},
        {"step": 10**400, "split": "train", "loss": 1.0},
        {"step": True, "split": "train", "loss": 1.0},
        {"step": -1, "split": "train", "loss": 1.0},
        {"step": 2, "split": "train", "loss": True},
        {"step": 3, "split": "train", "loss": float("nan")},
        {"step": 4, "split": "train", "loss": 0.5},
    ]
    assert gather_values(odd).points("train", "loss") == ((4, 0.5),)
