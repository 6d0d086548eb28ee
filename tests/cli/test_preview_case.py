"""`voco tasks preview` through the app: volumes by hand, names, warnings, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from voco_cli.cli.app import app
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.generate import generate_ct
from voco_cli.errors import DataError, GeometryError, UsageError, VocoError

SHAPE = (64, 56, 24)
VOXEL_ML = 360 / 64 * 280 / 56 * 320 / 24 / 1000


def write(array_zyx: np.ndarray[Any, Any], like: Scan, path: Path) -> Path:
    write_scan(np.ascontiguousarray(array_zyx), replace(like, array_zyx=array_zyx), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient with its label, the label flipped, moved, shortened, emptied; and a list of it."""
    folder = tmp_path_factory.mktemp("case")
    patient = generate_ct(5, SHAPE)
    image = patient.scan(folder / "ct.nii.gz")
    label = patient.labels_xyz.transpose(2, 1, 0)
    write(image.array_zyx, image, folder / "ct.nii.gz")
    write(label, image, folder / "label.nii.gz")
    write(label[::-1], image, folder / "flipped.nii.gz")
    write(label[:, :, :40], image, folder / "short.nii.gz")
    write(np.zeros_like(label), image, folder / "empty.nii.gz")
    write(label, replace(image, origin_xyz_mm=(9000.0, 0.0, 0.0)), folder / "far.nii.gz")
    (folder / "note.txt").write_text("no image")
    listed = {
        "labels": {"0": "background", "6": "liver", "1": "spleen"},
        "training": [{"image": "ct.nii.gz", "label": "label.nii.gz"}],
        "test": [{"image": "flipped.nii.gz"}],
    }
    (folder / "data.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["tasks", "preview", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["tasks", "preview", *map(str, arguments), "--json"])
    if result.exception is not None:
        raise result.exception
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def test_a_prediction_with_other_values_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"1": "liver", "2": "spleen"}}))
    prediction = write(np.zeros(SHAPE[::-1], np.uint8), generate_ct(5, SHAPE).scan(folder), tmp_path / "p.nii.gz")
    with pytest.raises(DataError, match=r"labels.json gives 'liver' the value 1, and task .* 6, so label maps"):
        run(folder / "ct.nii.gz", folder / "label.nii.gz", "--task", "btcv", "--prediction", prediction)


def test_picture_and_volumes_of_a_task(folder: Path) -> None:
    shown = run(folder / "ct.nii.gz", folder / "label.nii.gz", "--task", "btcv")
    assert Path("ct_case.png").stat().st_size > 10_000
    assert "wrote ct_case.png" in shown
    assert "next: voco tasks check --task btcv" in shown
    assert "window -175 to 250 HU, as the task has it" in shown
    assert "warning" not in shown
    record = run_json(folder / "ct.nii.gz", folder / "label.nii.gz", "--task", "btcv")
    voxels = int((generate_ct(5, SHAPE).labels_xyz == 6).sum())
    (liver,) = (one for one in record["structures"] if one["name"] == "liver")
    assert liver["label_voxels"] == voxels
    assert liver["label_ml"] == pytest.approx(voxels * VOXEL_ML)
    assert (liver["values"], liver["prediction_voxels"]) == ([6], None)
    assert (record["picture"], record["axes"], record["shape"]) == (None, "RAS", list(SHAPE))
    assert record["window"] == [-175, 250]
    assert record["warnings"] == []
    assert record["fit"]["label map"][0]["turn"] == "as it lies"
    assert record["fit"]["label map"][0]["above_sd"] > 3.5


def test_flipped_label_is_warned_of_and_refused_on_request(folder: Path) -> None:
    shown = run(folder / "ct.nii.gz", folder / "flipped.nii.gz", "--task", "btcv", "-o", "out.pdf")
    assert "warning: The label map seems flipped head-feet: " in shown
    assert Path("out.pdf").read_bytes().startswith(b"%PDF")
    record = run_json(folder / "ct.nii.gz", "--prediction", folder / "flipped.nii.gz", "--task", "btcv")
    assert [(one["of"], one["kind"]) for one in record["warnings"]] == [("prediction", "fit"), ("prediction", "sides")]
    with pytest.raises(VocoError, match="do not seem to belong together") as caught:
        run(folder / "ct.nii.gz", folder / "flipped.nii.gz", "--require-fit")
    assert caught.value.exit_code == 1
    assert Path("ct_case.png").exists()  # it is drawn all the same
    run(folder / "ct.nii.gz", folder / "label.nii.gz", "--require-fit")


def test_a_case_of_a_list_brings_its_label_and_names(folder: Path) -> None:
    record = run_json(folder / "data.json", "--case", "ct")
    assert record["case"] == "ct"
    assert Path(record["label"]).name == "label.nii.gz"
    assert [one["name"] for one in record["structures"]] == ["liver", "spleen"]
    assert set(record["unlisted"]) >= {"2", "3", "8"}
    assert record["names"] == str(folder / "data.json")
    shown = run(folder / "data.json", "--case", "ct", "--window", "-100,200")
    assert "values of no class: 2 (" in shown
    assert "window -100 to 200" in shown
    assert "wrote ct_case.png" in shown


