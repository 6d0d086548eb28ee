"""Which panels of a run are shown, and what is said where one cannot be."""

from pathlib import Path

from tests.report.hostile_files import vast_png, write_pipe
from tests.report.made_runs import small_png
from voco_cli.document.blocks import PictureSeries, Sentence
from voco_cli.report.pretraining import evenly, location_frames


def write_panels(run: Path, steps: list[int]) -> Path:
    folder = run / "figures" / "location"
    folder.mkdir(parents=True)
    for step in steps:
        (folder / f"step-{step:06d}.png").write_bytes(small_png())
    return folder


def test_few_panels_are_all_shown_in_order(tmp_path: Path) -> None:
    (write_panels(tmp_path, [200, 0, 100]) / "notes.txt").write_text("no panel")
    (series,) = location_frames(tmp_path)
    assert isinstance(series, PictureSeries)
    assert [frame.words for frame in series.frames] == ["step 0", "step 100", "step 200"]
    assert series.shown == 2
    assert (series.frames[0].picture.width_px, series.frames[0].picture.height_px) == (30, 20)


def test_many_panels_are_thinned_evenly(tmp_path: Path) -> None:
    items = [(step, tmp_path) for step in range(0, 4500, 100)]
    assert [step // 100 for step, _ in evenly(items, 12)] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44]
    write_panels(tmp_path, list(range(0, 2000, 100)))
    (series,) = location_frames(tmp_path)
    assert isinstance(series, PictureSeries)
    assert len(series.frames) == 12
    assert (series.frames[0].words, series.frames[-1].words) == ("step 0", "step 1,900")
    assert "12 of 20 validations" in series.caption


def test_a_damaged_panel_is_named(tmp_path: Path) -> None:
    folder = write_panels(tmp_path, [0, 100])
    (folder / "step-000100.png").write_bytes(b"not a picture")
    series, sentence = location_frames(tmp_path)
    assert isinstance(series, PictureSeries)
    assert isinstance(sentence, Sentence)
    assert "step-000100.png is no picture that can be read" in sentence.text


def test_panels_made_to_do_harm_are_named(tmp_path: Path) -> None:
    folder = write_panels(tmp_path, [0])
    (folder / "step-000100.png").write_bytes(vast_png())
    write_pipe(folder / "step-000200.png")
    series, vast = location_frames(tmp_path)
    assert isinstance(series, PictureSeries)
    assert [frame.words for frame in series.frames] == ["step 0"]
    assert isinstance(vast, Sentence)
    assert "step-000100.png is no picture that can be read" in vast.text


def test_no_panels_are_said(tmp_path: Path) -> None:
    (sentence,) = location_frames(tmp_path)
    assert isinstance(sentence, Sentence)
    assert sentence.text.startswith("The run drew no panels")
