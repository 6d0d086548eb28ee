"""DICOM files as the index lists them: series, enhanced files, slices that do not belong together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from tests.data.index.build_lists import OPTIONS, index, listed, reasons
from tests.data.io.make_files import write_dicom, write_enhanced
from tests.data.io.test_dicom import per_slice
from voco_cli.data.cache.entry import volume_key
from voco_cli.data.index.datalist import read_entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist


def test_series_are_separated_and_put_together(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    write_dicom(root / "mixed", name="ct", patient="P7")
    write_dicom(root / "mixed", (0, 5, 10), name="pt", patient="P7", modality="PT")
    write_dicom(root / "whole" / "one", (0, 3), series="1.2.3", patient="anonymous")
    write_dicom(root / "whole" / "two", (6, 9), series="1.2.3", patient="anonymous")
    datalist = index(root)
    entries = {str(entry.image.relative_to(root)): entry for _, entry in datalist.entries()}
    assert sorted(entries) == ["mixed/ct001", "mixed/pt001", "whole"]
    assert [entries[name].modality for name in sorted(entries)] == ["CT", "PT", "CT"]
    assert entries["mixed/ct001"].patient == entries["mixed/pt001"].patient == "P7"
    assert entries["whole"].shape == (6, 5, 4)
    assert entries["whole"].patient == entries["whole"].study_uid
    only = index(root, options=replace(OPTIONS, modality="PT"))
    assert listed(only, root) == ["mixed/pt001"]
    assert reasons(only)["whole"] == "modality CT, and PT was asked for."


def test_one_slice_stands_for_its_series(tmp_path: Path) -> None:
    paths = write_dicom(tmp_path / "d")
    assert index(paths[1]).training[0].shape == (6, 5, 4)
    globbed = index(*paths)
    assert globbed.training[0].image == tmp_path / "d"
    assert globbed.skipped == ()


def test_an_enhanced_file_is_named_itself_and_read_as_it_was_listed(tmp_path: Path) -> None:
    root, output = tmp_path / "dicom", tmp_path / "data.json"
    write_enhanced(root / "alone" / "ct.dcm", slopes=[1, 0.5, 2, 4])
    for k in range(2):
        write_enhanced(root / "two" / f"{k}.dcm", (0, 3, 6)[: 2 + k], series="1.2.3")
    write_enhanced(root / "phases.dcm", (0, 0, 3, 3))
    datalist = index(root, output=output, options=replace(OPTIONS, full=True))
    assert listed(datalist, root) == ["alone/ct.dcm", "two/0.dcm", "two/1.dcm"]
    assert reasons(datalist)["phases.dcm"].startswith("2 slices at the same position")
    write_datalist(datalist, output)
    entries = {entry.image.name: entry for _, entry in read_datalist(output).entries()}
    assert all(entry.files == () and entry.content for entry in entries.values())
    scan = read_entry(entries["ct.dcm"])
    np.testing.assert_array_equal(scan.array_zyx[:, 0, 1], [-9, 40.5, 392, 1194])
    keys = {volume_key(entry.image, entry.files, "", full_hash=True) for entry in entries.values()}
    assert len(keys) == 3


def test_what_differs_by_slice_is_refused_from_headers_alone(tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    write_dicom(root / "good")
    spacings, scales = [[2, 1.5]] * 2 + [[2.2, 1.5]] * 2, [1, 1, None, 1]
    write_dicom(root / "spacings", edit=per_slice(PixelSpacing=spacings))
    write_dicom(root / "scales", edit=per_slice(RescaleSlope=scales, RescaleIntercept=scales))
    write_dicom(root / "acquisitions", range(8), edit=per_slice(AcquisitionNumber=[1, 2] * 4))
    datalist = index(root)
    assert listed(datalist, root) == ["good"]
    found = reasons(datalist)
    assert found["spacings"].startswith("2 pixel spacings in one series")
    assert found["scales"].startswith("no RescaleSlope and RescaleIntercept on 1 of 4 slices")
    assert found["acquisitions"].startswith("holds several acquisitions whose slices interleave")


def test_series_without_uids_are_listed_by_folder_with_a_note(tmp_path: Path) -> None:
    def blank(data: FileDataset, k: int) -> None:
        del data.SeriesInstanceUID, data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID, data.PatientID

    root = tmp_path / "dicom"
    write_dicom(root / "p1", edit=blank)
    write_dicom(root / "p2", (0, 4, 8), edit=blank)
    datalist = index(root)
    entries = {entry.image.name: entry for _, entry in datalist.entries()}
    assert sorted(entries) == ["p1", "p2"]
    assert {entry.patient for entry in entries.values()} == {"p1", "p2"}
    assert all(entry.series_uid is entry.study_uid is None for entry in entries.values())
    assert all("name no series" in entry.notes[0] for entry in entries.values())
