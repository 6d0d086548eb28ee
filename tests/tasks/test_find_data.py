"""Finding the data of a task: folders, lists, tables; and every refusal in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.made_task import write_task
from voco_cli.config import load_settings, task_names
from voco_cli.errors import DataError, UsageError
from voco_cli.tasks.find_data import TaskData, find_task_data

PLAIN = """
task:
  name: mine
  classes: [{name: a, values: 1}]
  layouts: [{image: "images/{case}.nii.gz", label: "labels/{case}.nii.gz"}]
  patch_size: [32, 32, 32]
model: {backbone: unet}
"""
SCANS = """
task:
  name: mine
  kind: classification
  classes: [{name: well, values: 0}, {name: sick, values: [1, 2]}]
  table: cases.csv
  layouts: [{image: "{case}.nii.gz"}]
preprocess: {resize_vox: [32, 32, 32]}
model: {backbone: unet}
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOCO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def find(task: str, root: Path | None = None, *overrides: str, **flags: Any) -> TaskData:
    given = {"data.root": root, **flags}
    return find_task_data(load_settings(task=task, overrides=overrides, flags=given).settings)


def refusal(*arguments: Any, **flags: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find(*arguments, **flags)
    return caught.value


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def own_task(text: str = PLAIN) -> str:
    Path("my.yaml").write_text(text)
    return "my.yaml"


def pairs(*cases: str) -> list[str]:
    return [f"{kind}/{case}.nii.gz" for case in cases for kind in ("images", "labels")]


@pytest.mark.parametrize("name", task_names())
def test_each_public_layout_is_found(name: str, tmp_path: Path) -> None:
    data = find(name, write_task(tmp_path / "d", name, shape_xyz=(32, 32, 12)), "task.missing=leave_out")
    tested = 0 if name in ("brats21", "kits23", "mmwhs") else 1
    assert [len(data.datalist.training), len(data.datalist.validation), len(data.datalist.test)] == [3, 2, tested]
    settings = load_settings(task=name).settings
    for split, entry in data.datalist.entries():
        assert len(entry.channels) + 1 == len(settings.task.channels)
        if settings.task.kind == "segmentation":
            assert (entry.label is None) == (split == "test" and name != "word")
        else:
            assert entry.category in ("Normal", "CP", "NCP")
    assert data.missing


def test_names_are_readable_and_unlike(tmp_path: Path) -> None:
    btcv = find("btcv", write_task(tmp_path / "b", "btcv"), "task.missing=leave_out").datalist
    assert [entry.name for entry in btcv.training] == ["img0001", "img0002", "img0003"]
    assert [entry.patient for entry in btcv.validation] == ["img0035", "img0036"]
    assert btcv.training[0].label == tmp_path / "b/labelsTr/label0001.nii.gz"
    assert btcv.modality == "CT"
    amos = find("amos", write_task(tmp_path / "a", "amos"), "task.missing=leave_out").datalist
    assert [entry.name for entry in amos.validation] == ["amos_0008", "amos_0013"]
    assert amos.validation[0].image.parent.name == "imagesVa"
    scans = find("cc_ccii", write_task(tmp_path / "c", "cc_ccii"), "task.missing=leave_out").datalist
    assert all(entry.patient == entry.name.partition("-")[0] for _, entry in scans.entries())
    brats = find("brats21", write_task(tmp_path / "m", "brats21"), "task.missing=leave_out").datalist
    first = brats.training[0]
    assert first.name == "BraTS2021_00002"
    assert [path.name.rsplit("_", 1)[1] for path in (first.image, *first.channels)] == [
        f"{channel}.nii.gz" for channel in ("flair", "t1ce", "t1", "t2")
    ]


def test_other_layouts_of_the_same_set(tmp_path: Path) -> None:
    release = tmp_path / "RawData"
    touch(release / "Training", "img/img0001.nii.gz", "label/label0001.nii.gz", "img/img0035.nii.gz")
    touch(release / "Training", "label/label0035.nii.gz")
    found = find("btcv", tmp_path, "task.missing=leave_out")
    assert found.origin == str(release)
    assert found.datalist.training[0].label == release / "Training/label/label0001.nii.gz"
    spleen = touch(tmp_path / "Task09_Spleen", "imagesTr/spleen_12_0000.nii.gz", "labelsTr/spleen_12.nii.gz")
    touch(spleen, "imagesTr/spleen_10.nii.gz", "labelsTr/spleen_10.nii.gz", "imagesTr/._spleen_10.nii.gz")
    entries = [entry for _, entry in find("msd_spleen", tmp_path, "task.missing=leave_out").datalist.entries()]
    assert [(entry.name, entry.image.name) for entry in entries] == [
        ("spleen_12", "spleen_12_0000.nii.gz"),
        ("spleen_10", "spleen_10.nii.gz"),
    ]


def test_the_folder_with_most_cases_wins_and_data_is_the_default(tmp_path: Path) -> None:
    touch(tmp_path / "data/word", "imagesTr/word_0002.nii.gz", "labelsTr/word_0002.nii.gz")
    touch(tmp_path / "data/WORD", "imagesTr/word_0002.nii.gz", "labelsTr/word_0002.nii.gz")
    touch(tmp_path / "data/WORD", "imagesVal/word_0001.nii.gz", "labelsVal/word_0001.nii.gz")
    assert find("word", None, "task.missing=leave_out").origin == str(tmp_path / "data/WORD")


def test_voco_data_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_DATA", str(touch(tmp_path / "d", *pairs("a", "b", "c"))))
    assert len(find(own_task(PLAIN + "\n"), None, "task.split=seeded").datalist.training) == 2


def test_without_data_it_says_what_is_expected_and_where_it_is_to_be_had() -> None:
    error = refusal("btcv")
    assert error.exit_code == 2
    assert error.message == "The data of btcv is nowhere: there is no folder data, and no other was given."
    assert error.hint is not None
    for words in ("--data", "VOCO_DATA", "imagesTr/img{case}.nii.gz with labelsTr/label{case}.nii.gz", "syn3193805"):
        assert words in error.hint


def test_a_folder_without_cases(tmp_path: Path) -> None:
    assert refusal("btcv", tmp_path).message == f"{tmp_path} holds none of the 50 cases of btcv."
    assert refusal("btcv", tmp_path / "gone").message == f"{tmp_path / 'gone'} is not a folder."
    assert refusal(own_task(), tmp_path, "task.split=seeded").message == f"{tmp_path} holds no case of mine."


def test_missing_cases_are_counted_named_and_only_left_out_when_asked(tmp_path: Path) -> None:
    root = write_task(tmp_path / "d", "mmwhs", training=16, validation=3)
    error = refusal("mmwhs", root)
    assert error.message == (
        f"{root} lacks 1 of 20 cases (public split mmwhs): ct_train_1004 (images/ct_train_1004_image.nii.gz)."
    )
    assert "task.missing=leave_out" in (error.hint or "")
    assert "task.split=seeded" in (error.hint or "")
    assert find("mmwhs", root, "task.missing=leave_out").missing == (
        "ct_train_1004 (images/ct_train_1004_image.nii.gz)",
    )
    (root / "labels/ct_train_1005_label.nii.gz").unlink()
    assert "lacks 2 of 20 cases" in refusal("mmwhs", root).message
    assert "ct_train_1005 (labels/ct_train_1005_label.nii.gz)" in refusal("mmwhs", root).message


def test_test_cases_without_public_labels_need_not_be_there(tmp_path: Path) -> None:
    root = write_task(tmp_path / "d", "btcv", training=24, validation=6, test=0, shape_xyz=(32, 32, 12))
    data = find("btcv", root)
    assert data.missing == ()
    assert data.split_words == "public split btcv; 0 of 20 test cases, whose labels are not public, are there"


def test_a_drawn_split_of_a_folder(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "d", *pairs(*(f"c{n:02d}" for n in range(20))), "images/alone.nii.gz", "images/._c00.nii.gz"
    )
    how = ("task.split=seeded", "task.validation_patients=4", "task.test_patients=3")
    data = find(own_task(), root, *how)
    assert [len(getattr(data.datalist, split)) for split in ("training", "validation", "test")] == [13, 4, 3]
    assert data.split_words == "drawn by patient with seed 0; 1 images without a label map are not used"
    assert find(own_task(), root, *how).datalist == data.datalist
    assert find(own_task(), root, *how, "seed=1").datalist == data.datalist  # runs of several seeds are comparable
    assert find(own_task(), root, *how, "task.split_seed=1").datalist != data.datalist


def test_scans_of_a_subject_stay_together(tmp_path: Path) -> None:
    cases = [f"sub-{n:02d}_ses-{visit}" for n in range(8) for visit in (1, 2)]
    data = find(own_task(), touch(tmp_path / "d", *pairs(*cases)), "task.split=seeded").datalist
    assert {entry.patient for entry in data.training} & {entry.patient for entry in data.validation} == set()
    assert len({entry.patient for _, entry in data.entries()}) == 8
    split = {"format": "voco-split/1", "training": ["sub-01_ses-1"], "validation": ["sub-01_ses-2"]}
    Path("torn.json").write_text(json.dumps(split))
    assert (
        "has 1 patients in more than one split: sub-01"
        in refusal(own_task(), tmp_path / "d", "task.split=torn.json").message
    )


def test_a_task_without_a_split_or_without_any_data(tmp_path: Path) -> None:
    assert "says nothing of splits (task.split)" in refusal(own_task(), tmp_path).message
    bare = own_task("task: {name: mine, classes: [{name: a, values: 1}]}\n")
    assert "neither data.file nor task.layouts" in refusal(bare, tmp_path).message


def test_folders_stay_below_the_data_folder(tmp_path: Path) -> None:
    error = refusal(own_task(), tmp_path, "task.split=seeded", "task.folders=[../elsewhere]")
    assert error.message == "task.folders has ../elsewhere, which leaves the data folder."


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "real", *pairs("a", "b", "c"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/images").symlink_to(tmp_path / "real/images")
    (tmp_path / "d/labels").symlink_to(tmp_path / "real/labels")
    assert len(find(own_task(), tmp_path / "d", "task.split=seeded").datalist.training) == 2


def listed(path: Path, **splits: list[dict[str, Any]]) -> Path:
    for item in (item for items in splits.values() for item in items):
        touch(
            path.parent, *(name for key, name in item.items() if key in ("image", "label")), *item.get("channels", [])
        )
    path.write_text(json.dumps({"name": "x", "labels": {"0": "background", "1": "a"}, **splits}))
    return path


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"image": f"i/{name}.nii.gz", "label": f"l/{name}.nii.gz", **more}


def test_a_list_with_its_own_splits(tmp_path: Path) -> None:
    path = listed(
        tmp_path / "x.json", training=[item("a"), item("b")], validation=[item("c")], test=[{"image": "i/d.nii.gz"}]
    )
    data = find(own_task(), None, **{"data.file": path})
    assert [[e.name for e in getattr(data.datalist, s)] for s in ("training", "validation", "test")] == [
        ["a", "b"],
        ["c"],
        ["d"],
    ]
    assert (data.origin, data.split_words) == (str(path), "splits of x.json")


def test_scans_without_labels_are_left_out_aloud(tmp_path: Path) -> None:
    bare = [{"image": f"i/u{n}.nii.gz"} for n in range(3)]
    path = listed(tmp_path / "x.json", training=[item("a"), *bare[:2]], validation=[item("c"), bare[2]])
    data = find(own_task(), None, **{"data.file": path})
    assert [entry.name for _, entry in data.datalist.entries()] == ["a", "c"]
    assert data.split_words == "splits of x.json; 3 scans without a label map are not used"


def test_a_list_split_by_draw_or_by_a_file(tmp_path: Path) -> None:
    path = listed(tmp_path / "x.json", training=[item(f"n{n}") for n in range(10)], test=[{"image": "i/t.nii.gz"}])
    message = refusal(own_task(), None, **{"data.file": path})
    assert message.message == f"{path} has no case to validate on."
    assert "task.split=seeded" in (message.hint or "")
    assert len(find(own_task(), None, "task.choose=last", **{"data.file": path}).datalist.validation) == 0
    data = find(own_task(), None, "task.split=seeded", **{"data.file": path})
    assert (len(data.datalist.training), len(data.datalist.validation)) == (8, 2)
    assert data.split_words.endswith("1 scans without a label map are not used")
    Path("s.json").write_text(json.dumps({"format": "voco-split/1", "training": ["n1"], "validation": ["n2", "gone"]}))
    assert (
        "lacks 1 cases of the split of s.json: gone"
        in refusal(own_task(), None, "task.split=s.json", **{"data.file": path}).message
    )
    data = find(own_task(), None, "task.split=s.json", "task.missing=leave_out", **{"data.file": path})
    assert [entry.name for _, entry in data.datalist.entries()] == ["n1", "n2"]


def test_lists_that_no_training_could_use(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    said = lambda *overrides: refusal(own_task(), None, *overrides, **{"data.file": path}).message  # noqa: E731
    listed(path, training=[{"image": "i/a.nii.gz"}], validation=[item("b")])
    assert said() == f"{path} has no case to train on."
    listed(path, training=[{"image": "i/a.nii.gz"}], validation=[{"image": "i/b.nii.gz"}])
    assert said() == f"{path} has no label map, so nothing can be learned."
    listed(path, training=[item("a", patient="p")], validation=[item("b", patient="p")])
    assert said() == f"{path} has 1 patients in more than one split: p."
    twice = {**item("a"), "image": "other/a.nii.gz", "patient": "q", "case": "a"}
    listed(path, training=[{**item("a"), "case": "a"}], validation=[twice])
    assert said() == f"{path} has 1 names of cases more than once: a."
    listed(path, training=[item("a", channels=["i/a2.nii.gz"])], validation=[item("b")])
    assert said() == f"{path} has 2 channels for a, and the task has 1 (image)."
    listed(path, training=[], validation=[item("b")])
    assert said() == f"{path} has no case to train on."
    path.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        find(own_task(), None, **{"data.file": path})


def table(folder: Path, *lines: str) -> Path:
    touch(folder, *(f"{line.replace(';', ',').split(',')[0]}.nii.gz" for line in lines[1:]))
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_table_with_a_column_of_splits(tmp_path: Path) -> None:
    rows = ["Case;Label;split", "a;0;train", "b;sick;training", "c;2;val", "d;well;test"]
    data = find(own_task(SCANS), table(tmp_path / "d", *rows)).datalist
    assert [(split, entry.name, entry.category) for split, entry in data.entries()] == [
        ("training", "a", "well"),
        ("training", "b", "sick"),
        ("validation", "c", "sick"),
        ("test", "d", "well"),
    ]


def test_a_table_with_folds_and_patients(tmp_path: Path) -> None:
    rows = ["case,label,patient,fold", "a,0,p,0", "b,1,p,0", "c,1,q,1", "d,0,r,2", "e,0,s,-1", "f,1,t,"]
    root = table(tmp_path / "d", *rows)
    data = find(own_task(SCANS), root, "task.fold=1")
    names = [[entry.name for entry in getattr(data.datalist, s)] for s in ("training", "validation", "test")]
    assert names == [["a", "b", "d"], ["c"], ["e", "f"]]
    assert [entry.patient for entry in data.datalist.training] == ["p", "p", "r"]
    assert data.split_words.endswith("cases.csv, fold 1 of 3 validates")
    assert "has the folds 0, 1, 2, and task.fold is 4" in refusal(own_task(SCANS), root, "task.fold=4").message


def test_a_table_that_is_drawn_by_patient(tmp_path: Path) -> None:
    rows = [f"c{n},{n % 2},p{n // 2}" for n in range(20)]
    root = table(tmp_path / "d", "case,label,patient", *rows)
    data = find(own_task(SCANS), root, "task.split=seeded").datalist
    assert (len(data.training), len(data.validation)) == (16, 4)
    assert "says nothing of splits, and task.split is not given" in refusal(own_task(SCANS), root).message
    (root / "c3.nii.gz").unlink()
    assert "lacks 1 of 20 cases" in refusal(own_task(SCANS), root, "task.split=seeded").message


@pytest.mark.parametrize("split_seed", range(4))
def test_a_drawn_classification_has_each_category_in_each_split(split_seed: int, tmp_path: Path) -> None:
    """Three of twenty are sick; two are tested and two validate."""
    how = ("task.split=seeded", "task.test_patients=2", "task.validation_patients=2", f"task.split_seed={split_seed}")
    root = table(tmp_path / "d", "case,label", *(f"c{n:02d},{int(n < 3)}" for n in range(20)))
    of_table = find(own_task(SCANS), root, *how)
    items = [{"image": f"{n:02d}.nii.gz", "category": str(int(n < 3))} for n in range(20)]
    of_list = find(own_task(SCANS), None, *how, **{"data.file": listed(tmp_path / "x.json", training=items)})
    for data in (of_table, of_list):
        for split in ("training", "validation", "test"):
            assert {entry.category for entry in getattr(data.datalist, split)} == {"well", "sick"}
        assert data.split_words == f"drawn by patient within each category with seed {split_seed}"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["name,label", "a,0"], "has no column case; its columns are name, label"),
        (["case,label,split", "a,7,train"], "has 1 labels that no class of the task has: '7' (a)"),
        (["case,label,split", "a,0,train", "a,1,val"], "cases.csv:3: the case a stands twice"),
        (["case,label,split", "../a,0,train"], "cases.csv:2: '../a' is no name of a case"),
        (["case,label,split", "a\0b,0,train"], "cases.csv:2: 'a\\x00b' is no name of a case"),
        (["case,label,split", 2000 * "a" + ",0,train"], "aaa' is no name of a case"),
        (
            ["case,label,split", 'a,"0,train', *(300 * ["b,1,train"])],
            "row from line 2 on has a stray quotation mark",
        ),
        (["case,label,split", "a," + 2000 * "7" + ",train"], "has 1 labels that no class of the task has"),
        ([2000 * "a"], "has no column case and none label"),
        (["case,label,split", "a,0,here"], "puts a into the split 'here'"),
        (["case,label,fold", "a,0,one"], "gives a the fold 'one', which is no number"),
    ],
)
def test_wrong_tables(lines: list[str], said: str, tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "cases.csv").write_text("\n".join(lines))
    message = refusal(own_task(SCANS), root).message
    assert said in message
    assert len(message.replace(str(root), "")) < 250


def test_a_classification_needs_its_categories(tmp_path: Path) -> None:
    assert "needs a table" in refusal("cc_ccii", tmp_path, "task.split=seeded").message
    assert "cases.csv (task.table) is not in the data folder" in refusal(own_task(SCANS), tmp_path).message
    path = tmp_path / "x.json"
    listed(
        path, training=[{"image": "a.nii.gz", "category": "1"}], validation=[{"image": "b.nii.gz", "category": "ill"}]
    )
    error = refusal(own_task(SCANS), None, "task.table=null", **{"data.file": path})
    assert error.message == f"{path} has 1 cases whose category is no class of the task: b (ill)."
