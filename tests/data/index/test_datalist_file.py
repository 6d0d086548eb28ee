"""data.json comes back as it was written; wrong keys and missing files are named; others' lists are read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.io.make_files import write_nifti
from voco_cli.data.index.datalist import Datalist, Entry, Skipped, SplitRule, read_entry
from voco_cli.data.index.datalist_file import label_names, read_datalist, write_datalist
from voco_cli.errors import DataError, UsageError


def entry(path: Path, **more: Any) -> Entry:
    return Entry(image=path, patient=path.name, shape=(7, 6, 5), spacing_mm=(2, 2, 3), orientation="RAS", **more)


@pytest.fixture
def datalist(tmp_path: Path) -> Datalist:
    paths = [write_nifti(tmp_path / "scans" / f"{name}.nii.gz") for name in "abc"]
    return Datalist(
        name="three",
        modality="CT",
        labels={"1": "liver"},
        split=SplitRule(seed=3),
        training=(entry(paths[0], label=paths[1], modality="CT", notes=("one", "two")),),
        validation=(entry(paths[2], files=(paths[0],)),),
        skipped=(Skipped(path=tmp_path / "x.txt", reason="not an image."),),
        statistics={"scans": 2},
    )


def test_comes_back_as_written_with_relative_paths(tmp_path: Path, datalist: Datalist) -> None:
    path = tmp_path / "lists" / "data.json"
    write_datalist(datalist, path)
    assert read_datalist(path) == datalist
    raw = json.loads(path.read_text())
    assert raw["training"][0]["image"] == "../scans/a.nii.gz"
    assert raw["validation"][0]["files"] == ["../scans/a.nii.gz"]
    assert raw["skipped"][0]["path"] == "../x.txt"
    assert [one.name for one in path.parent.iterdir()] == ["data.json"]


def test_entries_of_the_same_fields_share_their_names_and_a_copy_has_its_own(tmp_path: Path) -> None:
    lines = [{"image": f"{name}.nii.gz", "patient": name} for name in "ab"]
    (tmp_path / "data.json").write_text(json.dumps({"format": "voco-data/1", "training": lines}))
    first, second = read_datalist(tmp_path / "data.json", check_files=False).training
    assert first.model_fields_set is second.model_fields_set
    changed = first.model_copy(update={"modality": "CT"})
    assert changed.model_fields_set == {"image", "patient", "modality"}
    assert second.model_fields_set == {"image", "patient"}


def test_folder_may_move_with_its_scans(tmp_path: Path, datalist: Datalist) -> None:
    write_datalist(datalist, tmp_path / "scans" / "data.json")
    (tmp_path / "scans").rename(tmp_path / "moved")
    assert read_datalist(tmp_path / "moved" / "data.json").training[0].image == tmp_path / "moved" / "a.nii.gz"


def test_monai_reads_it(tmp_path: Path, datalist: Datalist) -> None:
    write_datalist(datalist, tmp_path / "data.json")
    from monai.data import load_decathlon_datalist

    training, validation = (
        load_decathlon_datalist(str(tmp_path / "data.json"), True, key) for key in ("training", "validation")
    )
    assert training[0]["image"] == str(tmp_path / "scans" / "a.nii.gz")
    assert training[0]["label"] == str(tmp_path / "scans" / "b.nii.gz")
    assert len(validation) == 1


def test_wrong_keys_are_named_together_with_the_nearest(tmp_path: Path, datalist: Datalist) -> None:
    path = tmp_path / "data.json"
    write_datalist(datalist, path)
    raw = json.loads(path.read_text())
    raw["validatoin"] = raw.pop("validation")
    raw["training"][0]["spacing"] = raw["training"][0].pop("spacing_mm")
    raw["training"][0]["shape"] = [7, 6, 0]
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError) as caught:
        read_datalist(path)
    message = caught.value.message
    assert "3 wrong keys" in message
    assert "validatoin is not a key, did you mean 'validation'?" in message
    assert "training[0].spacing is not a key, did you mean 'spacing_mm'?" in message
    assert "training[0].shape[2] is wrong: input should be greater than 0" in message


def test_missing_images_are_counted_and_named(tmp_path: Path, datalist: Datalist) -> None:
    write_datalist(datalist, tmp_path / "data.json")
    (tmp_path / "scans" / "b.nii.gz").unlink()
    with pytest.raises(DataError, match=r"lists 1 file that is missing: .*b\.nii\.gz"):
        read_datalist(tmp_path / "data.json")
    assert read_datalist(tmp_path / "data.json", check_files=False) == datalist


@pytest.mark.parametrize(
    ("text", "kind", "what"),
    [
        ("{", DataError, "not valid JSON.*line 1"),
        ("[]", UsageError, "holds a list"),
        ('{"format": "voco-data/9"}', UsageError, "format 'voco-data/9'"),
        ('{"format": "voco-data/1", "training": 3}', UsageError, "training"),
        ('{"trainning": []}', UsageError, "did you mean training by 'trainning'"),
        ('{"training": [{"imgae": "a"}]}', UsageError, r"training\[0\] has no image"),
        ('{"training": [{"image": "a", "label": 1}]}', UsageError, "label that is not a path: 1"),
    ],
)
def test_what_is_no_datalist_is_refused(tmp_path: Path, text: str, kind: type[Exception], what: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(kind, match=what):
        read_datalist(tmp_path / "data.json")


def test_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.json cannot be opened"):
        read_datalist(tmp_path / "nope.json")


def test_plain_decathlon_list(tmp_path: Path) -> None:
    for name in ("imagesTr/p_1.nii.gz", "labelsTr/p_1.nii.gz", "imagesTs/p_2.nii.gz"):
        write_nifti(tmp_path / name)
    raw = {
        "name": "Spleen",
        "licence": "theirs",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "spleen"},
        "training": [{"image": "./imagesTr/p_1.nii.gz", "label": "./labelsTr/p_1.nii.gz", "fold": 0}],
        "test": ["./imagesTs/p_2.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    datalist = read_datalist(tmp_path / "dataset.json")
    assert datalist.modality == "MR"
    assert datalist.labels == {"0": "background", "1": "spleen"}
    assert datalist.training[0].patient == "p_1"
    assert datalist.training[0].label == tmp_path / "labelsTr" / "p_1.nii.gz"
    assert datalist.test[0].image == tmp_path / "imagesTs" / "p_2.nii.gz"
    assert datalist.test[0].shape is None


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"0": "background", "01": "liver", "2": 7}, {"0": "background", "1": "liver", "2": "7"}),
        ({"background": 0, "left kidney": [3], "spleen": "4"}, {"0": "background", "3": "left kidney", "4": "spleen"}),
        ({}, {}),
    ],
)
def test_label_names_either_way_round(labels: dict[str, object], names: dict[str, str]) -> None:
    assert label_names(labels, Path("d.json")) == (names, ())


def test_regions_are_not_read_and_told() -> None:
    names, told = label_names({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}, Path("d.json"))
    assert names == {"0": "background", "3": "enhancing"}
    assert told == (
        "d.json names regions of several label values, which are not read: whole, core. The class map says what lies "
        "inside what (`unions`, `regions`).",
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            {"0": "background", "1.0": "liver"},
            "d.json has '1.0': 'liver' among its labels, which names no label value.",
        ),
        ({"0": "background", "1": None}, "d.json has '1': None among its labels, which names no label value."),
        ({"background": 0, "liver": None}, "d.json has 'liver': None among its labels, which names no label value."),
        ({"liver": True, "spleen": 2}, "d.json has 'liver': True among its labels, which names no label value."),
        ({"liver": [], "spleen": 2}, "d.json has 'liver': [] among its labels, which names no label value."),
        ({"liver": 1, "spleen": [1]}, "d.json calls the label value 1 both 'liver' and 'spleen'."),
    ],
)
def test_labels_that_name_nothing_are_refused_with_file_and_key(labels: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        label_names(labels, Path("d.json"))
    assert caught.value.message == said


def test_an_entry_whose_file_changed_is_noticed(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    assert read_entry(entry(path)).shape_xyz == (7, 6, 5)
    with pytest.raises(DataError, match=r"shape \(7, 6, 5\), and the index says \(9, 6, 5\)"):
        read_entry(entry(path).model_copy(update={"shape": (9, 6, 5)}))


@pytest.mark.slow
def test_160000_scans_open_in_2_gb(tmp_path: Path) -> None:
    count = 160_000
    scans = tuple(entry(tmp_path / f"site_{i % 50:02d}" / f"case_{i:06d}.nii.gz", modality="CT") for i in range(count))
    write_datalist(Datalist(training=scans), tmp_path / "data.json")
    del scans
    code = (
        "import sys, resource; from pathlib import Path; "
        "from voco_cli.data.index.datalist_file import read_datalist; "
        "n = len(read_datalist(Path(sys.argv[1]), check_files=False).training); "
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data.json")], capture_output=True, text=True, check=True
    )
    found, kilobytes = (float(word) for word in shown.stdout.split())
    assert found == count
    assert kilobytes < 2e6


def test_a_folder_in_place_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "my scans").mkdir()
    with pytest.raises(UsageError) as caught:
        read_datalist(tmp_path / "my scans")
    assert caught.value.message == f"{tmp_path}/my scans is a folder, and a data.json is needed."
    assert caught.value.hint == f"voco index '{tmp_path}/my scans' -o data.json"


def test_a_split_that_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"training": 3}')
    with pytest.raises(UsageError, match=r"training is no list\.$"):
        read_datalist(tmp_path / "data.json")


PAIR = {"image": "./imagesTr/p_1.nii.gz", "label": "./labelsTr/p_1.nii.gz"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_lists_written_on_windows(tmp_path: Path, encoding: str, newline: str, slash: str) -> None:
    for name in PAIR.values():
        write_nifti(tmp_path / name)
    pair = {key: name.replace("/", slash) for key, name in PAIR.items()}
    text = json.dumps({"name": "Größe", "training": [pair]}, ensure_ascii=False, indent=1)
    (tmp_path / "list.json").write_bytes(text.replace("\n", newline).encode(encoding))
    datalist = read_datalist(tmp_path / "list.json")
    assert datalist.name == "Größe"
    assert datalist.training[0].image == tmp_path / "imagesTr" / "p_1.nii.gz"
    assert datalist.training[0].label == tmp_path / "labelsTr" / "p_1.nii.gz"


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path: Path) -> None:
    write_nifti(tmp_path / "odd\\name.nii.gz")
    (tmp_path / "list.json").write_text(json.dumps({"training": ["odd\\name.nii.gz"]}))
    assert read_datalist(tmp_path / "list.json").training[0].image == tmp_path / "odd\\name.nii.gz"


def test_text_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(DataError, match=r"list\.json is not valid JSON: it is not text in UTF-8\."):
        read_datalist(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("items", "what"),
    [
        ([7], r"training\[0\] has no image"),
        (["a.nii", None], r"training\[1\] has no image"),
        ([[]], r"training\[0\] has no image"),
        ([{"image": ""}], r"training\[0\] has no image"),
        ([{"image": []}], r"training\[0\] has no image"),
        ([{"image": ["a.nii", None]}], r"training\[0\] has no image"),
        ([{"image": "a.nii", "label": ["b" * 999]}], r"label that is not a path: \['b{58}\.\.\.\.$"),
        ([{"image": "a.nii", "label": ""}], r"label that is not a path: ''"),
        ([{"image": "a\0b.nii"}], r"training\[0\].image is wrong: .*is not a path"),
        ([{"image": "a.nii", "case": "x\0y"}], r"training\[0\].case is wrong: .*cannot be the name of a file"),
        ([{"image": "a.nii", "case": "../x"}], r"training\[0\].case is wrong: .*cannot be the name of a file"),
        ([{"image": "a.nii", "case": "x" * 999}], r"cannot be the name of a file"),
        ([{"image": "a.nii", "patient": ["A"]}], r"training\[0\].patient is wrong"),
    ],
)
def test_odd_entries_are_one_short_sentence(tmp_path: Path, items: list[Any], what: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    with pytest.raises(UsageError, match=what) as caught:
        read_datalist(tmp_path / "list.json", check_files=False)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < len(str(tmp_path)) + 400


def test_entries_of_others_that_are_unusual_and_clear(tmp_path: Path) -> None:
    """Several images are channels; a path may be absolute or lead upwards; numbers are names; null is nothing."""
    items = [
        {"image": ["../a/x_0000.nii", "/b/x_0001.nii"], "label": None, "patient": 7, "fold": [1], "shape": "512x512"},
        "deep/../y.nii",
    ]
    (tmp_path / "list.json").write_text(json.dumps({"training": items, "validation": None, "modality": {"0": "CT"}}))
    first, second = read_datalist(tmp_path / "list.json", check_files=False).training
    assert first.image == tmp_path.parent / "a" / "x_0000.nii"
    assert first.channels == (Path("/b/x_0001.nii"),)
    assert (first.label, first.patient, first.modality) == (None, "7", "CT")
    assert second.image == tmp_path / "y.nii"
    assert second.patient == "y"
