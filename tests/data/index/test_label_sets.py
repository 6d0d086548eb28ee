"""The classes of several data sets as one list, by rules, and what is told where they do not agree."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.index.build_lists import LABEL, OPTIONS, index
from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.index.class_map import ClassMap, read_class_map
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.index.label_sets import merge_classes
from voco_cli.data.index.labelled import labels_of
from voco_cli.errors import DataError, UsageError

ABDOMEN = {1: "spleen", 2: "right kidney", 3: "left kidney", 4: "liver"}
LITS = {1: "liver", 2: "liver tumour"}
KITS = {1: "kidney", 2: "kidney tumour"}


def test_one_set_is_its_names_in_the_order_of_its_values() -> None:
    merged = merge_classes({"a": {2: "liver", 1: "spleen", 9: "ignore", 5: "background"}}, ClassMap())
    assert merged.classes == ("liver", "spleen")
    assert merged.sets["a"].values == {"2": ("liver",), "1": ("spleen",)}
    assert merged.sets["a"].ignore == 9
    assert (merged.regions, merged.told) == ({}, ())


def test_what_may_mean_two_things_is_left_out_and_told() -> None:
    merged = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, ClassMap())
    assert merged.complete == {"abdomen": ("spleen", "right kidney", "left kidney"), "lits": ("liver tumour",)}
    assert merged.sets["lits"].values == {"2": ("liver tumour",)}
    assert merged.told == (
        "liver is labelled by abdomen, and by lits beside liver tumour: with it or without? Nobody learns liver until "
        "the class map says `regions: {liver: [liver tumour]}` (with it), `same: [liver]` (both alike), or a name of "
        "its own under synonyms for lits/liver.",
    )


def test_a_region_takes_in_what_lies_inside_it() -> None:
    merged = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, ClassMap(regions={"liver": ("liver tumour",)}))
    assert merged.complete["lits"] == ("liver", "liver tumour")
    assert merged.sets["lits"].values == {"1": ("liver",), "2": ("liver tumour", "liver")}
    assert merged.sets["abdomen"].values["4"] == ("liver",)
    assert merged.regions == {"liver": ("liver tumour",)}
    assert merged.told == ()


def test_the_same_name_may_be_said_to_mean_the_same_or_be_renamed_in_one_set() -> None:
    same = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, ClassMap(same=("liver",)))
    assert same.complete["lits"] == ("liver", "liver tumour")
    own = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, ClassMap(synonyms={"liver tissue": ("lits/liver",)}))
    assert own.complete == {
        "abdomen": ("spleen", "right kidney", "left kidney", "liver"),
        "lits": ("liver tissue", "liver tumour"),
    }


def test_what_is_left_out_still_lies_in_its_whole() -> None:
    sets = {"abdomen": ABDOMEN, "lits": LITS}
    merged = merge_classes(sets, ClassMap(regions={"liver": ("liver tumour",)}, leave_out=("liver tumour",)))
    assert merged.sets["lits"].values == {"1": ("liver",), "2": ("liver",)}
    assert (merged.complete["lits"], merged.regions, merged.told) == (("liver",), {}, ())
    sides = ("right kidney", "left kidney")
    merged = merge_classes({"abdomen": ABDOMEN}, ClassMap(unions={"kidney": sides}, leave_out=sides))
    assert merged.sets["abdomen"].values == {"1": ("spleen",), "2": ("kidney",), "3": ("kidney",), "4": ("liver",)}
    assert merged.complete["abdomen"] == ("spleen", "liver", "kidney")


def test_to_leave_a_lesion_out_does_not_settle_whether_it_is_of_the_organ() -> None:
    merged = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, ClassMap(leave_out=("liver tumour",)))
    assert merged.classes == ("spleen", "right kidney", "left kidney")
    assert merged.told[0] == "The label maps of lits teach nothing: all of their classes are in doubt or left out."
    assert merged.told[1].startswith(
        "liver is labelled by abdomen, and by lits beside liver tumour: with it or without?"
    )


def test_a_misspelt_part_settles_nothing_and_is_told() -> None:
    rules = ClassMap(regions={"liver": ("liver tumor",)}, unions={"kidney": ("right_kidney", "left kidney")})
    merged = merge_classes({"abdomen": ABDOMEN, "lits": LITS}, rules, "m.yaml")
    assert "liver" not in merged.classes
    assert merged.told[:2] == (
        "m.yaml names 'right_kidney', which no class here is called; did you mean 'right kidney'?",
        "m.yaml names 'liver tumor', which no class here is called; did you mean 'liver tumour'?",
    )
    assert merged.told[2].startswith(
        "liver is labelled by abdomen, and by lits beside liver tumour: with it or without?"
    )
    assert merged.regions == {}


def test_a_lesion_called_so_alone_may_lie_in_any_organ_of_its_set() -> None:
    """As in the Medical Segmentation Decathlon: liver and cancer, pancreas and cancer."""
    task03, task07 = {1: "liver", 2: "cancer"}, {1: "pancreas", 2: "cancer"}
    merged = merge_classes({"abdomen": ABDOMEN, "task03": task03}, ClassMap())
    assert merged.complete["task03"] == ("cancer",)
    assert merged.told[0].startswith("liver is labelled by abdomen, and by task03 beside cancer: with it or without?")
    placed = merge_classes({"abdomen": ABDOMEN, "task03": task03}, ClassMap(regions={"liver": ("cancer",)}))
    assert placed.sets["task03"].values == {"1": ("liver",), "2": ("cancer", "liver")}
    assert placed.told == ()
    both = merge_classes({"task03": task03, "task07": task07}, ClassMap())
    assert both.classes == ("liver", "pancreas")
    assert both.told == (
        "cancer is labelled by task03 and by task07, which label different organs: is it the same? Nobody learns "
        "cancer until the class map says `same: [cancer]`, or a name of its own under synonyms for task03/cancer.",
    )
    inside = merge_classes({"task03": task03, "task07": task07}, ClassMap(regions={"liver": ("cancer",)}))
    assert inside.sets["task03"].values == {"1": ("liver",), "2": ("liver",)}  # learned by nobody, and in the liver
    said = merge_classes({"task03": task03, "hcc": {1: "HCC"}}, ClassMap(synonyms={"cancer": ("HCC",)}))
    assert said.complete == {"task03": ("liver", "cancer"), "hcc": ("cancer",)}
    own = {"liver cancer": ("task03/cancer",), "pancreatic cancer": ("task07/cancer",)}
    named = merge_classes({"task03": task03, "task07": task07}, ClassMap(synonyms=own))
    assert named.complete == {"task03": ("liver", "liver cancer"), "task07": ("pancreas", "pancreatic cancer")}
    assert named.told == ()


def test_a_lesion_in_a_set_of_many_organs_is_asked_once() -> None:
    sets = {"abdomen": ABDOMEN, "painted": {**ABDOMEN, 9: "tumour"}}
    (told,) = (one for one in merge_classes(sets, ClassMap()).told if "beside" in one)
    assert told.startswith("spleen, right kidney, left kidney")
    placed = merge_classes(sets, ClassMap(regions={"liver": ("tumour",)}))
    assert placed.complete["painted"] == ("spleen", "right kidney", "left kidney", "liver", "tumour")


def test_a_whole_and_its_sides_stay_apart_until_a_union_joins_them() -> None:
    sets = {"abdomen": ABDOMEN, "kits": {1: "kidney"}}
    merged = merge_classes(sets, ClassMap())
    assert merged.complete["kits"] == ("kidney",)
    assert merged.told == (
        "kits labels kidney, and abdomen right kidney and left kidney: they are learned as classes of their own; "
        "`unions: {kidney: [right kidney, left kidney]}` in the class map learns kidney from both.",
    )
    joined = merge_classes(sets, ClassMap(unions={"kidney": ("left kidney", "right kidney")}))
    assert joined.complete["abdomen"] == ("spleen", "right kidney", "left kidney", "liver", "kidney")
    assert joined.sets["abdomen"].values["2"] == ("right kidney", "kidney")
    assert joined.complete["kits"] == ("kidney",)
    assert joined.regions == {"kidney": ("left kidney", "right kidney")}
    assert joined.told == ()


def test_a_union_needs_all_its_parts() -> None:
    merged = merge_classes({"a": {1: "left kidney"}}, ClassMap(unions={"kidney": ("left kidney", "right kidney")}))
    assert merged.classes == ("left kidney",)


def test_rules_reach_through_one_another() -> None:
    """A tumour of a kidney lies in the kidney, and with it in the urinary tract."""
    rules = ClassMap(regions={"kidney": ("kidney tumour",)}, unions={"urinary tract": ("kidney", "bladder")})
    merged = merge_classes({"a": {**KITS, 3: "bladder"}}, rules)
    assert set(merged.sets["a"].values["2"]) == {"kidney tumour", "kidney", "urinary tract"}
    assert merged.complete["a"] == ("kidney", "kidney tumour", "bladder", "urinary tract")
    assert set(merged.regions["urinary tract"]) == {"kidney", "kidney tumour", "bladder"}


def test_synonyms_join_names_and_alike_spellings_are_told() -> None:
    sets = {"a": {1: "kidney_left"}, "b": {7: "left kidney"}, "c": {2: "Left Kidney"}}
    assert merge_classes(sets, ClassMap()).told == (
        "kidney_left and left kidney and Left Kidney have the same words, and are learned as classes of their own; "
        "`synonyms: {kidney_left: [left kidney, Left Kidney]}` in the class map makes them one.",
    )
    merged = merge_classes(sets, ClassMap(synonyms={"left kidney": ("kidney_left", "Left Kidney")}, leave_out=()))
    assert merged.classes == ("left kidney",)
    assert [one.values for one in merged.sets.values()] == [{n: ("left kidney",)} for n in ("1", "7", "2")]
    assert merge_classes(sets, ClassMap(leave_out=("b/left kidney",))).complete["b"] == ()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("", UsageError, "m.yaml names nothing: a class map has names, synonyms, unions, regions, same, leave_out."),
        ("unios: {a: [b]}", UsageError, "m.yaml is no class map: 'unios' is not a key, did you mean unions?."),
        ("synonyms: {a: [x], b: [x]}", UsageError, "m.yaml makes 'x' both a and b."),
        ("regions: {a: [b], b: [a]}", UsageError, "m.yaml puts 'a' inside itself."),
        ("a: [", DataError, "m.yaml is not valid YAML: "),
    ],
)
def test_a_bad_map_is_one_sentence(tmp_path: Path, text: str, kind: type[Exception], said: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(kind) as caught:
        read_class_map(tmp_path / "m.yaml")
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(said)


def two_sites(root: Path) -> None:
    for site, labels in (("here", {"background": 0, "spleen": 1}), ("there", {"background": 0, "liver": 1})):
        for number in range(2):
            scan = numbers(start=100 * number + len(site))
            write_nifti(root / site / "imagesTr" / f"{site}{number}_0000.nii.gz", scan)
            write_nifti(root / site / "labelsTr" / f"{site}{number}.nii.gz", LABEL)
        (root / site / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "CT"}}))
    write_nifti(root / "more" / "nobody.nii.gz", numbers(start=7))


def test_an_index_of_two_sites_says_who_labels_what(tmp_path: Path) -> None:
    two_sites(tmp_path / "s")
    datalist = index(tmp_path / "s")
    assert datalist.classes == ("spleen", "liver")
    assert datalist.labels == {}  # value 1 has two names
    found = {entry.image.name: (entry.label_set, entry.labelled_classes) for _, entry in datalist.entries()}
    assert found == {
        **{f"here{n}_0000.nii.gz": ("here", ("spleen",)) for n in range(2)},
        **{f"there{n}_0000.nii.gz": ("there", ("liver",)) for n in range(2)},
        "nobody.nii.gz": (None, ()),
    }
    write_datalist(datalist, tmp_path / "data.json")
    assert read_datalist(tmp_path / "data.json") == datalist


def test_an_index_of_an_index_keeps_its_sets_and_takes_another_map(tmp_path: Path) -> None:
    two_sites(tmp_path / "s")
    write_datalist(index(tmp_path / "s"), tmp_path / "data.json")
    again = index(tmp_path / "data.json")
    assert sorted(again.label_sets) == ["here", "there"]
    assert again.classes == ("spleen", "liver")
    (tmp_path / "m.yaml").write_text("synonyms: {lien: spleen}")
    mapped = index(tmp_path / "data.json", options=replace(OPTIONS, class_map=tmp_path / "m.yaml"))
    assert mapped.classes == ("lien", "liver")


def test_names_of_a_set_that_has_none_come_from_the_map_or_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        write_nifti(tmp_path / "amos" / "imagesTr" / f"a{number}.nii.gz", numbers(start=number))
        write_nifti(tmp_path / "amos" / "labelsTr" / f"a{number}.nii.gz", LABEL)
    (tmp_path / "m.yaml").write_text("names: {amos: {1: spleen}}")
    mapped = index(tmp_path / "amos", options=replace(OPTIONS, class_map=tmp_path / "m.yaml"))
    assert mapped.classes == ("spleen",)
    assert {entry.labelled_classes for _, entry in mapped.entries()} == {("spleen",)}
    assert index(tmp_path / "amos").classes == ()
    (tmp_path / "odd.yaml").write_text("unions: {kidney: [left, right]}")
    with pytest.raises(UsageError) as caught:
        index(tmp_path / "amos", options=replace(OPTIONS, class_map=tmp_path / "odd.yaml"))
    assert caught.value.message == (f"{tmp_path}/odd.yaml names no class of these label maps (kidney, left, right).")


def test_scans_whose_classes_are_all_in_doubt_count_as_unlabelled(tmp_path: Path) -> None:
    """They are named, so that nobody asks for names; the others still teach."""
    for site, labels in (("a", {"liver": 1}), ("b", {"liver": 2, "liver tumour": 1})):
        for number in range(2):
            write_nifti(
                tmp_path / site / "imagesTr" / f"{site}{number}_0000.nii.gz", numbers(start=9 * number + ord(site))
            )
            write_nifti(tmp_path / site / "labelsTr" / f"{site}{number}.nii.gz", LABEL)
        about = {"labels": {"background": 0, **labels}, "channel_names": {"0": "CT"}}
        (tmp_path / site / "dataset.json").write_text(json.dumps(about))
    datalist = index(tmp_path)
    assert {entry.label_set: entry.labelled_classes for _, entry in datalist.entries()} == {
        "a": (),
        "b": ("liver tumour",),
    }
    known = labels_of(datalist, datalist.classes, "data.json")
    assert sorted(image.name for image in known) == ["b0_0000.nii.gz", "b1_0000.nii.gz"]


def test_names_beside_each_map_are_one_set_where_they_are_alike(tmp_path: Path) -> None:
    for name, values in (("a", {"1": "spleen"}), ("b", {"1": "spleen"}), ("c", {"1": "aorta"})):
        write_nifti(tmp_path / "ts" / f"{name}.nii.gz", numbers(start=ord(name)))
        write_nifti(tmp_path / "ts" / f"{name}_seg.nii.gz", LABEL)
        (tmp_path / "ts" / f"{name}_seg.json").write_text(json.dumps(values))
    found = {entry.image.name[0]: entry.label_set for _, entry in index(tmp_path / "ts").entries()}
    assert found == {"a": "ts", "b": "ts", "c": "ts (2)"}


def test_scans_say_which_data_set_they_come_from_where_there_are_several(tmp_path: Path) -> None:
    two_sites(tmp_path / "s")
    write_nifti(tmp_path / "s" / "more" / "somebody.nii.gz", numbers(start=8))
    write_nifti(tmp_path / "s" / "single" / "one.nii.gz", numbers(start=9))
    assert {entry.data_set for _, entry in index(tmp_path / "s").entries()} == {None}
    datalist = index(*(tmp_path / "s" / name for name in ("here", "there", "more", "single")))
    found = {entry.image.name[:5]: (entry.data_set, entry.set_name) for _, entry in datalist.entries()}
    assert found == {
        "here0": ("here", "here"),
        "here1": ("here", "here"),
        "there": ("there", "there"),
        "nobod": ("more", "more"),
        "someb": ("more", "more"),
        "one.n": (None, ""),
    }
    write_datalist(datalist, tmp_path / "data.json")
    again = index(tmp_path / "data.json")
    assert {entry.image.name[:5]: entry.data_set for _, entry in again.entries()} == {
        name: data_set for name, (data_set, _) in found.items()
    }
