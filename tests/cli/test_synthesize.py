from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.workflows.test_synthesize import SHAPE, made_pair
from voco_cli.cli.app import app
from voco_cli.errors import VocoError
from voco_cli.figures import tumour_views


def voco(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return made_pair(tmp_path)


def test_a_pair_a_picture_and_a_record_are_written(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    out = tmp_path / "out"
    ran = voco("synthesize", *pair, "-o", out, "--organ", "liver", "--size", "7", "--number", "2", "--copies", "2")
    assert ran.exit_code == 0, ran.output
    assert "wrote" in ran.output
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    one = {"imagesTr/case_1.nii.gz", "labelsTr/case_1.nii.gz", "labelsTr/case_1.json", "case_1.json", "case_1.png"}
    assert names == one | {name.replace("case_1", "case_2") for name in one}
    with Image.open(out / "case_1.png") as picture:
        assert picture.width == 2100
    told = json.loads((out / "case_1.json").read_text())
    assert [tumour["radius_mm"] for tumour in told["tumours"]] == [7.0, 7.0]
    again = voco("synthesize", "paint", *pair, "-o", out, "--organ", "liver")
    assert isinstance(again.exception, VocoError)
    assert again.exception.message == f"{out}/imagesTr/case_1.nii.gz exists."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "20:5"), "--size 20:5 is no range."),
        (("--number", "0:3"), "--number 0:3 is no range."),
        (("--number", "1.5"), "--number 1.5 is no range."),
        (("--size", "5:nan"), "--size 5:nan is no range."),
    ],
)
def test_ranges_that_are_none_are_refused(
    tmp_path: Path, pair: tuple[Path, Path], words: tuple[str, str], message: str
) -> None:
    ran = voco("synthesize", *pair, "-o", tmp_path / "out", "--organ", "liver", *words)
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.message == message
    assert not (tmp_path / "out").exists()


def test_constants_come_from_a_file_and_wrong_ones_are_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("contrast_hu: [30, 30]\ncapsule_share: 0\n")
    asked = ("synthesize", *pair, "-o", tmp_path / "out", "--organ", "liver", "--size", "8", "--rules", rules)
    assert voco(*asked, "--json").exit_code == 0
    told = json.loads((tmp_path / "out" / "case_1.json").read_text())
    assert told["rules"]["contrast_hu"] == [30.0, 30.0]
    assert all(10 <= tumour["drop_hu"] < 17 for tumour in told["tumours"])
    rules.write_text("contrast: 3\n")
    ran = voco(*asked, "--force")
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.message == f"{rules}: contrast: Extra inputs are not permitted."


def test_no_place_is_an_error_and_nothing_is_written(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "rules.yaml").write_text("vessel_above_hu: -1000\n")  # all of the organ is vessel
    ran = voco("synthesize", *pair, "-o", tmp_path / "out", "--organ", "liver", "--rules", tmp_path / "rules.yaml")
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.message == "Nothing was painted: no place was found."
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_readers_get_shuffled_crops_and_their_answers_are_measured(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    out, kit = tmp_path / "out", tmp_path / "kit"
    asked = ("synthesize", *pair, "--organ", "liver", "--size", "5", "--number", "3")
    assert voco(*asked, "-o", out).exit_code == 0
    assert voco(*asked, "-o", tmp_path / "real", "--seed", "1").exit_code == 0  # stands for real ones
    listed = tmp_path / "data.json"
    assert voco("index", tmp_path / "real", "-o", listed).exit_code == 0
    ran = voco("synthesize", "kit", out, "--real", listed, "-o", kit, "--crops", "6")
    assert ran.exit_code == 0, ran.output
    key = list(csv.DictReader(io.StringIO((kit / "key.csv").read_text())))
    assert sorted(row["truth"] for row in key) == ["painted"] * 3 + ["real"] * 3
    page = (kit / "readers.html").read_text()
    assert re.findall(r'data-crop="([0-9a-f]+)"', page) == [row["crop"] for row in key]
    assert "case_1" not in page
    picture = re.search(r"data:image/png;base64,([^\"]+)", page)
    assert picture is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture[1]))))
    assert pixels.shape == (384, 3 * 384)
    # The lesion is at the middle of each view, and the liver around it brighter.
    assert all(pixels[192, 384 * n + 192] < pixels[192, 384 * n + 270] for n in range(3))

    answers = tmp_path / "answers.csv"
    answers.write_text("crop,answer\n" + "".join(f"{row['crop']},painted\n" for row in key))
    told = json.loads(voco("synthesize", "read", kit, answers, "--json").stdout)
    (reader,) = told["readers"]
    assert (reader["sensitivity"]["value"], reader["specificity"]["value"]) == (1.0, 0.0)
    assert reader["accuracy"]["part"] == 3
    answers.write_text("crop,answer\nzzz,real\n")
    wrong = voco("synthesize", "read", kit, answers)
    assert isinstance(wrong.exception, VocoError)
    assert wrong.exception.message == f"{answers} has the crop 'zzz', which {kit} does not have."


