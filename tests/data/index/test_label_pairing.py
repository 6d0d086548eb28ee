"""Label maps find their scans, and are never scans."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from voco_cli.data.index.label_pairing import grid_fault, pair_labels
from voco_cli.data.io.geometry import Placement
from voco_cli.data.io.image import Header
from voco_cli.errors import UsageError

HERE = Path("/data")
PLACEMENT = Placement((1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def header(path: Path, shape: tuple[int, int, int] = (6, 5, 4), dtype: str = "int16") -> Header:
    return Header(path, shape, dtype, PLACEMENT, "nifti")


def pairs(*names: str, pattern: str | None = None, like_label: bool = True) -> tuple[dict[str, str], list[str]]:
    paths = [Path(os.path.normpath(HERE / name)) for name in names]
    headers = {path: header(path) for path in paths}
    found = pair_labels(headers, paths, {}, pattern, lambda asked, named: [like_label and named] * len(asked))
    named = {str(k.relative_to(HERE)): str(v.relative_to(HERE)) for k, v in found.label_of.items()}
    return named, sorted(str(path.relative_to(HERE)) for path in found.unpaired)


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
        ("Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"),  # BTCV
        ("img0001.nii.gz", "label0001.nii.gz"),
        ("batch 1/volume-12.nii", "batch 1/segmentation-12.nii"),  # LiTS
        ("ct/volume-12.nii", "seg/segmentation-12.nii"),
        ("volume_0012.nii.gz", "segmentation_0012.nii.gz"),
        ("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"),  # KiTS
        ("case_00000/imaging.nii.gz", "case_00000/aggregated_MAJ_seg.nii.gz"),
        ("ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz"),  # MM-WHS
        ("Case00.mhd", "Case00_segmentation.mhd"),  # PROMISE12
        ("patient001/patient001_frame01.nii.gz", "patient001/patient001_frame01_gt.nii.gz"),  # ACDC
        ("imagesTr/FLARE22_Tr_0001_0000.nii.gz", "labelsTr/FLARE22_Tr_0001.nii.gz"),  # FLARE
        ("Images/A 1.NII.GZ", "Labels/a 1.nii.gz"),
        ("CT-001.nii.gz", "seg-001.nii.gz"),
        ("P7/CT.nii.gz", "P7/GTV-lung.nii.gz"),
        ("P7/CT.nii.gz", "P7/GTV-1.nii.gz"),
        ("P7.nii.gz", "P7_liver_seg.nii.gz"),
        ("Grün/P7.nii.gz", "Grün/P7 Läsion mask.nii.gz"),
        ("scans/P7.nii.gz", "lesions/../masks/P7_lesion.nii.gz"),
        ("sub-1/dwi/sub-1_dwi.nii.gz", "derivatives/sub-1/sub-1_msk.nii.gz"),  # ISLES
        ("sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz", "derivatives/manual/sub-1/ses-2/anat/sub-1_ses-2_dseg.nii.gz"),
        ("x.hdr", "x_seg.hdr"),
    ],
)
def test_conventions(image: str, label: str) -> None:
    assert pairs(image, label) == ({image: os.path.normpath(label)}, [])


def test_both_channels_of_a_case_get_its_label() -> None:
    named, _ = pairs("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    assert named == dict.fromkeys(("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"), "labelsTr/a.nii.gz")


def test_lone_label_maps_are_told_apart() -> None:
    assert pairs("labelsTr/a.nii.gz", "b_mask.nii.gz", "c.nii.gz") == ({}, ["b_mask.nii.gz", "labelsTr/a.nii.gz"])
    assert pairs("b_mask.nii.gz", like_label=False) == ({}, [])
    assert pairs("masked_ct.nii.gz", "segment.nii.gz") == ({}, [])


def reasons(*names: str) -> dict[str, str]:
    headers = {HERE / name: header(HERE / name) for name in names}
    found = pair_labels(headers, headers, {}, None, lambda asked, named: [named] * len(asked))
    assert not found.label_of
    return {
        path.relative_to(HERE).as_posix(): reason.replace(f"{HERE}/", "") for path, reason in found.unpaired.items()
    }


def test_the_sequences_of_a_case_share_its_label_map() -> None:
    kinds = ("t1", "t1ce", "t2", "flair")
    for folder, joint in (("B21_00003", "_"), ("BraTS-GLI-00003-000", "-")):
        scans = [f"{folder}/{folder}{joint}{kind}.nii.gz" for kind in kinds]
        label = f"{folder}/{folder}{joint}seg.nii.gz"
        assert pairs(*scans, label) == (dict.fromkeys(scans, label), [])
    hecktor = [f"P1/{name}.nii.gz" for name in ("CTres", "PET", "SUV", "SEG")]
    assert pairs(*hecktor) == (dict.fromkeys(hecktor[:3], hecktor[3]), [])


def test_visits_do_not_share_one_label_map() -> None:
    assert reasons("P1_pre.nii.gz", "P1_post.nii.gz", "P1_seg.nii.gz") == {"P1_seg.nii.gz": "label map without a scan."}
    named, unpaired = pairs("P1_t0.nii.gz", "P1_t1.nii.gz", "P1_seg.nii.gz")
    assert (named, unpaired) == ({}, ["P1_seg.nii.gz"])
    told = reasons("P1/CT/a.nii.gz", "P1/PET/a.nii.gz", "P1/SEG/a.nii.gz")
    which = "label map that could belong to P1/CT/a.nii.gz or P1/PET/a.nii.gz: --label-pattern says to which."
    assert told == {"P1/SEG/a.nii.gz": which}


def test_many_label_maps_of_a_scan_are_none_of_them_guessed() -> None:
    names = [f"s0001/segmentations/{organ}.nii.gz" for organ in ("liver", "spleen")]  # TotalSegmentator
    wanted = "label map beside others of s0001/ct.nii.gz: --label-pattern says which is meant."
    assert reasons("s0001/ct.nii.gz", *names) == dict.fromkeys(names, wanted)


def test_a_map_of_probabilities_is_no_label_map_and_no_scan() -> None:
    assert pairs("sub-1/sub-1_T1w.nii.gz", "derivatives/sub-1/sub-1_label-GM_probseg.nii.gz", like_label=False) == (
        {},
        ["derivatives/sub-1/sub-1_label-GM_probseg.nii.gz"],
    )


def test_a_guess_from_the_name_needs_the_grid() -> None:
    scan, label = HERE / "P1/ct.nii.gz", HERE / "P1/liver_mask.nii.gz"
    headers = {scan: header(scan), label: header(label, shape=(6, 5, 3))}
    found = pair_labels(headers, headers, {}, None, lambda asked, named: [named] * len(asked))
    assert (found.label_of, set(found.unpaired)) == ({}, {label})


def test_a_scan_is_no_label_map_for_its_name() -> None:
    """Voxels are asked where the name says label and the file is none that was paired on its grid."""
    names = ("mask_off.nii.gz", "P1_mask.nii.gz", "masks/P2.nii.gz", "lesion_12.nii.gz", "tumour/GTV_study_3.nii.gz")
    assert pairs(*names, like_label=False) == ({}, [])


def test_eight_bits_without_a_name_are_looked_at() -> None:
    paths = [HERE / "P1/ct.nii.gz", HERE / "P1/liver.nii.gz"]
    asked: list[tuple[tuple[Path, ...], bool]] = []

    def are_labels(some: Sequence[Path], named: bool) -> list[bool]:
        asked.append((tuple(some), named))
        return [True] * len(some)

    headers = {paths[0]: header(paths[0]), paths[1]: header(paths[1], dtype="uint8")}
    found = pair_labels(headers, headers, {}, None, are_labels)
    assert asked == [((), True), ((paths[1],), False)]
    assert found.label_of == {paths[0]: paths[1]}
    asked.clear()
    assert pair_labels(headers, headers, {}, None, are_labels, images=paths).label_of == {}  # a list names both
    assert asked == [((), True), ((), False)]


def test_what_a_list_calls_a_label_is_one_whatever_becomes_of_its_image() -> None:
    gone, label = HERE / "gone.nii.gz", HERE / "truth.nii.gz"
    headers = {label: header(label)}
    found = pair_labels(headers, headers, {gone: label}, None, lambda asked, named: [False] * len(asked), {label})
    assert found.unpaired == {label: "label map without a scan."}


def test_pattern(tmp_path: Path) -> None:
    image, label = tmp_path / "scans" / "a_0000.nii.gz", tmp_path / "truth" / "a-final.nrrd"
    for path in (image, label):
        path.parent.mkdir()
        path.touch()
    headers = {path: header(path) for path in (image, label)}
    found = pair_labels(headers, headers, {}, "../truth/{case}-final.nrrd", lambda asked, named: [False] * len(asked))
    assert found.label_of == {image: label}
    with pytest.raises(UsageError, match="field that is not known: 'stm'"):
        pair_labels(headers, headers, {}, "{stm}.nrrd", lambda asked, named: [False] * len(asked))


def placed(shape: tuple[int, int, int], origin_mm: tuple[float, float, float], direction: np.ndarray) -> Header:
    return Header(HERE / "a.nii.gz", shape, "int16", Placement((1.0, 1.0, 2.0), origin_mm, direction), "nifti")


def test_a_label_may_be_stored_along_other_axes_but_not_elsewhere() -> None:
    scan = placed((4, 5, 6), (0.0, 0.0, 0.0), np.eye(3))
    flipped = np.diag([-1.0, 1.0, 1.0])
    assert grid_fault(scan, scan) is None
    assert grid_fault(placed((4, 5, 6), (3.0, 0.0, 0.0), flipped), scan) is None
    assert grid_fault(placed((5, 4, 6), (0.0, 0.0, 0.0), np.eye(3)[:, [1, 0, 2]]), scan) is None
    assert "voxels lie up to 1.00 mm apart" in str(grid_fault(placed((4, 5, 6), (1.0, 0.0, 0.0), np.eye(3)), scan))
    assert "5x4x6 voxels against 4x5x6" in str(grid_fault(placed((5, 4, 6), (0.0, 0.0, 0.0), np.eye(3)), scan))
