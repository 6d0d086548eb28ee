"""Label maps find their scans, and are never scans."""

from pathlib import Path

import pytest

from voco_cli.dataset.pairing import pair_labels
from voco_cli.errors import UsageError

HERE = Path("/data")


def pairs(*names: str, pattern: str | None = None, like_label: bool = True) -> tuple[dict[str, str], list[str]]:
    paths = [HERE / name for name in names]
    found = pair_labels(paths, paths, {}, pattern, lambda _: like_label)
    named = {str(k.relative_to(HERE)): str(v.relative_to(HERE)) for k, v in found.label_of.items()}
    return named, [str(path.relative_to(HERE)) for path in found.unpaired]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
        ("imagesTs/a_0000.nii.gz", "labelsTs/a.nii.gz"),
        ("images/a.nrrd", "labels/a.nii.gz"),
        ("images/a.nii.gz", "masks/a.nii.gz"),
        ("a.nii.gz", "a_seg.nii.gz"),
        ("a.nii.gz", "a-label.nrrd"),
        ("case/ct.nii.gz", "case/labels.nii.gz"),
    ],
)
def test_conventions(image: str, label: str) -> None:
    assert pairs(image, label) == ({image: label}, [])


def test_both_channels_of_a_case_get_its_label() -> None:
    named, _ = pairs("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    assert named == dict.fromkeys(("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"), "labelsTr/a.nii.gz")


def test_lone_label_maps_are_told_apart() -> None:
    assert pairs("labelsTr/a.nii.gz", "b_mask.nii.gz", "c.nii.gz") == ({}, ["b_mask.nii.gz", "labelsTr/a.nii.gz"])
    assert pairs("b_mask.nii.gz", like_label=False) == ({}, [])
    assert pairs("masked_ct.nii.gz", "segment.nii.gz") == ({}, [])


def test_two_scans_in_a_folder_leave_its_labels_alone() -> None:
    assert pairs("case/ct.nii.gz", "case/pet.nii.gz", "case/labels.nii.gz") == ({}, ["case/labels.nii.gz"])


def test_pattern(tmp_path: Path) -> None:
    image, label = tmp_path / "scans" / "a_0000.nii.gz", tmp_path / "truth" / "a-final.nrrd"
    for path in (image, label):
        path.parent.mkdir()
        path.touch()
    found = pair_labels([image, label], [image, label], {}, "../truth/{case}-final.nrrd", lambda _: False)
    assert found.label_of == {image: label}
    with pytest.raises(UsageError, match="field that is not known: 'stm'"):
        pair_labels([image], [image], {}, "{stm}.nrrd", lambda _: False)
