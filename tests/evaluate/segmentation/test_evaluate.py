import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.evaluate.made_results import two_boxes, write_labels
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.classes import parse_regions
from voco_cli.evaluate.segmentation.evaluate import evaluate_folder
from voco_cli.evaluate.segmentation.metrics import RULES, Structure
from voco_cli.evaluate.segmentation.results import statements

LIVER_SPLEEN = (Structure("liver", (1,)), Structure("spleen", (2,)))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Case a is perfect, b is moved by one voxel (1 mm in x), c lacks class 2."""
    for case, prediction in (("a", two_boxes()), ("b", two_boxes(1)), ("c", two_boxes(second=False))):
        write_labels(tmp_path / "pred" / f"{case}.nii.gz", prediction)
        write_labels(tmp_path / "true" / f"{case}.nii.gz", two_boxes())
    return tmp_path / "pred", tmp_path / "true"


def test_values_by_hand(folders: tuple[Path, Path]) -> None:
    found = evaluate_folder(*folders, classes=LIVER_SPLEEN, regions=parse_regions(["both=1,2"]))
    np.testing.assert_allclose(found.table.of_metric("dice"), [[1, 1, 1], [0.75, 0.75, 0.75], [1, 0, 2 / 3]])
    np.testing.assert_allclose(found.table.of_metric("hd95_mm")[:, :2], [[0, 0], [1, 1], [0, math.nan]])
    np.testing.assert_allclose(found.table.volumes_NC2[2], [[0.128, 0.128], [0.128, 0], [0.256, 0.128]])
    assert found.table.states[2] == ("both", "missed", "both")
    assert found.summary.overall["dice"].mean == pytest.approx((2.75 / 3 + 1.75 / 3) / 2)
    assert found.failed == found.unpredicted == ()


def test_without_classes_every_label_is_one(folders: tuple[Path, Path]) -> None:
    array = two_boxes()
    array[13, 0, 0] = 7
    write_labels(folders[0] / "a.nii.gz", array)
    found = evaluate_folder(*folders, EvaluationOptions(rule=RULES["brats"]))
    assert [one.name for one in found.table.structures] == ["1", "2", "7"]
    assert [row[2] for row in found.table.states] == ["false_positive", "absent", "absent"]
    np.testing.assert_allclose(found.table.of_metric("dice")[:, 2], [0, 1, 1])
    assert found.table.of_metric("hd95_mm")[0, 2] == pytest.approx(math.hypot(14, 10, 16))


def test_a_prediction_stored_the_other_way_round_is_measured(folders: tuple[Path, Path]) -> None:
    """By nibabel's own reorientation: each prediction along other axes, at the same places."""
    straight = evaluate_folder(*folders, classes=LIVER_SPLEEN)
    for case, codes in (("a", "LPS"), ("b", "SAR"), ("c", "ILP")):
        path = folders[0] / f"{case}.nii.gz"
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(image.as_reoriented(turn), path)
    found = evaluate_folder(*folders, classes=LIVER_SPLEEN)
    assert found.failed == ()
    np.testing.assert_array_equal(found.table.values_NCM, straight.table.values_NCM)
    assert found.notes[1] == (
        "b.nii.gz: stored along SAR, and its label along RAS: its voxels were put into that order, "
        "nothing was resampled"
    )


def test_nearly_whole_values_are_rounded_and_noted(folders: tuple[Path, Path]) -> None:
    write_labels(folders[0] / "a.nii.gz", two_boxes() + np.float32(4e-4))
    found = evaluate_folder(*folders, classes=LIVER_SPLEEN)
    np.testing.assert_array_equal(found.table.of_metric("dice")[0], [1, 1])
    assert found.notes == ("a.nii.gz: label values up to 0.0004 off whole numbers were rounded",)
    assert statements(found)[-1] == f"Put right on reading, all in summary.json: 1 ({found.notes[0]})."


def test_labels_outside_the_classes_are_told(folders: tuple[Path, Path]) -> None:
    found = evaluate_folder(*folders, classes=LIVER_SPLEEN[:1])
    assert found.unlisted == {2: 3}


