"""The shipped presets and splits, against the facts of the public sets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from voco_cli.config import Settings, load_settings, task_names
from voco_cli.data.index.datalist import SPLITS
from voco_cli.tasks.splits import draw_split, read_split, split_names
from voco_cli.tasks.targets import index_table

# Training, validation and test cases of the public splits; classes; what the network gives out.
FACTS = {
    "amos": ((200, 100, 200), 15, 16),
    "brats21": ((1000, 251, 0), 3, 4),
    "btcv": ((24, 6, 20), 13, 14),
    "cc_ccii": ((2514, 1259, 405), 3, 3),
    "flare22": ((40, 10, 200), 13, 14),
    "kits23": ((391, 98, 0), 3, 4),
    "lits": ((108, 23, 70), 2, 3),
    "mmwhs": ((16, 4, 0), 7, 8),
    "msd_hippocampus": ((208, 52, 130), 2, 3),
    "msd_liver_tumour": ((108, 23, 70), 2, 3),
    "msd_pancreas_tumour": ((257, 24, 139), 2, 3),
    "msd_spleen": ((32, 9, 20), 1, 2),
    "word": ((100, 20, 30), 16, 17),
}
# Epochs, batch and share of warm-up that the authors' settings give: steps are epochs x volumes / batch.
SCHEDULES = {
    "amos": (1000, 1, 50 / 1000),
    "brats21": (100, 1, 5 / 100),
    "btcv": (1000, 1, 20 / 1000),
    "cc_ccii": (100, 4, 5 / 100),
    "flare22": (1000, 1, 100 / 1000),
    "kits23": (500, 1, 5 / 500),
    "lits": (500, 1, 5 / 500),
    "mmwhs": (500, 1, 50 / 500),
    "msd_liver_tumour": (500, 1, 5 / 500),
    "msd_pancreas_tumour": (500, 1, 5 / 500),
    "msd_spleen": (500, 1, 5 / 500),
    "word": (200, 1, 5 / 200),
}


def preset(name: str) -> Settings:
    return load_settings(task=name).settings


def test_all_tasks_of_the_issue_are_there() -> None:
    assert task_names() == sorted(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_cases_classes_and_outputs(name: str) -> None:
    cases, classes, outputs = FACTS[name]
    task = preset(name).task
    split = read_split(task.split or "", task.fold)
    assert tuple(len(split.cases[part]) for part in SPLITS) == cases
    assert (task.name, len(task.classes), task.num_outputs) == (name, classes, outputs)
    assert task.title
    assert task.source
    assert task.notes
    assert split.public


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_counted_in_steps(name: str) -> None:
    epochs, batch, warmup = SCHEDULES[name]
    train = preset(name).train
    assert train.steps == epochs * FACTS[name][0][0] // batch
    assert train.batch_size == batch
    assert train.warmup_share == pytest.approx(warmup)
    assert train.validate_every == train.checkpoint_every
    assert not train.amsgrad


@pytest.mark.parametrize("name", split_names())
def test_no_case_and_no_patient_in_two_splits(name: str) -> None:
    for fold in range(read_split(name).folds or 1):
        split = read_split(name, fold)
        cases = [case for part in SPLITS for case in split.cases[part]]
        assert max(Counter(cases).values()) == 1
        parts: dict[str, set[str]] = {}
        for part in SPLITS:
            for case in split.cases[part]:
                parts.setdefault(split.patients.get(case, case), set()).add(part)
        assert {len(found) for found in parts.values()} == {1}


def test_btcv_has_its_two_splits() -> None:
    usual, other = read_split("btcv"), read_split("btcv_1")
    assert usual.cases["validation"] == ("0035", "0036", "0037", "0038", "0039", "0040")
    assert set(other.cases["validation"]) == {"0032", "0034", "0036", "0037", "0039", "0040"}
    labelled = [f"{n:04d}" for n in (*range(1, 11), *range(21, 41))]
    for split in (usual, other):
        assert sorted((*split.cases["training"], *split.cases["validation"])) == labelled
        assert split.cases["test"] == tuple(f"{n:04d}" for n in range(61, 81))
        assert not split.test_labelled


def test_lits_is_the_131_scans_of_the_decathlon() -> None:
    split = read_split("lits")
    numbers = sorted(int(case) for case in (*split.cases["training"], *split.cases["validation"]))
    assert numbers == list(range(131))
    assert len(split.cases["test"]) == 70


def test_brats_has_five_folds_of_1251() -> None:
    folds = [read_split("brats21", fold) for fold in range(5)]
    assert [len(fold.cases["validation"]) for fold in folds] == [251, 250, 250, 250, 250]
    assert len({case for fold in folds for case in fold.cases["validation"]}) == 1251
    assert all(len(fold.cases["training"]) + len(fold.cases["validation"]) == 1251 for fold in folds)


def test_cc_ccii_tests_what_stood_in_every_validation_list() -> None:
    folds = [read_split("cc_ccii", fold) for fold in range(3)]
    assert [len(fold.cases["training"]) for fold in folds] == [2514, 2515, 2517]
    # As released each validation list held the test scans too: 1664, 1663, 1661.
    assert [len(fold.cases["validation"]) + 405 for fold in folds] == [1664, 1663, 1661]
    assert {fold.cases["test"] for fold in folds} == {folds[0].cases["test"]}
    assert len(folds[0].patients) == 4178
    assert len(set(folds[0].patients.values())) == 2742
    assert len({folds[0].patients[case] for case in folds[0].cases["test"]}) == 189
    assert Counter(folds[0].categories[case] for case in folds[0].cases["test"]) == {
        "CP": 150,
        "NCP": 150,
        "Normal": 105,
    }
    assert set(folds[0].categories.values()) == {one.name for one in preset("cc_ccii").task.classes}


def test_mmwhs_goes_by_the_values_of_the_files() -> None:
    task = preset("mmwhs").task
    by_value = {value: one.name for one in task.classes for value in one.values}
    assert by_value == {
        500: "left ventricle",
        600: "right ventricle",
        420: "left atrium",
        421: "left atrium",
        550: "right atrium",
        205: "myocardium of the left ventricle",
        820: "ascending aorta",
        850: "pulmonary artery",
    }
    indices = index_table(task.classes)
    assert indices[420] == indices[421] == 3
    assert [one.values[0] for one in task.classes] == [500, 600, 420, 550, 205, 820, 850]


def test_brats_regions_are_unions_of_the_raw_values() -> None:
    task = preset("brats21").task
    values = {one.name: set(one.values) for one in task.classes}
    regions = {one.name: set().union(*(values[name] for name in one.classes)) for one in task.regions}
    assert regions == {"TC": {1, 4}, "WT": {1, 2, 4}, "ET": {4}}
    assert index_table(task.classes)[np.array([0, 1, 2, 4])].tolist() == [0, 1, 2, 3]
    assert task.channels == ("flair", "t1ce", "t1", "t2")
    assert all(
        [image.rsplit("_", 1)[1] for image in one.image] == [f"{c}.nii.gz" for c in task.channels]
        for one in task.layouts
    )
    assert preset("brats21").evaluate.empty == "brats"


def test_windows_spacings_and_patches_are_those_of_the_authors() -> None:
    tumours = ("lits", "msd_liver_tumour", "msd_pancreas_tumour", "kits23")
    for name in ("btcv", *tumours, "msd_spleen", "amos", "flare22", "word"):
        settings = preset(name)
        assert settings.preprocess.window_hu == (-175, 250)
        assert settings.preprocess.spacing_mm == (1.5, 1.5, 1.5)
        assert settings.task.patch_size == (96, 96, 96)
        assert (settings.model.backbone, settings.model.feature_size) == ("swinunetr", 48)
    heart = preset("mmwhs")
    assert (heart.preprocess.window_hu, heart.task.patch_size) == ((0, 1700), (64, 64, 64))
    assert preset("brats21").task.patch_size == (128, 128, 128)
    assert preset("word").task.split == "word"
    assert read_split("word").test_labelled  # the only segmentation set here whose test labels are public


def test_the_hippocampus_has_the_size_of_a_cpu() -> None:
    settings = preset("msd_hippocampus")
    assert (settings.model.backbone, settings.model.levels, settings.model.feature_size) == ("unet", 4, 16)
    assert settings.task.patch_size == (40, 56, 40)


def test_kits23_has_the_classes_and_regions_of_the_challenge_and_a_split_of_its_labelled_cases() -> None:
    task = preset("kits23").task
    assert {one.name: one.values for one in task.classes} == {"kidney": (1,), "tumour": (2,), "cyst": (3,)}
    regions = {one.name: set(one.classes) for one in task.regions}
    assert regions == {"kidney and masses": {"kidney", "tumour", "cyst"}, "masses": {"tumour", "cyst"}}
    cases = [f"case_{n:05d}" for n in (*range(300), *range(400, 589))]
    split = read_split("kits23").cases
    assert sorted((*split["training"], *split["validation"])) == cases
    drawn = draw_split(cases, task)
    assert set(split["validation"]) == {case for case, part in drawn.items() if part == "validation"}


def test_presets_of_tumours_paint_them_and_lits_names_what_it_could_paint() -> None:
    for name, organ in (("msd_liver_tumour", "liver"), ("msd_pancreas_tumour", "pancreas"), ("kits23", "kidney")):
        tumours = preset(name).task.tumours
        assert (tumours.share, tumours.organs, tumours.lesion) == (0.9, (organ,), "tumour")
    assert preset("lits").task.tumours.share == 0
    asked = load_settings(None, None, ("task.tumours.share=0.9",), task="lits").settings.task.tumours
    assert (asked.share, asked.organs, asked.lesion) == (0.9, ("liver",), "tumour")
    assert preset("msd_liver_tumour").task.tumours.healthy_only
