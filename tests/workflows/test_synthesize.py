from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.cache.made_scans import oriented_affine
from tests.data.index.build_lists import index
from tests.data.io.make_files import write_dicom
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.errors import DataError, GeometryError, UsageError, VocoError
from voco_cli.workflows.synthesize import PaintedCase, Request, open_healthy, paint_copies, write_pair

SHAPE = (60, 56, 50)


def made_pair(folder: Path, codes: str = "LPS", dtype: type = np.int16) -> tuple[Path, Path]:
    """A ball of liver (5) with a spleen (1) beside it; 1.5 x 1.5 x 2 mm, an origin that is no whole number."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices(SHAPE)
    liver = ((x - 28) * 1.5) ** 2 + ((y - 28) * 1.5) ** 2 + ((z - 25) * 2) ** 2 < 34**2
    labels = np.where(liver, 5, 0).astype(np.uint8)
    labels[2:5, 2:5, 2:4] = 1
    image = (np.where(liver, 110, -1000) + rng.normal(0, 6, SHAPE)).astype(dtype)
    affine = oriented_affine(codes, (1.5, 1.5, 2.0))
    affine[:3, 3] = (-123.45, 67.891, -1001.7)
    for path, array in ((folder / "case.nii.gz", image), (folder / "case_seg.nii.gz", labels)):
        nib.save(nib.Nifti1Image(array, affine), path)
    (folder / "case_seg.json").write_text(json.dumps({"0": "background", "1": "spleen", "5": "liver"}))
    return folder / "case.nii.gz", folder / "case_seg.nii.gz"


def painted(folder: Path, **changes: object) -> tuple[Request, list[PaintedCase]]:
    scan, label = made_pair(folder)
    request = Request(scan, label, ("liver",), (6.0, 9.0), (2, 2), **changes)  # type: ignore[arg-type]
    return request, list(paint_copies(request, open_healthy(request), None, 0.7))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASL"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_pairs_lie_exactly_where_the_scan_lay(tmp_path: Path, codes: str, dtype: type) -> None:
    scan, label = made_pair(tmp_path, codes, dtype)
    request = Request(scan, label, ("liver",), (8.0, 8.0), (1, 1))
    healthy = open_healthy(request)
    (one,) = paint_copies(request, healthy, None, 0.7)
    image, labels, names, record = write_pair(one, healthy, request, tmp_path / "out")
    before, after, mapped = (nib.load(path) for path in (scan, image, labels))
    for new in (after, mapped):
        np.testing.assert_array_equal(new.affine, before.affine)
        np.testing.assert_array_equal(new.header.get_zooms(), before.header.get_zooms())
        assert new.shape == before.shape
    assert after.get_data_dtype() == before.get_data_dtype() == dtype
    assert mapped.get_data_dtype() == np.uint8
    lesion = np.asarray(mapped.dataobj) == 6  # after 1 and 5
    changed = np.asarray(after.dataobj) != np.asarray(before.dataobj)
    assert changed[lesion].mean() > 0.9
    assert changed.mean() < 0.2
    told = json.loads(record.read_text())
    (tumour,) = told["tumours"]
    assert tumour["voxels"] == lesion.sum()
    assert tumour["volume_ml"] == pytest.approx(lesion.sum() * 4.5 / 1000, abs=1e-4)
    assert lesion[tuple(tumour["centre_xyz_vox"])]
    assert told["lesion"] == {"name": "tumour", "value": 6}
    assert json.loads(names.read_text()) == {"0": "background", "1": "spleen", "5": "liver", "6": "tumour"}


def test_the_same_seed_paints_the_same_and_copies_differ(tmp_path: Path) -> None:
    _, (first, second) = painted(tmp_path, copies=2)
    _, (again,) = painted(tmp_path)
    np.testing.assert_array_equal(first.scan.array_zyx, again.scan.array_zyx)
    np.testing.assert_array_equal(first.labels_zyx, again.labels_zyx)
    assert not np.array_equal(first.labels_zyx, second.labels_zyx)
    _, (other,) = painted(tmp_path, seed=1)
    assert not np.array_equal(first.labels_zyx, other.labels_zyx)


def test_a_label_map_without_room_for_another_value_gets_two_bytes(tmp_path: Path) -> None:
    scan, label = made_pair(tmp_path)
    stored = nib.load(label)
    values = np.asarray(stored.dataobj).copy()
    values[values == 1] = 255
    nib.save(nib.Nifti1Image(values, stored.affine), label)
    request = Request(scan, label, ("liver",), (8.0, 8.0), (1, 1), classes="liver=5")
    (one,) = paint_copies(request, open_healthy(request), None, 0.7)
    assert one.labels_zyx.dtype == np.uint16
    assert one.labels_zyx.max() == 256


def test_a_network_keeps_what_it_finds(tmp_path: Path) -> None:
    request, (everything,) = painted(tmp_path)
    healthy = open_healthy(request)
    assert len(everything.tumours) == 2
    larger, smaller = everything.tumours

    def find_all(scan: Scan) -> NDArray[np.bool_]:
        return np.ones(scan.array_zyx.shape, bool)

    def find_none(scan: Scan) -> NDArray[np.bool_]:
        return np.zeros(scan.array_zyx.shape, bool)

    def find_the_larger(scan: Scan) -> NDArray[np.bool_]:
        z, y, x = np.indices(scan.array_zyx.shape)
        # The scan is LPS: its x and y run against the patient's axes.
        cx, cy, cz = (SHAPE[0] - 1 - larger.centre[0], SHAPE[1] - 1 - larger.centre[1], larger.centre[2])
        near: NDArray[np.bool_] = np.hypot(np.hypot((x - cx) * 1.5, (y - cy) * 1.5), (z - cz) * 2) < 18
        return near

    (kept,) = paint_copies(request, healthy, find_all, 0.7)
    np.testing.assert_array_equal(kept.scan.array_zyx, everything.scan.array_zyx)
    (none,) = paint_copies(request, healthy, find_none, 0.7)
    np.testing.assert_array_equal(none.scan.array_zyx, healthy.scan.array_zyx)
    assert (none.tumours, len(none.rejected)) == ((), 2)
    (one,) = paint_copies(request, healthy, find_the_larger, 0.7)
    assert [tumour.centre for tumour in one.tumours] == [larger.centre]
    assert [tumour.centre for tumour in one.rejected] == [smaller.centre]
    assert (one.labels_zyx == 6).sum() == one.tumours[0].voxels


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"organs": ("livr",)}, "case_seg.nii.gz has no class 'livr'.", "did you mean liver?"),
        ({"organs": ("3",)}, "case_seg.nii.gz has no voxel of 3.", "name an organ that is in the scan"),
        ({"organs": ("0",)}, "--organ 0 is the background of case_seg.nii.gz.", "name an organ, or give its value"),
        ({"lesion": "Background"}, "--lesion 'Background' names no class.", "name one, such as --lesion tumour"),
        (
            {"organs": ("spleen", "liver"), "lesion": "liver"},
            "--lesion liver is the organ liver, which painted voxels could not be told from.",
            "give the lesion a class of its own, such as --lesion tumour",
        ),
        (
            {"organs": ("5",), "classes": "spleen=1", "lesion": "5"},  # the name that value 5 goes by here
            "--lesion 5 is the organ 5, which painted voxels could not be told from.",
            "give the lesion a class of its own, such as --lesion tumour",
        ),
        (
            {"radius_mm": (5.0, 40.0)},
            "Tumours of 40 mm radius are larger than liver, which has the volume of a ball of 34 mm.",
            "give smaller ones, such as --size 5:16",
        ),
        (
            {"organs": ("liver",), "classes": "spleen=1"},
            "case_seg.nii.gz has no class 'liver'.",
            "it has spleen",
        ),
    ],
)
def test_bad_requests_are_told_in_one_sentence(
    tmp_path: Path, changes: dict[str, object], message: str, hint: str
) -> None:
    scan, label = made_pair(tmp_path)
    request = Request(**{"scan": scan, "label": label, "organs": ("liver",), **changes})  # type: ignore[arg-type]
    with pytest.raises(UsageError) as raised:
        open_healthy(request)
    assert raised.value.message.replace(f"{tmp_path}/", "") == message
    assert raised.value.hint == hint


def test_a_label_map_of_another_scan_is_refused(tmp_path: Path) -> None:
    scan, label = made_pair(tmp_path)
    stored = nib.load(label)
    moved = stored.affine.copy()
    moved[0, 3] += 20
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), moved), label)
    with pytest.raises(GeometryError, match=r"case_seg.nii.gz lies on another grid than .*case.nii.gz\."):
        open_healthy(Request(scan, label, ("liver",)))


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    scan, label = made_pair(tmp_path, dtype=np.float32)
    stored = nib.load(scan)
    values = np.asarray(stored.dataobj).copy()
    values[28, 28, 24:27] = bad
    nib.save(nib.Nifti1Image(values, stored.affine), scan)
    with pytest.raises(DataError, match=r"case.nii.gz holds voxels that are not finite numbers \(3\)\."):
        open_healthy(Request(scan, label, ("liver",)))


def test_a_label_map_without_names_asks_for_values(tmp_path: Path) -> None:
    scan, label = made_pair(tmp_path)
    (tmp_path / "case_seg.json").unlink()
    with pytest.raises(VocoError, match="has no names of its label values, and --organ liver names one"):
        open_healthy(Request(scan, label, ("liver",)))
    assert open_healthy(Request(scan, label, ("5",))).organs == {"5": (5,)}


@pytest.mark.parametrize("patient", ["P7", "anonymous"])
def test_a_copy_of_a_dicom_series_is_of_the_patient_that_an_index_tells(tmp_path: Path, patient: str) -> None:
    write_dicom(tmp_path / "scan9", patient=patient)
    scan = read_scan(tmp_path / "scan9")
    write_scan(np.ones(scan.array_zyx.shape, np.uint8), scan, tmp_path / "organs.nii.gz")
    told = open_healthy(Request(tmp_path / "scan9", tmp_path / "organs.nii.gz", ("1",), (0.5, 0.5))).patient
    ((_, entry),) = index(tmp_path / "scan9").entries()
    assert told == entry.patient
    assert (told == "P7") is (patient == "P7")
