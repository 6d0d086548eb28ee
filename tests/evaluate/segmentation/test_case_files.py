from pathlib import Path

import numpy as np
import pytest

from tests.data.io.make_files import write_nifti
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.segmentation.case_files import Pairing, pair_folders


def folders(root: Path, predictions: list[str], labels: list[str]) -> tuple[Path, Path]:
    for folder, names in (("pred", predictions), ("true", labels)):
        (root / folder).mkdir()
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root / "pred", root / "true"


def names(pairing: Pairing) -> list[tuple[str, str]]:
    return [(pair.prediction.name, pair.label.name) for pair in pairing.pairs]


def test_equal_stems_in_any_format(tmp_path: Path) -> None:
    pair = folders(
        tmp_path, ["a.nii.gz", "b.mha", "notes.txt", "._a.nii.gz"], ["a.nrrd", "b.nii", "c.nii.gz", "dataset.json"]
    )
    pairing = pair_folders(*pair)
    assert names(pairing) == [("a.nii.gz", "a.nrrd"), ("b.mha", "b.nii")]
    assert pairing.unpredicted == ("c",)
    assert [one.case for one in pairing.pairs] == ["a", "b"]


def test_a_channel_number_on_one_side(tmp_path: Path) -> None:
    pair = folders(tmp_path, ["liver_1_0000.nii.gz", "x.nii.gz"], ["liver_1.nii.gz", "x_0000.nii.gz"])
    assert names(pair_folders(*pair)) == [
        ("liver_1_0000.nii.gz", "liver_1.nii.gz"),
        ("x.nii.gz", "x_0000.nii.gz"),
    ]


