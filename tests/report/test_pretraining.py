"""A pre-training run: its verdict and figures, its panels, its position labels."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from PIL import Image

from tests.report.hostile_files import vast_png, write_pipe
from tests.report.made_runs import LEARNED, METRICS, VERDICT, pretraining_run, scan_entries, small_png
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.document.blocks import Picture, PictureSeries, Sentence, Table
from voco_cli.report.pretraining import (
    evenly,
    label_picture,
    learning_of,
    learning_part,
    pretraining_section,
    validation_pictures,
)
from voco_cli.report.run_record import read_run


def test_the_verdict_of_the_weights(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run"), "run"))
    assert (learning.status, learning.sentence, learning.tone) == ("learned", VERDICT["sentence"], "good")
    assert learning.result == "learned: rank 1.50 to 0.50, top-1 0.25 to 0.62, corr 0.25 to 0.75"
    # Two by two base crops.
    assert learning.chance == {"rank": 1.5, "cross_rank": 1.5, "top1": 0.25, "correlation": 0.0}


def test_the_table(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run"), "run"))
    (table,) = learning_part(learning, with_verdict=False).blocks
    assert isinstance(table, Table)
    assert [column.heading for column in table.columns] == ["figure", "step 0", "step 10", "chance", "better"]
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    assert rows[0] == ["rank of the true base crop", "1.5", "0.5", "1.5", "lower"]
    assert rows[1][1:4] == ["0.25", "0.625", "0.25"]
    assert rows[-1] == ["mean cosine of two base crops of a scan", "0.5", "0.125", "-", "lower"]
    first, _ = learning_part(learning, with_verdict=True).blocks
    assert first == Sentence(VERDICT["sentence"], "good")


def test_weights_without_a_verdict(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", verdict=None), "run"))
    assert learning.status == ""
    assert learning.sentence == "No verdict was written; the figures are those of the last validation, at step 10."
    assert learning.result == "rank 1.50 to 0.50, top-1 0.25 to 0.62, corr 0.25 to 0.75"


def test_a_verdict_older_than_the_last_validation_is_none(tmp_path: Path) -> None:
    later = {"step": 15, "split": "validation", **LEARNED}
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", metrics=[*METRICS, later]), "run"))
    assert learning.sentence == "No verdict was written; the figures are those of the last validation, at step 15."


def test_weights_alone_tell_their_figures(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", metrics=[]), "run"))
    assert (learning.start["rank"], learning.end["rank"], learning.end_step) == (1.5, 0.5, 10)
    assert learning.status == "learned"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=METRICS[:1])
    (run / "weights" / "encoder.json").unlink()
    only_start = learning_of(read_run(run, "run"))
    assert only_start.sentence == "Only step 0 was validated so far, which says nothing of learning."
    (run / "metrics.jsonl").unlink()
    none_yet = learning_of(read_run(run, "run"))
    assert none_yet.sentence == "No validation has been written yet, so nothing is known of its learning."
    assert none_yet.result == "no held-out figures"
    record = read_run(run, "run")
    assert record.datalist is not None
    write_datalist(Datalist(training=record.datalist.training), run / "data.json")
    nobody = learning_of(read_run(run, "run"))
    assert nobody.sentence.startswith("No scans were held out")
    assert learning_part(nobody, with_verdict=False).blocks == [Sentence(nobody.sentence)]


def test_figures_of_another_kind_are_shown_by_their_own_name(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=[])
    (run / "weights" / "encoder.json").write_text(json.dumps({"step": 10, "figures": {"novel": 1, "odd": "x"}}))
    learning = learning_of(read_run(run, "run"))
    assert learning.end == {"novel": 1.0}


def test_figures_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=[])
    about = json.loads((run / "weights" / "encoder.json").read_text())
    odd = {"rank": float("nan"), "top1": 10**400, "correlation": True, "base_cosine": 0.125}
    (run / "weights" / "encoder.json").write_text(json.dumps({**about, "figures": odd}))
    learning = learning_of(read_run(run, "run"))
    assert learning.end == {"base_cosine": 0.125}
    assert learning.result == "learned"


def test_rounding_below_zero_is_zero(tmp_path: Path) -> None:
    metrics = [{"step": 0, "split": "validation", "teacher_distance": -1.825e-9}]
    (_, table) = learning_part(
        learning_of(read_run(pretraining_run(tmp_path / "run", metrics=metrics, verdict=None), "run")),
        with_verdict=True,
    ).blocks
    assert isinstance(table, Table)
    assert [cell.text for cell in table.rows[0].cells][:3] == ["distance of student and teacher", "0", "0"]


def write_panels(run: Path, steps: list[int]) -> Path:
    folder = run / "figures" / "validation"
    folder.mkdir(parents=True)
    for step in steps:
        (folder / f"step-{step:06d}.png").write_bytes(small_png())
    return folder


def test_few_panels_are_all_shown_in_order(tmp_path: Path) -> None:
    (write_panels(tmp_path, [200, 0, 100]) / "notes.txt").write_text("no panel")
    (series,) = validation_pictures(tmp_path)
    assert isinstance(series, PictureSeries)
    assert [frame.words for frame in series.frames] == ["step 0", "step 100", "step 200"]
    assert series.shown == 2
    assert (series.frames[0].picture.width_px, series.frames[0].picture.height_px) == (30, 20)


def test_many_panels_are_thinned_evenly(tmp_path: Path) -> None:
    items = [(step, tmp_path) for step in range(0, 4500, 100)]
    assert [step // 100 for step, _ in evenly(items, 12)] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44]
    write_panels(tmp_path, list(range(0, 2000, 100)))
    (series,) = validation_pictures(tmp_path)
    assert isinstance(series, PictureSeries)
    assert len(series.frames) == 12
    assert (series.frames[0].words, series.frames[-1].words) == ("step 0", "step 1,900")
    assert "12 of 20 validations" in series.caption


def test_a_damaged_panel_is_named(tmp_path: Path) -> None:
    folder = write_panels(tmp_path, [0, 100])
    (folder / "step-000100.png").write_bytes(b"not a picture")
    series, sentence = validation_pictures(tmp_path)
    assert isinstance(series, PictureSeries)
    assert isinstance(sentence, Sentence)
    assert "step-000100.png is no picture that can be read" in sentence.text


def test_panels_made_to_do_harm_are_named(tmp_path: Path) -> None:
    folder = write_panels(tmp_path, [0])
    (folder / "step-000100.png").write_bytes(vast_png())
    write_pipe(folder / "step-000200.png")
    series, vast = validation_pictures(tmp_path)
    assert isinstance(series, PictureSeries)
    assert [frame.words for frame in series.frames] == ["step 0"]
    assert isinstance(vast, Sentence)
    assert "step-000100.png is no picture that can be read" in vast.text


def test_no_panels_are_said(tmp_path: Path) -> None:
    (sentence,) = validation_pictures(tmp_path)
    assert isinstance(sentence, Sentence)
    assert sentence.text.startswith("The run drew no pictures")


def test_the_first_scan_that_can_be_read_is_drawn(tmp_path: Path) -> None:
    (image,) = write_cts(tmp_path / "data", 1, 1, (48, 48, 24))
    entries = [*scan_entries(tmp_path, 1), Entry(image=image, patient="p")]
    found = label_picture(read_run(pretraining_run(tmp_path / "run", training=entries), "run"))
    assert isinstance(found, Picture)
    assert "2 random crops" in found.alt
    content = base64.b64decode(found.picture.source.removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (found.picture.width_px, found.picture.height_px)
        assert picture.width == 1400


def test_scans_that_are_gone_are_told(tmp_path: Path) -> None:
    several = label_picture(read_run(pretraining_run(tmp_path / "a"), "a"))
    assert isinstance(several, Sentence)
    assert several.text.startswith("None of the first 3 training scans can be drawn with its labels.")
    assert "s0.nii.gz" in several.text
    one = label_picture(read_run(pretraining_run(tmp_path / "b", training=scan_entries(tmp_path, 1)), "b"))
    assert isinstance(one, Sentence)
    assert one.text.startswith("The training scan cannot be drawn with its labels.")


def test_a_run_without_a_list(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    (run / "data.json").unlink()
    found = label_picture(read_run(run, "run"))
    assert found == Sentence("There is no list of training scans, so no labels can be drawn.", "warning")


def test_an_objective_that_the_report_does_not_know_has_its_page(tmp_path: Path) -> None:
    """What its figures are called, which way is better and what chance gives stands in the run folder."""
    metrics = [{"step": step, "split": "validation", "accuracy": value} for step, value in ((0, 0.05), (10, 0.5))]
    run = pretraining_run(tmp_path / "run", "objective.voco.weight=0", "objective.rotation.weight=1", metrics=metrics)
    info = {"label": "orientation told", "better": "higher", "chance": 0.25, "short": "accuracy"}
    hostile = {"label": ["x"], "chance": "much", "short": None}
    figures = {"accuracy": info, "odd": 3, "hostile": hostile}
    (run / "objective.json").write_text(json.dumps({"title": "rotation prediction", "figures": figures}))
    section = pretraining_section("run", read_run(run, "run"))
    assert section.result == "learned: accuracy 0.05 to 0.50"
    assert "labels" not in {part.anchor for part in section.parts}
    (table,) = section.parts[0].blocks
    assert isinstance(table, Table)
    assert [cell.text for cell in table.rows[0].cells] == ["orientation told", "0.05", "0.5", "0.25", "higher"]
    assert table.rows[0].marked