def test_values_without_names_go_by_their_number(folder: Path) -> None:
    record = run_json(folder / "ct.nii.gz", folder / "label.nii.gz")
    assert [one["name"] for one in record["structures"]] == [f"value {n}" for n in range(1, 14)]
    assert record["names"] is None
    shown = run(folder / "ct.nii.gz", folder / "label.nii.gz", "--classes", "liver=6,tail=99")
    assert "not there: tail" in shown


def test_names_lie_beside_the_labels(tmp_path: Path, folder: Path) -> None:
    label = tmp_path / "labelsTr" / "ct.nii.gz"
    label.parent.mkdir()
    label.write_bytes((folder / "label.nii.gz").read_bytes())
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "spleen": 1}}')
    record = run_json(folder / "ct.nii.gz", label)
    assert [one["name"] for one in record["structures"]] == ["spleen"]


def test_label_and_prediction_lead_to_their_evaluation(folder: Path) -> None:
    shown = run(folder / "ct.nii.gz", folder / "label.nii.gz", "--prediction", folder / "label.nii.gz")
    assert f"next: voco evaluate --predictions {folder} --labels {folder}" in shown
    assert "prediction voxels" in shown
    assert "Dice" in shown
    record = run_json(folder / "ct.nii.gz", folder / "label.nii.gz", "--prediction", folder / "label.nii.gz")
    assert {one["dice"] for one in record["structures"]} == {1.0}


def test_image_alone(folder: Path) -> None:
    record = run_json(folder / "ct.nii.gz", "-o", "out.svg")
    assert (record["structures"], record["fit"], record["picture"]) == ([], {}, "out.svg")
    assert Path("out.svg").exists()


def test_voxels_that_are_no_numbers_are_counted(folder: Path, tmp_path: Path) -> None:
    image = generate_ct(5, SHAPE).scan(folder / "ct.nii.gz")
    values = image.array_zyx.astype(np.float32)
    values[3, 4, 5:8] = np.nan
    values[0, 0, 0] = np.inf
    path = write(values, image, tmp_path / "odd.nii.gz")
    assert run_json(path)["not_finite"] == 4
    assert "4 voxels are no finite numbers: training and prediction refuse such an image" in run(path)
    assert "finite" not in run(folder / "ct.nii.gz")


def test_label_of_other_size_is_shown_and_told(folder: Path) -> None:
    record = run_json(folder / "ct.nii.gz", folder / "short.nii.gz")
    (warning,) = record["warnings"]
    assert warning["kind"] == "header"
    assert "shape 40x56x24 against 64x56x24" in warning["sentence"]


def test_empty_label_is_told(folder: Path) -> None:
    shown = run(folder / "ct.nii.gz", folder / "empty.nii.gz")
    assert "warning: The label map is empty: every voxel is 0." in shown


REFUSED: dict[str, tuple[tuple[str, ...], type[VocoError], str]] = {
    "missing image": (("gone.nii.gz",), DataError, "gone.nii.gz cannot be opened"),
    "missing label": (("ct.nii.gz", "gone.nii.gz"), DataError, "gone.nii.gz cannot be opened"),
    "text": (("ct.nii.gz", "note.txt"), DataError, "note.txt is not an image that can be read"),
    "image as label": (("ct.nii.gz", "ct.nii.gz"), DataError, "holds values from -"),
    "label of another place": (("ct.nii.gz", "far.nii.gz"), GeometryError, "No structure of .*far.nii.gz lies inside"),
    "picture": (("ct.nii.gz", "-o", "out.jpg"), UsageError, "out.jpg does not end like a picture"),
    "window": (("ct.nii.gz", "--window", "250"), UsageError, "--window 250 is no range"),
    "falling window": (("ct.nii.gz", "--window", "250,-175"), UsageError, "--window 250,-175 is no range"),
    "case of an image": (("ct.nii.gz", "--case", "ct"), UsageError, "--case ct names a case of a data.json"),
    "no case": (("data.json",), UsageError, "data.json lists 2 cases, and one of them is to be shown"),
    "unknown case": (("data.json", "--case", "cd"), UsageError, "data.json has no case 'cd'"),
    "two sources of names": (
        ("ct.nii.gz", "label.nii.gz", "--task", "btcv", "--classes", "a=1"),
        UsageError,
        "--task and --classes both name the label values",
    ),
    "classification": (("ct.nii.gz", "label.nii.gz", "--task", "cc_ccii"), UsageError, "is a classification"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_one_sentence(folder: Path, name: str) -> None:
    arguments, kind, words = REFUSED[name]
    paths = [folder / word if word.endswith((".gz", ".txt", ".json")) else word for word in arguments]
    with pytest.raises(kind, match=words):
        run(*paths)
    assert not list(Path().iterdir())


def test_four_dimensions_are_refused(folder: Path, tmp_path: Path) -> None:
    import nibabel

    path = tmp_path / "four.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4)), path)
    with pytest.raises(GeometryError, match="is 4-D"):
        run(folder / "ct.nii.gz", path)


def test_more_values_than_a_label_map_has_are_refused(folder: Path, tmp_path: Path) -> None:
    image = generate_ct(5, SHAPE).scan(Path("ct"))
    values = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(image.array_zyx.shape) % 500
    with pytest.raises(DataError, match="holds 499 values: is it one"):
        run(folder / "ct.nii.gz", write(values, image, tmp_path / "many.nii.gz"))