def test_bad_files_do_not_end_the_batch(folders: tuple[Path, Path]) -> None:
    pred, true = folders
    (pred / "damaged.nii.gz").write_bytes(b"no image")
    write_labels(pred / "moved.nii.gz", two_boxes(), origin_mm=5)
    write_labels(pred / "small.nii.gz", two_boxes()[:-1])
    write_labels(pred / "soft.nii.gz", two_boxes().astype(np.float32) / 2)
    write_labels(pred / "noise.nii.gz", two_boxes(), origin_mm=1e-4)
    for case in ("damaged", "moved", "small", "soft", "noise"):
        write_labels(true / f"{case}.nii.gz", two_boxes())
    write_labels(true / "unseen.nii.gz", two_boxes())
    found = evaluate_folder(*folders, classes=LIVER_SPLEEN)
    assert found.table.cases == ("a", "b", "c", "noise")
    assert found.unpredicted == ("unseen",)
    reasons = dict(found.failed)
    assert set(reasons) == {"damaged", "moved", "small", "soft"}
    assert "up to 8.66 mm apart" in reasons["moved"]
    assert "13x10x8 voxels, and its label 14x10x8" in reasons["small"]
    assert "0.5, and labels are whole numbers" in reasons["soft"]


def test_processes_give_the_same(folders: tuple[Path, Path]) -> None:
    (folders[0] / "damaged.nii.gz").write_bytes(b"no image")
    write_labels(folders[1] / "damaged.nii.gz", two_boxes())
    alone, together = (evaluate_folder(*folders, EvaluationOptions(workers=n), classes=LIVER_SPLEEN) for n in (1, 2))
    np.testing.assert_array_equal(alone.table.values_NCM, together.table.values_NCM)
    assert alone.summary == together.summary
    assert alone.failed == together.failed


def test_nothing_to_measure(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for case in "abc":
        (folders[0] / f"{case}.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 3 cases could be measured"):
        evaluate_folder(*folders)
    for side in ("p", "t"):
        write_labels(tmp_path / side / "x.nii.gz", np.zeros((5, 5, 5), np.uint8))
    with pytest.raises(UsageError, match="nothing but background"):
        evaluate_folder(tmp_path / "p", tmp_path / "t")


def test_an_image_is_no_label_map(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    for side in ("p", "t"):
        write_labels(tmp_path / side / "x.nii.gz", noise)
    with pytest.raises(DataError, match="label values: no label maps"):
        evaluate_folder(tmp_path / "p", tmp_path / "t")


def test_voxels_that_nobody_annotated_count_in_no_measure(tmp_path: Path) -> None:
    """A box of 4 voxels along x in the label map and of 6 in the prediction; the last 3 of these nobody annotated."""
    prediction, label = (np.zeros((14, 10, 8), np.uint8) for _ in range(2))
    prediction[2:8, 2:6, 2:6] = 1
    label[3:7, 2:6, 2:6] = 1
    label[5:] = 3
    prediction[9, 2:6, 2:6] = 2  # a false positive, and where nobody looked
    write_labels(tmp_path / "pred" / "a.nii.gz", prediction)
    write_labels(tmp_path / "true" / "a.nii.gz", label)
    found = evaluate_folder(
        tmp_path / "pred", tmp_path / "true", EvaluationOptions(ignore_label=3), classes=LIVER_SPLEEN
    )
    # Left are x = 2, 3, 4 of the prediction and 3, 4 of the label map: 2 * 2 / (3 + 2); one surface is 1 mm off.
    assert found.table.of_metric("dice")[0, 0] == pytest.approx(0.8)
    assert found.table.of_metric("iou")[0, 0] == pytest.approx(2 / 3)
    assert found.table.of_metric("hd95_mm")[0, 0] == 1.0
    np.testing.assert_allclose(found.table.volumes_NC2[0, 0], [2 * 16 * 2 / 1000, 3 * 16 * 2 / 1000])
    assert found.table.states[0] == ("both", "absent")
    assert found.unlisted == {}
    unnamed = evaluate_folder(tmp_path / "pred", tmp_path / "true", EvaluationOptions(ignore_label=3))
    assert [one.name for one in unnamed.table.structures] == ["1"]
