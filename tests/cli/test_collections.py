"""`voco collections` and `voco index --collection` as a user calls them: tables, JSON, exit codes, what comes next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import voco
from tests.data.collections.made_tree import put
from tests.data.io.make_files import write_nifti
from voco_cli.data.index.datalist_file import read_datalist


def words(text: str) -> str:
    return " ".join(text.split())


def test_list_has_the_sizes(tmp_path: Path) -> None:
    shown = words(voco("collections", "list", cwd=tmp_path).stdout)
    assert "voco_1.6k VoCo 1.6k, of the CVPR 2024 paper 3 1589 100" in shown
    assert "voco_10k VoCo 10k, of the released CVPR code 8 9863 100" in shown
    assert "prect_160k PreCT-160K, of the TPAMI paper 27 27732+ 94" in shown
    rows = {row["name"]: row for row in json.loads(voco("collections", "list", "--json", cwd=tmp_path).stdout)}
    assert rows["voco_10k"]["scans"] == {"training": 9863, "validation": 100, "test": 0}
    assert rows["prect_160k"]["unnamed"] == ["healthy_ct", "abdomenatlas", "ct_rate", "nlst"]


def test_show_says_where_how_many_and_on_which_terms(tmp_path: Path) -> None:
    shown = words(voco("collections", "show", "prect_160k", cwd=tmp_path, COLUMNS="150").stdout)
    for part in (
        "btcv 30 0 0 BTCV/imagesTr/img0001.nii.gz",
        "nlst ? ? ? NLST_convert_v1/",
        "word (WORD, Whole abdominal ORgan Dataset): github.com/HiLab-git/WORD; by request, on approval by its authors",
        "kits (KiTS 2023, kidneys and their tumours): kits-challenge.org; see the set's page",
        "source: read in Luffy03/Large-Scale-Medical at 1ad538b",
        "- lits: the code reads the training list twice, and the validation list never",
        "next: voco collections check prect_160k DIR",
    ):
        assert part in shown
    raw = json.loads(voco("collections", "show", "btcv", "--json", cwd=tmp_path).stdout)
    assert len(raw["sets"][0]["set"]["cases"]["training"]) == 24


def test_check_counts_and_names(tmp_path: Path) -> None:
    put(tmp_path, "btcv", "training", 24)
    put(tmp_path, "btcv", "validation", 5)
    (tmp_path / "BTCV" / "imagesTr" / "img0061.nii.gz").touch()
    done = voco("collections", "check", "voco_1.6k", tmp_path, cwd=tmp_path, COLUMNS="150")
    shown = words(done.stdout)
    assert done.returncode == 1
    assert "btcv 30 29 1 1 BTCV" in shown
    assert "luna16 888 0 888 0 not there: Luna16-jx" in shown
    assert "missing: btcv: imagesTr/img0040.nii.gz" in shown
    assert "beside the list: btcv: imagesTr/img0061.nii.gz" in shown
    assert f"error: 1660 of 1689 scans of voco_1.6k are not in {tmp_path}." in done.stderr
    put(tmp_path, "btcv", "validation", 6)
    whole = voco("collections", "check", "btcv", tmp_path, cwd=tmp_path)
    assert whole.returncode == 0
    assert f"next: voco index {tmp_path} --collection btcv -o data.json" in whole.stdout
    as_json = json.loads(voco("collections", "check", "btcv", tmp_path, "--json", cwd=tmp_path).stdout)
    assert (as_json["found"], len(as_json["sets"][0]["found"])) == (30, 30)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    put(tmp_path / "data", "btcv", "training", 2, real=True)
    put(tmp_path / "data", "btcv", "validation", 1, real=True)
    return tmp_path / "data"


def test_index_lists_exactly_the_collection(data: Path, tmp_path: Path) -> None:
    write_nifti(data / "BTCV" / "imagesTr" / "img0061.nii.gz")
    done = voco("index", data, "--collection", "voco_10k", "-o", "data.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "missing: btcv: 27 of 30 scans" in done.stderr
    assert "missing: luna16: all 888 scans" in done.stderr
    assert "next: voco pretrain data.json --recipe tpami" in done.stdout
    listed = read_datalist(tmp_path / "data.json")
    assert [(split, entry.name) for split, entry in listed.entries()] == [
        ("training", "img0001"),
        ("training", "img0002"),
        ("validation", "img0035"),
    ]


def test_index_of_a_file_of_ones_own(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\ncases: {training: [imagesTr/img0002.nii.gz]}\nfolders: [BTCV]\n")
    arguments = ("index", data, "--collection", "own.yaml", "-o", "d.json", "--json", "--check", "full")
    raw = json.loads(voco(*arguments, cwd=tmp_path).stdout)
    assert (raw["name"], raw["statistics"]["scans"]) == ("own", 1)
    assert raw["statistics"]["collection"] == {"name": "own", "source": "", "missing": {}, "unnamed": []}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--validation", "0.2"), "--collection and --validation do not go together: the collection says it."),
        (("--modality", "MR"), "--collection and --modality do not go together"),
        (("--shard", "1/2"), "without --scheduler and --shard"),
        (("--scheduler", "tcp://host:8786"), "without --scheduler and --shard"),
        (("more",), "--collection takes one folder, which holds the sets."),
        (("--collection", "nothing"), "There is no collection 'nothing'."),
    ],
)
def test_wrong_use_is_refused(more: tuple[str, ...], message: str, data: Path, tmp_path: Path) -> None:
    done = voco("index", data, "--collection", "voco_10k", "-o", "d.json", *more, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True)
    assert not (tmp_path / "d.json").exists()


def test_none_of_the_scans_is_an_error(tmp_path: Path) -> None:
    done = voco("index", tmp_path, "--collection", "voco_10k", cwd=tmp_path)
    assert done.returncode == 3
    assert "holds none of the 9963 scans that the collection voco_10k lists" in done.stderr