def test_numbered_cases_are_not_channels(tmp_path: Path) -> None:
    """case_0005, which has no label, must not be measured against case_0004."""
    cases = [f"case_{n:04d}.nii.gz" for n in range(4)]
    pairing = pair_folders(*folders(tmp_path, cases[:3], cases))
    assert len(pairing.pairs) == 3
    assert len({one.patient for one in pairing.pairs}) == 3
    (tmp_path / "pred" / "case_0005.nii.gz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"case_0005.nii.gz has no label map"):
        pair_folders(tmp_path / "pred", tmp_path / "true")


def test_image_and_label_names(tmp_path: Path) -> None:
    pair = folders(tmp_path, ["img0035.nii.gz", "a_pred.nii.gz"], ["label0035.nii.gz", "a_seg.nii.gz"])
    assert names(pair_folders(*pair)) == [("a_pred.nii.gz", "a_seg.nii.gz"), ("img0035.nii.gz", "label0035.nii.gz")]


def test_all_faults_at_once(tmp_path: Path) -> None:
    pair = folders(tmp_path, ["x_0000.nii.gz", "x_0001.nii.gz", "lost.nii.gz", "a.nii.gz"], ["x.nii.gz", "a.nii.gz"])
    with pytest.raises(UsageError) as caught:
        pair_folders(*pair)
    assert "x_0000.nii.gz and x_0001.nii.gz could belong to x.nii.gz" in caught.value.message
    (tmp_path / "pred" / "x_0001.nii.gz").unlink()
    (tmp_path / "pred" / "lost_too.nii.gz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"lost.nii.gz has no label map; lost_too.nii.gz has no label map"):
        pair_folders(*pair)


def test_one_case_twice(tmp_path: Path) -> None:
    pair = folders(tmp_path, ["a.nii.gz", "a.nrrd"], ["a.nii.gz"])
    with pytest.raises(UsageError, match=r"a.nii.gz and a.nrrd are the same case"):
        pair_folders(*pair)


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    pred, true = folders(tmp_path, [], ["a.nii.gz"])
    with pytest.raises(UsageError, match="holds no label maps"):
        pair_folders(pred, true)
    with pytest.raises(UsageError, match="as predictions and as labels"):
        pair_folders(true, tmp_path / "pred" / ".." / "true")
    with pytest.raises(DataError, match="is not a folder"):
        pair_folders(tmp_path / "none", true)


def test_patients(tmp_path: Path) -> None:
    cases = ["sub-01_ses-1.nii.gz", "sub-01_ses-2.nii.gz", "P7_a.nii.gz", "P7_b.nii.gz"]
    pair = folders(tmp_path, cases, cases)
    assert sorted({one.patient for one in pair_folders(*pair).pairs}) == ["P7_a", "P7_b", "sub-01"]
    known = pair_folders(*pair, patients={"P7_a": "P7", "P7_b": "P7"})
    assert sorted({one.patient for one in known.pairs}) == ["P7", "sub-01"]
    by_pattern = pair_folders(*pair, patient_pattern=r"/(P\d|sub-\d+)_")
    assert sorted({one.patient for one in by_pattern.pairs}) == ["P7", "sub-01"]
    for pattern, message in (("(", "no regular expression"), ("P", "no group"), ("(Q)", "does not fit")):
        with pytest.raises(UsageError, match=message):
            pair_folders(*pair, patient_pattern=pattern)


def test_scans_beside_their_label_maps_are_no_label_maps(tmp_path: Path) -> None:
    """A prediction has the scan's name; measured against the scan itself its Dice would be about 0."""
    pair = folders(
        tmp_path, ["a.nii.gz", "b.nii.gz"], ["a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b-mask.nii.gz", "c.nii"]
    )
    pairing = pair_folders(*pair)
    assert names(pairing) == [("a.nii.gz", "a_seg.nii.gz"), ("b.nii.gz", "b-mask.nii.gz")]
    assert pairing.unpredicted == ("c",)


def test_scans_of_any_name_beside_their_label_maps(tmp_path: Path) -> None:
    """A scan that has no label map here is told by its voxels."""
    pair = folders(tmp_path, ["x.nii.gz", "img0001.nii.gz", "alone.nii.gz"], [])
    for name in ("x_0000", "img0001", "alone"):
        write_nifti(tmp_path / "true" / f"{name}.nii.gz")
    for name in ("x_seg", "label0001"):
        write_nifti(tmp_path / "true" / f"{name}.nii.gz", np.zeros((7, 6, 5), np.uint8))
    with pytest.raises(UsageError, match=r"alone\.nii\.gz has no label map\."):
        pair_folders(*pair)
    (tmp_path / "pred" / "alone.nii.gz").unlink()
    assert names(pair_folders(*pair)) == [("img0001.nii.gz", "label0001.nii.gz"), ("x.nii.gz", "x_seg.nii.gz")]


def test_label_maps_in_folders_of_cases(tmp_path: Path) -> None:
    predictions, labels = folders(tmp_path, ["case_1.nii.gz", "case_2.nii.gz"], [])
    for case in ("case_1", "case_2", "case_3"):
        (labels / case).mkdir()
        for name in ("imaging.nii.gz", "segmentation.nii.gz", "._segmentation.nii.gz"):
            (labels / case / name).write_bytes(b"x")
    pairing = pair_folders(predictions, labels)
    assert [(one.case, one.label.relative_to(labels).as_posix()) for one in pairing.pairs] == [
        ("case_1", "case_1/segmentation.nii.gz"),
        ("case_2", "case_2/segmentation.nii.gz"),
    ]
    assert pairing.unpredicted == ("case_3",)
    assert [one.patient for one in pairing.pairs] == ["case_1", "case_2"]
    (labels / "case_2" / "lesion_mask.nii.gz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"lesion_mask\.nii\.gz and segmentation\.nii\.gz are the same case"):
        pair_folders(predictions, labels)


def test_label_maps_named_by_their_case_in_folders(tmp_path: Path) -> None:
    predictions, labels = folders(tmp_path, ["B21_3.nii.gz"], [])
    (labels / "B21_3").mkdir()
    for kind in ("t1", "flair", "seg"):
        (labels / "B21_3" / f"B21_3_{kind}.nii.gz").write_bytes(b"x")
    assert names(pair_folders(predictions, labels)) == [("B21_3.nii.gz", "B21_3_seg.nii.gz")]
