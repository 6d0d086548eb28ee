import json
from pathlib import Path
from typing import Any

import pytest

from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.segmentation.classes import (
    all_structures,
    classes_beside,
    parse_regions,
    read_classes,
    require_same_values,
)
from voco_cli.evaluate.segmentation.metrics import Structure

BOTH = (Structure("liver", (1,)), Structure("spleen", (2,)))


def written(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "liver", "2": "spleen"},
        {"background": 0, "spleen": 2, "liver": 1, "ignore": 3},
        {"1": "liver", "2": "spleen"},
    ],
)
def test_decathlon_and_nnunet_files(tmp_path: Path, labels: dict[str, Any]) -> None:
    assert read_classes(written(tmp_path / "dataset.json", {"labels": labels})).structures == BOTH


def test_regions_of_nnunet(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    found = read_classes(written(tmp_path / "dataset.json", {"labels": labels})).structures
    assert found == (
        Structure("enhancing", (3,)),
        Structure("whole", (1, 2, 3), True),
        Structure("core", (2, 3), True),
    )


def test_yaml_and_flags(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("name: x\nlabels:\n  0: background\n  1: liver\n  2: spleen\n")
    assert read_classes(str(tmp_path / "task.yaml")).structures == BOTH
    assert read_classes("liver=1,spleen=2").structures == BOTH
    assert parse_regions(["both = 2,1"]) == (Structure("both", (1, 2), True),)
    assert all_structures(BOTH, parse_regions(["both=1,2"]))[-1].is_region


def test_patients_of_a_datalist(tmp_path: Path) -> None:
    entry = {"image": "imagesTr/a_1_0000.nii.gz", "label": "labelsTr/a_1.nii.gz", "patient": "a"}
    found = read_classes(written(tmp_path / "data.json", {"labels": {"1": "liver"}, "validation": [entry]}))
    assert found.patients["a_1"] == "a"


def test_beside_the_labels_else_among_the_predictions(tmp_path: Path) -> None:
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "predictions").mkdir()
    assert classes_beside(tmp_path / "labelsTr", tmp_path / "predictions") is None
    written(tmp_path / "predictions" / "labels.json", {"labels": {"3": "heart"}, "run": "runs/finetune"})
    predicted = classes_beside(tmp_path / "labelsTr", tmp_path / "predictions")
    assert predicted is not None
    assert predicted.structures == (Structure("heart", (3,)),)
    written(tmp_path / "dataset.json", {"labels": {"1": "liver", "2": "spleen"}})
    found = classes_beside(tmp_path / "labelsTr", tmp_path / "predictions")
    assert found is not None
    assert found.structures == BOTH


def test_a_name_with_another_value_is_refused_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    """A prediction of a run over several label sets numbers the union of their classes."""
    union = written(tmp_path / "labels.json", {"labels": {"1": "Liver", "2": "heart", "3": "spleen", "both": [1, 3]}})
    require_same_values([("liver", (1,)), ("lung", (2,)), ("spleen", (3, 4))], "--classes", [Path(union)])
    with pytest.raises(DataError) as refused:
        require_same_values([("liver", (1,)), ("spleen", (2,))], "dataset.json", [tmp_path / "none.json", Path(union)])
    assert refused.value.message == (
        f"{union} gives 'spleen' the value 3, and dataset.json 2, so label maps of the two cannot be compared."
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"1": "liver", "2": "liver"}, "has liver more than once"),
        ({"liver": 1, "spleen": 1}, "has label 1 more than once"),
        ({"liver": "one"}, "names no label"),
        ({"liver": [0, 1]}, "counts the background"),
        ({}, "has no labels"),
        (None, "has no labels"),
    ],
)
def test_wrong_files(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_classes(written(tmp_path / "dataset.json", {"labels": labels}))


def test_wrong_flags(tmp_path: Path) -> None:
    for given in ("whole", "whole=", "=1", "whole=0,1", "whole=a"):
        with pytest.raises(UsageError, match="no name with labels"):
            parse_regions([given])
    with pytest.raises(UsageError, match="more than once"):
        all_structures(BOTH, parse_regions(["liver=1,2"]))
    with pytest.raises(DataError, match="cannot be read"):
        read_classes(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="neither JSON nor YAML"):
        read_classes(str(tmp_path / "bad.json"))


def test_a_file_of_classes_that_is_not_there() -> None:
    with pytest.raises(DataError) as caught:
        read_classes("gone.json")
    assert caught.value.message == "gone.json cannot be read for class names: No such file or directory."
    with pytest.raises(UsageError) as wrong:
        read_classes("liver")
    assert wrong.value.message == "--classes liver is neither a file nor a list of names with labels."


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        ({"background": 0, "spleen": 2, "liver": 1, "ignore": 3}, 3),
        ({"0": "background", "1": "liver", "2": "spleen", "3": "Ignore"}, 3),
        ({"1": "liver", "2": "spleen"}, None),
    ],
)
def test_the_label_of_what_nobody_annotated(tmp_path: Path, labels: dict[str, Any], value: int | None) -> None:
    found = read_classes(written(tmp_path / "dataset.json", {"labels": labels}))
    assert (found.structures, found.ignore) == (BOTH, value)
    assert read_classes("liver=1,spleen=2,ignore=9").ignore == 9
    assert read_classes("liver=1,spleen=2,ignore=9").structures == BOTH


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"liver": 1, "ignore": [2, 3]}, "ignore, which is not one label above 0"),
        ({"liver": 1, "ignore": 0}, "ignore, which is not one label above 0"),
        ({"liver": 1, "whole": [1, 3], "ignore": 3}, "ignore, which is a part of whole"),
    ],
)
def test_an_ignored_label_that_cannot_be(tmp_path: Path, labels: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_classes(written(tmp_path / "dataset.json", {"labels": labels}))
