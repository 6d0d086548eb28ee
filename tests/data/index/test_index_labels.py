"""Label maps among files: paired with their scans, and never listed as scans."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.index.build_lists import LABEL, OPTIONS, index, listed, reasons
from tests.data.io.make_files import numbers, write_nifti


def test_label_on_another_grid_is_refused_and_its_scan_kept(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    moved = np.diag([-2.0, -2.0, 3.0, 1.0])
    moved[2, 3] = 1.5
    for name, affine, label in (("a", None, LABEL), ("b", moved, LABEL), ("c", None, LABEL[1:])):
        write_nifti(root / "imagesTr" / f"{name}_0000.nii.gz", numbers(start=ord(name)))
        write_nifti(root / "labelsTr" / f"{name}.nii.gz", label, affine)
    datalist = index(root)
    assert {entry.image.name: entry.label and entry.label.name for _, entry in datalist.entries()} == {
        "a_0000.nii.gz": "a.nii.gz",
        "b_0000.nii.gz": None,
        "c_0000.nii.gz": None,
    }
    found = reasons(datalist)
    assert found["b.nii.gz"].endswith("b_0000.nii.gz: voxels lie up to 1.50 mm apart.")
    assert found["c.nii.gz"].endswith("c_0000.nii.gz: 6x6x5 voxels against 7x6x5.")


def labelled_list(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", numbers(start=number))
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", LABEL)
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    raw = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "blob"}, "training": pairs}
    (folder / "dataset.json").write_text(json.dumps(raw))
    return folder / "dataset.json"


@pytest.mark.parametrize("from_list", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "4-D", "missing"])
def test_the_label_map_of_a_refused_image_is_no_scan(tmp_path: Path, damage: str, from_list: bool) -> None:
    root = tmp_path / "set"
    path = labelled_list(root, ["case_0", "case_1", "case_2"])
    image = root / "imagesTr" / "case_1.nii.gz"
    if damage == "truncated":
        image.write_bytes(image.read_bytes()[:300])
    elif damage == "4-D":
        write_nifti(image, np.zeros((7, 6, 5, 2), np.int16))
    else:
        image.unlink()
    datalist = index(path if from_list else root)
    assert listed(datalist, root) == ["imagesTr/case_0.nii.gz", "imagesTr/case_2.nii.gz"]
    assert all(entry.label for _, entry in datalist.entries())
    found = {one.path.relative_to(root).as_posix(): one.reason for one in datalist.skipped}
    assert set(found) == {"imagesTr/case_1.nii.gz", "labelsTr/case_1.nii.gz"}
    assert found["imagesTr/case_1.nii.gz"].startswith(damage)
    assert found["labelsTr/case_1.nii.gz"] == "label map without a scan."


def test_a_list_that_names_label_maps_as_images_makes_no_scans_of_them(tmp_path: Path) -> None:
    """And a list's word for an image counts more than the name of its folder, as long as its voxels agree."""
    root = tmp_path / "set"
    labelled_list(root, ["a", "b"])
    write_nifti(root / "masks" / "really_ct.nii.gz", numbers(start=-1000))
    listed_images = ["labelsTr/a.nii.gz", "imagesTr/a.nii.gz", "masks/really_ct.nii.gz"]
    (root / "mine.json").write_text(json.dumps({"training": listed_images}))
    datalist = index(root / "mine.json")
    assert listed(datalist, root) == ["imagesTr/a.nii.gz", "masks/really_ct.nii.gz"]
    assert {entry.image.name: entry.label and entry.label.name for _, entry in datalist.entries()} == {
        "a.nii.gz": "a.nii.gz",
        "really_ct.nii.gz": None,
    }


def test_bids_segmentations_are_no_scans(tmp_path: Path) -> None:
    root = tmp_path / "bids"
    for subject in ("sub-01", "sub-02"):
        write_nifti(root / subject / "anat" / f"{subject}_T1w.nii.gz", numbers(start=0))
        below = root / "derivatives" / "manual" / subject / "anat"
        write_nifti(below / f"{subject}_dseg.nii.gz", LABEL)
        write_nifti(below / f"{subject}_label-GM_probseg.nii.gz", LABEL.astype(np.float32) * 0.5)
        write_nifti(below / f"{subject}_desc-lesion_mask.nii.gz", LABEL)
    datalist = index(root)
    assert listed(datalist, root) == [f"{one}/anat/{one}_T1w.nii.gz" for one in ("sub-01", "sub-02")]
    assert {entry.label.name for _, entry in datalist.entries() if entry.label} == {
        "sub-01_dseg.nii.gz",
        "sub-02_dseg.nii.gz",
    }
    assert sorted(reasons(datalist)) == [
        f"{one}_{kind}.nii.gz" for one in ("sub-01", "sub-02") for kind in ("desc-lesion_mask", "label-GM_probseg")
    ]


def test_eight_bit_masks_without_a_name_are_no_scans(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write_nifti(root / "P1" / "ct.nii.gz")
    write_nifti(root / "P1" / "left_lung.nii.gz", LABEL)
    write_nifti(
        root / "P2" / "ultrasound.nii.gz", np.random.default_rng(0).integers(0, 256, (7, 6, 5)).astype(np.uint8)
    )
    datalist = index(root)
    assert listed(datalist, root) == ["P1/ct.nii.gz", "P2/ultrasound.nii.gz"]
    labels = {entry.image.name: entry.label and entry.label.name for _, entry in datalist.entries()}
    assert labels == {"ct.nii.gz": "left_lung.nii.gz", "ultrasound.nii.gz": None}


def test_a_full_check_finds_label_maps_in_any_number_format(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write_nifti(root / "a.nii.gz")
    write_nifti(root / "b.nii.gz", LABEL.astype(np.float32))
    assert listed(index(root), root) == ["a.nii.gz", "b.nii.gz"]
    full = index(root, options=replace(OPTIONS, full=True))
    assert listed(full, root) == ["a.nii.gz"]
    assert reasons(full)["b.nii.gz"].startswith("label map without a scan")


def test_names_of_labels_beside_their_maps(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name, names in (("a", {"0": "background", "1": "spleen"}), ("b", {"0": "background", "2": "liver"})):
        write_nifti(root / f"{name}.nii.gz")
        write_nifti(root / f"{name}_seg.nii.gz", LABEL)
        (root / f"{name}_seg.json").write_text(json.dumps(names), encoding="utf-8-sig")
    datalist = index(root)
    assert datalist.labels == {"0": "background", "1": "spleen", "2": "liver"}
    assert datalist.skipped == ()
    (root / "b_seg.json").write_text(json.dumps({"labels": {"heart": 1}}))
    datalist = index(root)
    assert datalist.labels == {}
    notes = {entry.image.name: entry.notes for _, entry in datalist.entries()}
    assert notes["a.nii.gz"] == ()
    assert notes["b.nii.gz"] == (
        "its label map gives other names to the same values than others do (1 is heart here and spleen elsewhere), "
        "so there are none that hold for the whole list",
    )


def test_an_image_that_a_list_calls_its_own_label_stays_a_scan(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    item = {"image": "a.nii.gz", "label": "./a.nii.gz"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [item]}))
    datalist = index(tmp_path / "list.json")
    assert [(entry.image.name, entry.label) for _, entry in datalist.entries()] == [("a.nii.gz", None)]
    assert reasons(datalist)["a.nii.gz"].startswith("label that is its own image")
