"""The label preview in a report, and the sentence in its place."""

import base64
import io
from pathlib import Path

from PIL import Image

from tests.report.made_runs import pretraining_run, scan_entries
from voco_cli.data.index.datalist import Entry
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.document.blocks import Picture, Sentence
from voco_cli.report.pretraining import label_picture
from voco_cli.report.run_record import read_run


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
