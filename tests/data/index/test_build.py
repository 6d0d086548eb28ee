"""Folders in, a datalist out: what is listed, what is refused and why."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from tests.data.io.make_files import numbers, write_dicom, write_enhanced, write_nifti, write_rtstruct
from tests.data.io.test_dicom import per_slice
from voco_cli.data.cache.entry import volume_key
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist import Datalist, SplitRule, read_entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.index.scan_files import add_listed, walk_inputs
from voco_cli.errors import DataError, UsageError

OPTIONS = IndexOptions(workers=1)
LABEL = (numbers() % 3 == 0).astype(np.uint8)


def index(*inputs: Path, options: IndexOptions = OPTIONS, output: Path | None = None) -> Datalist:
    return build_index(list(inputs), output or inputs[0].parent / "out.json", options)


def listed(datalist: Datalist, root: Path) -> list[str]:
    return sorted(str(entry.image.relative_to(root)) for _, entry in datalist.entries())


def reasons(datalist: Datalist) -> dict[str, str]:
    return {one.path.name: one.reason for one in datalist.skipped}


def test_every_refusal_is_named_and_the_rest_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_nifti(root / "good.nii.gz")
    write_nifti(root / "flat.nii.gz", numbers()[..., 0])
    write_nifti(root / "film.nii.gz", np.zeros((4, 4, 4, 3), np.int16))
    cut = write_nifti(root / "cut.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    cut.write_bytes(cut.read_bytes()[:5000])
    (root / "empty.nii.gz").touch()
    (root / "text.nii.gz").write_text("hello")
    (root / "notes.md").write_text("hello")
    (root / ".hidden.nii.gz").write_text("not looked at")
    write_dicom(root / "gaps", (0, 3, 6, 12))
    write_dicom(root / "tilted", tilt_mm=0.3)
    write_dicom(root / "placeless", place=False)
    write_rtstruct(root / "contours.dcm")
    datalist = index(root)
    assert listed(datalist, root) == ["good.nii.gz"]
    expected = {
        "flat.nii.gz": "2-D (7x6)",
        "film.nii.gz": "4-D (4x4x4x3)",
        "cut.nii.gz": "truncated",
        "empty.nii.gz": "empty (0 bytes)",
        "text.nii.gz": "not a gzip file",
        "notes.md": "not an image",
        "gaps": "uneven slice gaps (2 x 3 mm, 1 x 6 mm)",
        "tilted": "a gantry tilt of 16.7 degrees",
        "placeless": "no geometry: 4 of 4 slices",
        "contours.dcm": "no image: a DICOM object of modality RTSTRUCT",
    }
    found = reasons(datalist)
    assert found.keys() == expected.keys()
    for name, start in expected.items():
        assert found[name].startswith(start), found[name]


def test_full_check_refuses_nan_constant_damage_and_copies(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    holed = numbers().astype(np.float32)
    holed[0, 0, :2], holed[1, 1, 1] = np.nan, np.inf
    write_nifti(root / "a_first.nii.gz")
    write_nifti(root / "b_copy.nii.gz", numbers().astype(np.float32))
    write_nifti(root / "constant.nii.gz", np.full((4, 4, 4), -1024, np.int16))
    write_nifti(root / "holed.nii.gz", holed)
    broken = write_nifti(root / "broken.nii.gz", numbers(start=7))
    raw = bytearray(broken.read_bytes())
    raw[-8] ^= 1
    broken.write_bytes(raw)
    assert len(listed(index(root), root)) == 5
    datalist = index(root, options=replace(OPTIONS, full=True))
    assert listed(datalist, root) == ["a_first.nii.gz"]
    found = reasons(datalist)
    assert found["b_copy.nii.gz"] == f"same content as {root / 'a_first.nii.gz'}, under another name."
    assert found["constant.nii.gz"] == "constant: every voxel is -1024."
    assert found["holed.nii.gz"] == "holds voxels that are no numbers: 2 NaN and 1 infinite."
    assert found["broken.nii.gz"].startswith("damaged: incorrect checksum")


def test_the_same_file_reached_twice_is_listed_once(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    scan = write_nifti(root / "a.nii.gz")
    (root / "link.nii.gz").symlink_to(scan)
    (root / "loop").symlink_to(root, target_is_directory=True)
    datalist = index(root, scan)
    assert listed(datalist, root) == ["a.nii.gz"]
    assert [(one.path.name, one.reason) for one in datalist.skipped] == [
        ("a.nii.gz", "reached twice: the inputs overlap, and is listed once."),
        ("link.nii.gz", f"reached twice: it is the same file as {scan}, and is listed once."),
    ]


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


def test_series_are_told_apart_and_put_together(tmp_path: Path) -> None:
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


def test_running_again_and_growing_move_nobody(tmp_path: Path) -> None:
    root, output = tmp_path / "scans", tmp_path / "scans" / "data.json"
    for i in range(6):
        write_nifti(root / f"p{i}.nii.gz")
    first = index(root, output=output)
    assert len(first.validation) >= 1
    write_datalist(first, output)
    before = output.read_bytes()
    write_datalist(index(root, output=output), output)
    assert output.read_bytes() == before
    for i in range(6, 30):
        write_nifti(root / f"p{i}.nii.gz")
    grown = index(root, output=output)
    split_of = {entry.patient: split for split, entry in grown.entries()}
    assert len(split_of) == 30
    assert all(split_of[entry.patient] == split for split, entry in first.entries())


def test_lists_are_merged_and_their_held_out_patients_stay_held_out(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for i in range(4):
            write_nifti(tmp_path / name / "imagesTr" / f"p{i}.nii.gz")
            write_nifti(tmp_path / name / "labelsTr" / f"p{i}.nii.gz", LABEL)
        pairs = [{"image": f"imagesTr/p{i}.nii.gz", "label": f"labelsTr/p{i}.nii.gz"} for i in range(4)]
        held = {"training": pairs[:3], "validation": pairs[3:]} if name == "one" else {"training": pairs}
        raw = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, **held}
        raw["training"] = [*raw["training"], {"image": "imagesTr/gone.nii.gz"}]
        (tmp_path / name / "dataset.json").write_text(json.dumps(raw))
    datalist = index(tmp_path / "one" / "dataset.json", tmp_path / "two" / "dataset.json")
    assert len(datalist.training) == 6
    assert {entry.patient for entry in datalist.validation} == {"p3"}
    assert len(datalist.validation) == 2  # p3 of the second list is the same patient
    assert all(entry.label for _, entry in datalist.entries())
    assert datalist.modality == "CT"
    assert datalist.labels == {"0": "background", "1": "liver"}
    assert [one.path.name for one in datalist.skipped] == ["gone.nii.gz"] * 2


def test_a_folder_s_dataset_file_tells_modality_and_names(tmp_path: Path) -> None:
    root = tmp_path / "Task"
    write_nifti(root / "imagesTr" / "p1_0000.nii.gz")
    write_nifti(root / "labelsTr" / "p1.nii.gz", LABEL)
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 1})
    )
    datalist = index(root)
    assert datalist.training[0].modality == "CT"
    assert datalist.training[0].patient == "p1"
    assert datalist.labels == {"0": "background", "1": "liver"}


def test_patient_pattern_joins_visits(tmp_path: Path) -> None:
    for name in ("A_2001", "A_2002", "B_2001"):
        write_nifti(tmp_path / "s" / f"{name}x.nii.gz")
    datalist = index(tmp_path / "s", options=replace(OPTIONS, patient_pattern=r"/([A-Z])_\d+x"))
    assert {entry.patient for _, entry in datalist.entries()} == {"A", "B"}
    with pytest.raises(UsageError, match="one group"):
        index(tmp_path / "s", options=replace(OPTIONS, patient_pattern="A_"))


def test_statistics_are_those_of_the_scans(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_nifti(root / "a.nii.gz")
    write_nifti(root / "b.nii.gz", numbers((9, 6, 5)))
    numbers_of = index(root, options=replace(OPTIONS, rule=SplitRule(validation=0.0))).statistics
    assert numbers_of["scans"] == numbers_of["patients"] == 2
    assert numbers_of["shape"] == {"least": [7, 6, 5], "median": [8, 6, 5], "greatest": [9, 6, 5]}
    assert numbers_of["extent_mm"]["greatest"] == [18, 12, 15]
    assert numbers_of["voxels"] == 7 * 6 * 5 + 9 * 6 * 5
    assert numbers_of["orientations"] == {"LPS": 2}


def test_nothing_readable_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        index(tmp_path / "s")
    for name in ("a.txt", "b.txt"):
        (tmp_path / "s" / name).write_text("hello")
    (tmp_path / "s" / "c.nii").touch()
    with pytest.raises(UsageError, match=r"no scan that can be listed; found: 2 not an image, 1 empty\."):
        index(tmp_path / "s")
    with pytest.raises(DataError, match="nope does not exist"):
        index(tmp_path / "nope")


def test_another_program_s_file_is_not_replaced(tmp_path: Path) -> None:
    write_nifti(tmp_path / "s" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(UsageError, match="not written by `voco index`"):
        index(tmp_path / "s", output=tmp_path / "dataset.json")


def test_processes_find_the_same(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    for i in range(5):
        write_nifti(root / f"p{i}.nii.gz", numbers(start=i))
    (root / "bad.nii").write_text("hello")
    alone = index(root, options=replace(OPTIONS, full=True))
    assert index(root, options=replace(OPTIONS, full=True, workers=2)) == alone


def test_shared_data_is_refused_by_the_right_names(shared_data: Path, tmp_path: Path) -> None:
    datalist = index(shared_data, output=tmp_path / "all.json", options=replace(OPTIONS, full=True))
    found = reasons(datalist)
    expected = {
        "constant.nii.gz": "constant",
        "empty.nii.gz": "empty",
        "four_d.nii.gz": "4-D",
        "not_an_image.nii.gz": "not a gzip file",
        "sheared_sform_only.nii.gz": "axes that are not at right angles",
        "truncated.nii.gz": "truncated",
        "two_d.nii.gz": "2-D",
        "with_nans.nii.gz": "holds voxels that are no numbers: 400 NaN and 1 infinite",
        "tilted_uneven": "a gantry tilt of 18.5 degrees and uneven slice gaps (2 x 7 mm, 1 x 4 mm, 1 x 1.08 mm)",
    }
    for name, start in expected.items():
        assert found.pop(name).startswith(start)
    rest = set(found.values())
    assert all(reason.startswith(("not an image", "no image: a DICOM object of modality RTSTRUCT")) for reason in rest)
    assert datalist.statistics["modalities"] == {"MR": 133, "unknown": 52, "CT": 12, "PT": 1}
    assert datalist.statistics["labelled"] == 135


@pytest.fixture
def shared_data() -> Path:
    """The folder of public scans, where there is one."""
    root = Path(os.environ.get("VOCO_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    if not (root / "formats").is_dir():
        pytest.skip("VOCO_SHARED names no folder of public scans")
    return root


def test_one_slice_stands_for_its_series(tmp_path: Path) -> None:
    paths = write_dicom(tmp_path / "d")
    assert index(paths[1]).training[0].shape == (6, 5, 4)
    globbed = index(*paths)
    assert globbed.training[0].image == tmp_path / "d"
    assert globbed.skipped == ()


def test_odd_things_in_a_folder_do_not_stop_it(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_nifti(root / "a.nii.gz")
    os.mkfifo(root / "pipe")
    (root / "dangling.nii.gz").symlink_to(root / "nowhere")
    (root / os.fsdecode(b"caf\xe9.nii.gz")).write_text("hello")
    datalist = index(root)
    assert listed(datalist, root) == ["a.nii.gz"]
    found = reasons(datalist)
    assert found["pipe"] == "not a file."
    assert found["dangling.nii.gz"].startswith("cannot be opened: No such file")
    assert found["caf\\udce9.nii.gz"].startswith("name is not valid UTF-8")
    write_datalist(datalist, tmp_path / "data.json")


def test_a_set_behind_a_link_is_no_second_way_to_its_files(tmp_path: Path) -> None:
    root = tmp_path / "real" / "Task"
    write_nifti(root / "imagesTr" / "p1.nii.gz")
    listed = {"training": [{"image": "./imagesTr/p1.nii.gz"}], "modality": {"0": "CT"}, "labels": {"0": "background"}}
    (root / "dataset.json").write_text(json.dumps(listed))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    datalist = index(tmp_path / "link")
    assert [entry.image.name for _, entry in datalist.entries()] == ["p1.nii.gz"]
    assert not [one for one in datalist.skipped if "reached twice" in one.reason]


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
    told = {one.path.relative_to(root).as_posix(): one.reason for one in datalist.skipped}
    assert set(told) == {"imagesTr/case_1.nii.gz", "labelsTr/case_1.nii.gz"}
    assert told["imagesTr/case_1.nii.gz"].startswith(damage)
    assert told["labelsTr/case_1.nii.gz"] == "label map without a scan."


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


def test_a_full_check_tells_label_maps_in_any_number_format(tmp_path: Path) -> None:
    root = tmp_path / "s"
    write_nifti(root / "a.nii.gz")
    write_nifti(root / "b.nii.gz", LABEL.astype(np.float32))
    assert listed(index(root), root) == ["a.nii.gz", "b.nii.gz"]
    full = index(root, options=replace(OPTIONS, full=True))
    assert listed(full, root) == ["a.nii.gz"]
    assert reasons(full)["b.nii.gz"].startswith("label map without a scan")


def test_a_guess_from_the_name_drops_no_scan(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("P0_t0", "P0_t1", "pt_07", "head_flair"):
        write_nifti(root / f"{name}.nii.gz")
    plain = {entry.image.name: entry.modality for _, entry in index(root).entries()}
    assert plain == {
        "P0_t0.nii.gz": "unknown",
        "P0_t1.nii.gz": "unknown",
        "pt_07.nii.gz": "unknown",
        "head_flair.nii.gz": "MR",
    }
    asked = index(root, options=replace(OPTIONS, modality="CT"))
    assert {entry.modality for _, entry in asked.entries()} == {"CT"}
    notes = {entry.image.name: entry.notes for _, entry in asked.entries()}
    assert notes["pt_07.nii.gz"][0] == "modality is not known and was taken to be CT"
    assert notes["head_flair.nii.gz"][0] == "modality is MR by the name alone and was taken to be CT"
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": {"background": 0}}))
    with pytest.raises(UsageError, match="4 other modality"):
        index(root, options=replace(OPTIONS, modality="CT"))


def test_a_pair_of_header_and_voxels_is_one_scan(tmp_path: Path) -> None:
    root = tmp_path / "s"
    root.mkdir()
    for name in ("a.hdr", "a.img", "B.HDR", "B.IMG", "c.hdr.gz", "c.img.gz", "lone.img"):
        (root / name).write_bytes(b"hello")
    found = [one.path.name for one in walk_inputs([root]).files]
    assert found == ["B.HDR", "a.hdr", "c.hdr.gz", "lone.img"]
    assert [one.path.name for one in walk_inputs([root / "a.img"]).files] == ["a.hdr"]
    walk = walk_inputs([root])
    add_listed(walk, [(root / "a.img", ()), (root / "lone.img", ())])
    assert [one.path.name for one in walk.files] == found
    assert walk.skipped == []


def test_the_sequences_of_a_case_are_one_patient(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for case in range(6):
        for kind in ("t1", "t1ce", "t2", "flair"):
            name = f"BraTS2021_{case:05d}"
            write_nifti(root / name / f"{name}_{kind}.nii.gz", numbers(start=case))
        write_nifti(root / name / f"{name}_seg.nii.gz", LABEL)
    datalist = index(root)
    assert datalist.statistics["scans"] == datalist.statistics["labelled"] == 24
    assert datalist.statistics["patients"] == 6
    split_of = {(entry.image.parent, split) for split, entry in datalist.entries()}
    assert len(split_of) == 6  # no folder on both sides
    assert {split for _, split in split_of} == {"training", "validation"}


def test_several_images_of_an_entry_are_all_scans_with_its_label(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("x_0000", "x_0001"):
        write_nifti(root / f"{name}.nii.gz")
    write_nifti(root / "truth.nii.gz", LABEL)
    item = {"image": ["x_0000.nii.gz", "x_0001.nii.gz"], "label": "truth.nii.gz", "patient": 7}
    (root / "list.json").write_text(json.dumps({"training": [item]}))
    entries = [entry for _, entry in index(root / "list.json").entries()]
    assert [(one.image.name, one.label and one.label.name, one.patient) for one in entries] == [
        ("x_0000.nii.gz", "truth.nii.gz", "7"),
        ("x_0001.nii.gz", "truth.nii.gz", "7"),
    ]


def test_cases_of_one_file_name_are_called_by_their_folders(tmp_path: Path) -> None:
    root = tmp_path / "kits"
    for case in ("case_00000", "case_00001"):
        write_nifti(root / case / "imaging.nii.gz")
        write_nifti(root / case / "segmentation.nii.gz", LABEL)
    for patient in ("P1", "P2"):
        write_dicom(root / patient / "CT", patient=patient)
    datalist = index(root)
    assert sorted(entry.name for _, entry in datalist.entries()) == ["P1", "P2", "case_00000", "case_00001"]
    write_datalist(datalist, tmp_path / "data.json")
    again = index(tmp_path / "data.json")
    assert {entry.image: entry.name for _, entry in again.entries()} == {
        entry.image: entry.name for _, entry in datalist.entries()
    }


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
        "so no names were taken",
    )


def test_channels_of_unlike_modality_are_told_by_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("p1_0000", "p1_0001"):
        write_nifti(root / "imagesTr" / f"{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT", "1": "PET"}, "labels": {"x": 1}}))
    assert {entry.image.name: entry.modality for _, entry in index(root).entries()} == {
        "p1_0000.nii.gz": "CT",
        "p1_0001.nii.gz": "PT",
    }


def test_an_image_that_a_list_calls_its_own_label_stays_a_scan(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    item = {"image": "a.nii.gz", "label": "./a.nii.gz"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [item]}))
    datalist = index(tmp_path / "list.json")
    assert [(entry.image.name, entry.label) for _, entry in datalist.entries()] == [("a.nii.gz", None)]
    assert reasons(datalist)["a.nii.gz"].startswith("label that is its own image")
