"""The collections of the package have the counts of the authors' lists; files of users are checked before use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from voco_cli.data.collections.catalogue import collection_names, load_collection, set_names
from voco_cli.errors import UsageError

# Training, validation and test scans that the authors list.
LISTED = {
    "btcv": (24, 6, 0),
    "tcia_covid19": (722, 49, 0),
    "luna16": (843, 45, 0),
    "stoic2021": (2000, 0, 0),
    "totalsegmentator": (1203, 0, 0),
    "flare23": (4000, 0, 0),
    "hnscc": (1071, 0, 0),
    "lidc": (589, 0, 0),
    "colonography": (1730, 0, 0),
    "deeplesion": (1618, 0, 0),
    "head_neck_pet": (384, 0, 0),
    "qin_headneck": (892, 0, 0),
    "tcga_hnsc": (762, 0, 0),
    "opc_radiomics": (606, 0, 0),
    "stonybrook_chest_ct": (2316, 0, 0),
    "mela": (770, 0, 0),
    "panorama": (2229, 0, 0),
    "kits": (391, 98, 0),
    "lits": (108, 23, 70),
    "msd_pancreas": (257, 24, 139),
    "word": (100, 20, 30),
    "flare22": (40, 10, 200),
    "amos": (200, 100, 200),
}
UNNAMED = {"abdomenatlas", "ct_rate", "nlst", "healthy_ct"}
OWN = {
    "name": "lab",
    "source": "our own list",
    "sets": [
        {"set": "btcv"},
        {"set": {"name": "ward_7", "folders": ["ward 7"], "cases": {"training": ["a.nii.gz", "./b/ct.nii.gz"]}}},
    ],
}


def write(path: Path, content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("name", sorted(LISTED))
def test_as_many_scans_are_named_as_the_authors_list(name: str) -> None:
    (member,) = load_collection(name).sets
    named = tuple(len(member.set.cases.get(split, ())) for split in ("training", "validation", "test"))
    assert named == LISTED[name]
    assert {split: n for split, n in member.set.listed.items() if n} == {
        split: n for split, n in zip(("training", "validation", "test"), LISTED[name], strict=True) if n
    }


def test_every_set_is_counted_or_known_to_have_no_names() -> None:
    assert set(set_names()) == {*LISTED, *UNNAMED}
    assert load_collection("abdomenatlas").count("training") == 5195
    assert load_collection("prect_160k").unnamed == ("healthy_ct", "abdomenatlas", "ct_rate", "nlst")


@pytest.mark.parametrize(
    ("name", "training", "validation"), [("voco_1.6k", 1589, 100), ("voco_10k", 9863, 100), ("prect_160k", 27732, 94)]
)
def test_sizes_of_the_collections(name: str, training: int, validation: int) -> None:
    """1,589 = 24 + 722 + 843; 9,863 with 2,000 + 1,203 + 4,000 + 1,071; 100 = 6 + 49 + 45."""
    collection = load_collection(name)
    assert (collection.count("training"), collection.count("validation")) == (training, validation)
    assert "not stated by its authors" in collection.source


def test_roles_in_the_160k_family() -> None:
    collection = load_collection("prect_160k")
    counts = {one.set.name: one.set.count(one.training) for one in collection.sets}
    both = {name: sum(LISTED[name][:2]) for name in ("btcv", "flare22", "amos", "kits", "msd_pancreas")}
    assert (
        {name: counts[name] for name in both}
        == both
        == {
            "btcv": 30,
            "flare22": 50,
            "amos": 300,
            "kits": 489,
            "msd_pancreas": 281,
        }
    )
    assert (counts["word"], counts["lits"], counts["opc_radiomics"], counts["nlst"]) == (150, 108, 0, None)


def test_the_six_that_validate_btcv() -> None:
    (member,) = load_collection("btcv").sets
    assert member.set.cases["validation"] == tuple(f"imagesTr/img00{n}.nii.gz" for n in range(35, 41))


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match="There is no collection 'voco_10K'") as refused:
        load_collection("voco_10K")
    assert "voco_10k" in str(refused.value.hint)


def test_a_collection_of_ones_own_takes_sets_of_the_package(tmp_path: Path) -> None:
    collection = load_collection(write(tmp_path / "lab.yaml", OWN))
    assert (collection.name, collection.count("training"), collection.count("validation")) == ("lab", 26, 6)
    ward = collection.member("ward_7")
    assert ward is not None
    assert list(ward.files()) == [("training", "a.nii.gz"), ("training", "b/ct.nii.gz")]


def test_a_set_of_ones_own_is_a_collection_too(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text(json.dumps({"ward_7": {"training": ["a.nii"], "test": ["b.nii"]}}))
    collection = load_collection(write(tmp_path / "ward.yaml", {"name": "ward_7", "cases_file": "lists.json"}))
    assert (collection.name, collection.sets[0].set.places) == ("ward_7", ("ward_7",))
    assert list(collection.sets[0].files()) == [("training", "a.nii"), ("test", "b.nii")]


def ward(**changes: object) -> dict[str, object]:
    return {"name": "ward", "sets": [{"set": {"name": "ward_7", **changes}}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ward(cases={"training": ["../secret.nii"]}), "cases.training.0: '../secret.nii' is no path below the folder"),
        (ward(folders=["/etc"]), "folders.0: '/etc' is no path below the folder of the data"),
        (ward(folders=["a/../../b"]), "folders.0: 'a/../../b' is no path below the folder of the data"),
        (ward(folders=["C:/data"]), "folders.0: 'C:/data' is no path below"),
        (ward(folders=["a\\b"]), "is no path below the folder of the data"),
        (ward(folders=["a\x1b[2J"]), "is no name of a file"),
        (ward(cases_file="../lists.json"), "cases_file: '../lists.json' is no path below the folder of the data"),
        (ward(cases_file="none.json"), "none.json cannot be read as a list of names: No such file or directory."),
        (ward(cases={"training": ["a", "a"]}), "'a' is listed twice"),
        (ward(cases={"training": ["a"]}, listed={"training": 2}), "2 training scans are counted, and 1 are named"),
        (ward(colour="red"), "colour: Extra inputs are not permitted"),
        ({"name": "x", "sets": [{"set": "btvc"}]}, "names the set 'btvc', which is none that comes with the package"),
        ({"name": "x", "sets": [{"set": "btcv"}, {"set": "btcv"}]}, "the set btcv stands there twice"),
        (
            {"name": "x", "sets": [{"set": "btcv", "training": ["validation"]}]},
            "validation scans of btcv have two roles",
        ),
        ({"name": "x y", "sets": [{"set": "btcv"}]}, "name: 'x y' is no name"),
        ({"name": "x", "sets": []}, "sets: Tuple should have at least 1 item"),
        ({"name": "x", "sets": 3}, "sets.0: Input should be"),
        (["btcv"], "holds no collection: the top level must be keys and values"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        load_collection(write(tmp_path / "ward.yaml", content))
    assert message in refused.value.message
    assert refused.value.message.startswith(str(tmp_path))
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("content", ["a: [", "\x00", "a: &a [*a]\nb: !!python/object/apply:os.system [ls]"])
def test_a_file_that_is_no_yaml(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"x\.yaml is not valid YAML"):
        load_collection(str(tmp_path / "x.yaml"))


def test_names_of_the_package() -> None:
    assert collection_names() == ["prect_160k", "voco_1.6k", "voco_10k"]
