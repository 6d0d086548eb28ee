"""The files of folders, links and lists: each once, with what lists say of it."""

import json
import os
from pathlib import Path

import pytest

from tests.data.index.build_lists import LABEL, index, listed, reasons
from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.index.datalist import SplitRule, position
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.index.reasons import count_kinds
from voco_cli.data.index.scan_files import add_listed, walk_inputs


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


@pytest.mark.parametrize("form", ["list", "folder", "folder with a list"])
def test_regions_that_are_not_read_are_told_once(tmp_path: Path, form: str) -> None:
    for i in range(2):
        write_nifti(tmp_path / "imagesTr" / f"p{i}_0000.nii.gz", numbers(start=i))
        write_nifti(tmp_path / "labelsTr" / f"p{i}.nii.gz", LABEL)
    pairs = [{"image": f"imagesTr/p{i}_0000.nii.gz", "label": f"labelsTr/p{i}.nii.gz"} for i in range(2)]
    path = tmp_path / "dataset.json"
    labels = {"background": 0, "liver": [1], "all": [1, 2]}
    path.write_text(
        json.dumps({"modality": {"0": "CT"}, "labels": labels} | ({} if form == "folder" else {"training": pairs}))
    )
    datalist = index(path if form == "list" else tmp_path)
    assert datalist.classes == ("liver",)
    assert [one.partition(",")[0] for one in datalist.class_notes] == [f"{path} names regions of several label values"]
    write_datalist(datalist, tmp_path / "data.json")
    assert index(tmp_path / "data.json").class_notes == ()  # what an earlier index told is not told as new


def test_a_broken_label_name_is_told_and_the_scans_are_listed(tmp_path: Path) -> None:
    write_nifti(tmp_path / "imagesTr" / "p_0000.nii.gz")
    write_nifti(tmp_path / "labelsTr" / "p.nii.gz", LABEL)
    broken = {"channel_names": {"0": "CT"}, "labels": {"0": "background", "1.0": "liver"}}
    (tmp_path / "dataset.json").write_text(json.dumps(broken))
    datalist = index(tmp_path)
    assert len(datalist.training) == 1
    assert reasons(datalist) == {"dataset.json": "has '1.0': 'liver' among its labels, which names no label value."}
    assert count_kinds(datalist.skipped) == {"label names that cannot be read": 1}


@pytest.mark.parametrize("from_list", [False, True])
@pytest.mark.parametrize("held_out", [("test",), ("validation",), ("validation", "test")])
def test_a_list_keeps_its_splits_unless_its_images_alone_are_given(
    tmp_path: Path, held_out: tuple[str, ...], from_list: bool
) -> None:
    """Decathlon's list holds out for testing alone, so who validates is drawn of its training scans."""
    root = tmp_path / "Task"
    for i in range(20):
        write_nifti(root / "imagesTr" / f"p{i}.nii.gz")
    held = {split: [f"imagesTr/p{2 * n + k}.nii.gz" for k in range(2)] for n, split in enumerate(held_out)}
    training = [{"image": f"imagesTr/p{i}.nii.gz"} for i in range(2 * len(held_out), 20)]
    path = root / "dataset.json"
    path.write_text(json.dumps({"modality": {"0": "CT"}, "training": training, **held}))
    datalist = index(path if from_list else root)
    own = {split: sorted(one.patient for one in getattr(datalist, split)) for split in ("validation", "test")}
    for n, split in enumerate(held_out):
        assert own[split] == [f"p{2 * n}", f"p{2 * n + 1}"]
    if "validation" not in held_out:
        assert own["validation"]
        assert not set(own["validation"]) & {"p0", "p1"}
    assert own["test"] == [] or "test" in held_out
    assert datalist.statistics["kept_splits"] == {"Task/dataset.json": dict.fromkeys(held_out, 2)}
    anew = index(root / "imagesTr")
    assert anew.test == ()
    assert sorted(one.patient for one in anew.validation) == drawn_for_validation()
    assert "kept_splits" not in anew.statistics


def drawn_for_validation() -> list[str]:
    rule = SplitRule()
    return sorted(who for who in (f"p{i}" for i in range(20)) if position(rule.seed, who) < rule.validation)


def test_a_folder_s_dataset_file_gives_modality_and_names(tmp_path: Path) -> None:
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


def test_channels_of_unlike_modality_go_by_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("p1_0000", "p1_0001"):
        write_nifti(root / "imagesTr" / f"{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT", "1": "PET"}, "labels": {"x": 1}}))
    assert {entry.image.name: entry.modality for _, entry in index(root).entries()} == {
        "p1_0000.nii.gz": "CT",
        "p1_0001.nii.gz": "PT",
    }