def test_a_kit_without_real_lesions_says_so(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    out = tmp_path / "out"
    assert voco("synthesize", *pair, "--organ", "liver", "--size", "6", "-o", out).exit_code == 0
    listed = tmp_path / "data.json"
    assert voco("index", out, "-o", listed).exit_code == 0
    ran = voco("synthesize", "kit", out, "--real", listed, "--lesion", "cyst", "-o", tmp_path / "kit")
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.message == f"{listed} has no class 'cyst'."


def test_copies_are_of_the_patient_of_their_original(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """However the original is called, alone or in one list with it; a leak would split copies over the splits."""
    out, alone, both = tmp_path / "out", tmp_path / "alone.json", tmp_path / "both.json"
    asked = ("synthesize", *pair, "-o", out, "--organ", "liver", "--size", "5", "--number", "1", "--copies", "4")
    assert voco(*asked).exit_code == 0
    assert voco("index", out, "-o", alone).exit_code == 0
    listed = json.loads(alone.read_text())
    assert [one["patient"] for one in listed["training"]] == ["case"] * 4
    assert (listed.get("validation", []), listed.get("skipped", [])) == ([], [])  # record and picture are no scans
    # Images alone, a copy of a copy, and an original whose patient a pattern names.
    again = ("synthesize", out / "imagesTr/case_1.nii.gz", out / "labelsTr/case_1.nii.gz", "-o", tmp_path / "again")
    assert voco(*again, "--organ", "liver", "--size", "4", "--number", "1").exit_code == 0
    images = (out / "imagesTr", tmp_path / "again", *pair)
    pattern = rf"{tmp_path.name}/(ca)se.nii"
    assert voco("index", *images, "-o", both, "--patient-pattern", pattern).exit_code == 0
    listed = json.loads(both.read_text())
    patients = {
        Path(one["image"]).name: one["patient"] for split in ("training", "validation") for one in listed[split]
    }
    assert patients == {"case.nii.gz": "ca"} | {f"case_{n}.nii.gz": "ca" for n in range(1, 5)} | {
        "case_1_1.nii.gz": "ca"
    }


def test_tumours_that_come_out_lighter_are_said_to(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least drop of 10 HU against a capsule of 80 or 0 HU."""
    captions: list[str] = []

    def draw(name: str, before: object, after: object, tumours: list[tumour_views.ShownTumour], *_: object) -> None:
        captions.extend(one.words for one in tumours)

    monkeypatch.setattr(tumour_views, "draw_painted", draw)
    rules, out = tmp_path / "rules.yaml", tmp_path / "out"
    asked = ("synthesize", *pair, "-o", out, "--organ", "liver", "--size", "5", "--number", "2", "--rules", rules)
    rules.write_text("contrast_hu: [1, 1]\n")
    ran = voco(*asked)
    assert "2 of 2 came out lighter than their organ" in " ".join(ran.output.split())
    drops = [one["drop_hu"] for one in json.loads((out / "case_1.json").read_text())["tumours"]]
    assert all(-40 < drop < 0 for drop in drops)
    assert [words.rsplit(", ", 1)[1] for words in captions] == [f"{-drop:.0f} HU lighter" for drop in drops]
    rules.write_text("contrast_hu: [1, 1]\ncapsule_hu: 0\n")
    captions.clear()
    ran = voco(*asked, "--force")
    assert "lighter" not in ran.output
    assert all(words.endswith(" HU darker") for words in captions)
    assert json.loads(voco(*asked, "--force", "--json").stdout)["lighter"] == 0


def test_a_kit_takes_lesions_of_every_label_set(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Sets with values of their own for a tumour, one of them in two classes; 1 in a third set is a kidney."""
    data = tmp_path / "data"
    sets = {"one": {"1": "tumour", "5": "liver"}, "two": {"2": "hepatic cyst", "3": "HCC"}, "no": {"1": "kidney"}}
    scan, labels = nib.load(pair[0]), np.zeros(SHAPE, np.uint8)
    for name, values in sets.items():
        for part in ("imagesTr", "labelsTr"):
            (data / name / part).mkdir(parents=True)
        placed = labels.copy()
        for number, value in enumerate(values):
            placed[10 + 20 * number : 14 + 20 * number, 20:25, 20:22] = int(value)
        nib.save(scan, data / name / "imagesTr" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(placed, scan.affine), data / name / "labelsTr" / f"{name}.nii.gz")
        (data / name / "dataset.json").write_text(json.dumps({"labels": {"0": "background", **values}}))
    rules = tmp_path / "map.yaml"
    rules.write_text("synonyms: {tumour: [hepatic cyst, HCC]}\n")
    out, listed = tmp_path / "out", tmp_path / "data.json"
    assert voco("index", data, "-o", listed, "--class-map", rules).exit_code == 0
    assert not json.loads(listed.read_text())["labels"]
    assert voco("synthesize", *pair, "--organ", "liver", "--size", "5", "--number", "3", "-o", out).exit_code == 0
    ran = voco("synthesize", "kit", out, "--real", listed, "-o", tmp_path / "kit", "--crops", "6")
    assert ran.exit_code == 0, ran.output
    key = list(csv.DictReader(io.StringIO((tmp_path / "kit" / "key.csv").read_text())))
    real = sorted((row["case"], float(row["volume_ml"])) for row in key if row["truth"] == "real")
    assert real == [("one", 0.18), ("two", 0.18), ("two", 0.18)]  # 4 x 5 x 2 voxels of 4.5 mm3
    ran = voco("synthesize", "kit", out, "--real", listed, "-o", tmp_path / "other", "--lesion", "metastasis")
    assert isinstance(ran.exception, VocoError)
    assert ran.exception.hint == "it has kidney, tumour, liver"
