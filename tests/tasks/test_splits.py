"""Splits from files and splits that are drawn."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry, position
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named
from voco_cli.tasks.splits import draw_split, read_split, subset

PEOPLE = [f"p{n:03d}" for n in range(60)]


def write(path: Path, **content: Any) -> str:
    path.write_text(json.dumps({"format": "voco-split/1", **content}))
    return str(path)


def refusal(name: str, fold: int = 0) -> str:
    with pytest.raises(UsageError) as caught:
        read_split(name, fold)
    return caught.value.message


def test_a_file_of_lists(tmp_path: Path) -> None:
    name = write(tmp_path / "s.json", training=["a", "b"], validation=["c"], test=["d"], patients={"b": "a"})
    split = read_split(name)
    assert split.cases == {"training": ("a", "b"), "validation": ("c",), "test": ("d",)}
    assert split.patients == {"b": "a"}
    assert not split.public
    assert split.test_labelled


def test_a_file_of_folds_with_categories_and_a_pattern(tmp_path: Path) -> None:
    name = write(
        tmp_path / "s.json",
        folds=[{"sick": ["p1-s1"], "well": ["p2-s1"]}, {"sick": ["p3-s1", "p3-s2"]}, {"well": ["p4-s1"]}],
        patient_pattern="p\\d+",
    )
    split = read_split(name, 1)
    assert split.cases == {"training": ("p1-s1", "p2-s1", "p4-s1"), "validation": ("p3-s1", "p3-s2"), "test": ()}
    assert split.patients["p3-s2"] == "p3"
    assert split.categories == {"p1-s1": "sick", "p2-s1": "well", "p3-s1": "sick", "p3-s2": "sick", "p4-s1": "well"}
    assert split.words.endswith("s.json, fold 1 of 3 validates")
    assert "folds 0 to 2, and task.fold is 3" in refusal(name, 3)


def test_what_is_no_split_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    assert "no split" in refusal("btvc")
    assert "cannot be read: No such file" in refusal(str(path))
    path.write_text("{")
    assert "not valid JSON" in refusal(str(path))
    path.write_text("[]")
    assert "does not say format 'voco-split/1'" in refusal(str(path))
    assert "tset: Extra inputs" in refusal(write(path, training=["a"], validation=["b"], tset=["c"]))
    assert "lists 1 cases more than once: a" in refusal(write(path, training=["a"], validation=["a"]))
    assert "has no folds, and task.fold is 2" in refusal(write(path, training=["a"]), 2)
    assert "folds beside training" in refusal(write(path, training=["a"], folds=[["b"]]))
    assert "no regular expression" in refusal(write(path, training=["a"], patient_pattern="("))


@pytest.mark.parametrize("case", ["../a", "/etc/passwd", "a/b", "..", ".", ".hidden", "._a", "a\\b", ""])
def test_a_case_never_leaves_the_data_folder(case: str, tmp_path: Path) -> None:
    assert "is no name of a case" in refusal(write(tmp_path / "s.json", training=[case]))
    assert "is no name of a case" in refusal(write(tmp_path / "s.json", folds=[{"x": [case]}]))


def test_a_drawn_split_is_the_order_of_the_hash() -> None:
    drawn = draw_split(PEOPLE, Task(test_patients=5, validation_patients=0.2, split_seed=3))
    ordered = sorted(PEOPLE, key=lambda who: position(3, who))
    assert {who for who in PEOPLE if drawn[who] == "test"} == set(ordered[:5])
    assert {who for who in PEOPLE if drawn[who] == "validation"} == set(ordered[5:16])  # a fifth of the other 55
    assert [drawn[who] for who in ordered[16:]] == ["training"] * 44


def test_a_drawn_split_depends_on_the_seed_and_not_on_the_order() -> None:
    task = Task(validation_patients=10)
    assert draw_split(PEOPLE, task) == draw_split(reversed([*PEOPLE, *PEOPLE]), task)
    assert draw_split(PEOPLE, task) != draw_split(PEOPLE, task.model_copy(update={"split_seed": 1}))


def test_growth_moves_only_those_at_the_border() -> None:
    task = Task(validation_patients=0.2, test_patients=0.1)
    before, after = draw_split(PEOPLE, task), draw_split([*PEOPLE, "new"], task)
    assert sum(before[who] != after[who] for who in PEOPLE) <= 2


def test_a_share_takes_at_least_one_and_someone_must_train() -> None:
    few = draw_split(["a", "b", "c"], Task(validation_patients=0.1))
    assert sorted(few.values()) == ["training", "training", "validation"]
    with pytest.raises(UsageError, match="1 patients to test and 2 to validate leave nobody of 3"):
        draw_split(["a", "b", "c"], Task(validation_patients=2, test_patients=1))


def sick_and_well(sick: int, well: int) -> dict[str, str]:
    return {**{f"s{n:02d}": "sick" for n in range(sick)}, **{f"w{n:02d}": "well" for n in range(well)}}


def held_out(category: dict[str, str], task: Task) -> dict[str, list[str]]:
    """Patients of each split, those of a category in the order of the hash."""
    drawn = draw_split(category, task, category.items())
    ordered = sorted(category, key=lambda who: (category[who], position(task.split_seed, who)))
    return {split: [who for who in ordered if drawn[who] == split] for split in ("test", "validation", "training")}


def test_each_category_has_its_share_and_the_first_of_it() -> None:
    """Of 5 sick and 15 well 4 are tested: one each, then 15/3 > 5/3 and 15/5 > 5/3. Of 4 and 12 left, 4 validate."""
    category = sick_and_well(5, 15)
    split = held_out(category, Task(test_patients=4, validation_patients=4, split_seed=2))
    sick, well = (
        sorted((w for w in category if category[w] == kind), key=lambda w: position(2, w)) for kind in ("sick", "well")
    )
    assert split["test"] == [sick[0], *well[:3]]
    assert split["validation"] == [sick[1], *well[3:6]]
    assert split["training"] == [*sick[2:], *well[6:]]


@pytest.mark.parametrize("seed", range(10))
def test_a_small_test_set_has_both_categories(seed: int) -> None:
    category = sick_and_well(3, 30)
    split = held_out(category, Task(test_patients=2, validation_patients=2, split_seed=seed))
    for name in ("test", "validation", "training"):
        assert {category[who] for who in split[name]} == {"sick", "well"}
    assert [len(split[name]) for name in ("test", "validation")] == [2, 2]


def test_the_last_of_a_category_trains_while_others_can_be_held_out() -> None:
    category = sick_and_well(1, 9)
    split = held_out(category, Task(test_patients=4, validation_patients=4))
    assert [category[who] for who in split["training"]] == ["sick", "well"]
    with_none = draw_split(["a", "b"], Task(test_patients=0, validation_patients=1), [("a", "sick"), ("b", "well")])
    assert sorted(with_none.values()) == ["training", "validation"]


def test_a_patient_of_two_categories_stays_whole() -> None:
    scans = [("p0", "well"), ("p0", "sick"), ("p1", "well"), ("p2", "well"), ("p3", "sick"), ("p4", "sick")]
    drawn = draw_split((who for who, _ in scans), Task(test_patients=2, validation_patients=1), scans)
    assert sorted(Counter(drawn.values()).items()) == [("test", 2), ("training", 2), ("validation", 1)]
    assert drawn["p0"] == "training"  # the only one of its kind
    assert draw_split((who for who, _ in scans), Task(test_patients=2, validation_patients=1), scans[::-1]) == drawn


def test_growth_of_a_category_moves_few() -> None:
    for size in range(12, 72):
        category = sick_and_well(size // 4, size)
        task = Task(validation_patients=0.2, test_patients=0.2, split_seed=size)
        before = draw_split(category, task, category.items())
        for new in ("sick", "well"):
            grown = {**category, "new": new}
            after = draw_split(grown, task, grown.items())
            assert sum(before[who] != after[who] for who in category) <= 4  # two borders of two categories


def test_names_are_shortened() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named("abcdefgh", 3) == "a, b, c and 5 more"


# Patient n has one scan, and every fifth has three.
SCANS = [
    Entry(image=Path(f"p{n:02d}_{scan}.nii.gz"), patient=f"p{n:02d}")
    for n in range(25)
    for scan in range(3 if n % 5 == 0 else 1)
]


def taken(**how: float) -> set[Path]:
    return {entry.image for entry in subset(SCANS, Task.model_validate(how), seed=4)}


def test_all_by_default_and_in_order() -> None:
    assert subset(SCANS, Task(), 0) == tuple(SCANS)
    half = subset(SCANS, Task(fraction=0.5), 0)
    assert list(half) == [entry for entry in SCANS if entry in half]


def test_smaller_is_part_of_larger_however_it_is_asked() -> None:
    sizes = [taken(cases=n) for n in range(1, 36)]
    assert all(small <= large for small, large in pairwise(sizes))
    shares = [taken(fraction=n / 20) for n in range(1, 21)]
    assert all(small <= large for small, large in pairwise(shares))
    assert taken(cases=3) <= taken(fraction=0.5) or taken(fraction=0.5) <= taken(cases=3)


def test_patients_are_whole_and_the_number_is_reached() -> None:
    for wanted in range(1, 36):
        found = taken(cases=wanted)
        assert wanted <= len(found) <= wanted + 2
        for entry in SCANS:
            beside = {other.image for other in SCANS if other.patient == entry.patient}
            assert beside <= found or not beside & found


def test_a_fraction_is_one_of_patients() -> None:
    patients = {entry.patient for entry in subset(SCANS, Task(fraction=0.2), 1)}
    assert len(patients) == 5
    assert len(subset(SCANS, Task(fraction=0.001), 1)) in (1, 3)  # at least one patient


def test_seeds_draw_differently() -> None:
    assert len({frozenset(e.patient for e in subset(SCANS, Task(fraction=0.2), seed)) for seed in range(10)}) > 5


def test_categories_come_in_their_shares() -> None:
    scans = [Entry(image=Path(f"{n}.nii.gz"), patient=str(n), category="sick" if n < 20 else "well") for n in range(60)]
    for count in (6, 12, 30):
        found = Counter(entry.category for entry in subset(scans, Task(cases=count), seed=0))
        assert found == {"sick": count // 3, "well": count - count // 3}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match=r"task\.cases is 36, and there are 35 cases to train on"):
        subset(SCANS, Task(cases=36), 0)
