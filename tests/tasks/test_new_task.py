"""A task file read off one's own scans, and what it then says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from voco_cli.config import Settings, load_settings
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.errors import DataError, UsageError
from voco_cli.tasks.find_data import find_task_data
from voco_cli.tasks.new_task import source_of_list, source_of_table, task_file
from voco_cli.tasks.template import CaseFacts, Network, classes_of, guess_modality, make_template

HIPPOCAMPUS = Path(__file__).resolve().parents[4] / "shared" / "data" / "hippocampus"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOCO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def phantoms(folder: Path, count: int = 5, **more: object) -> Path:
    """A Decathlon list of generated CTs whose labels 1 to 13 have some names."""
    write_cts(folder, count, seed=1, shape_xyz=(48, 40, 16), labelled=True)
    images = sorted((folder / "imagesTr").iterdir())
    items = [
        {"image": f"imagesTr/{one.name}", "label": f"labelsTr/{one.name.replace('_0000.', '.')}"} for one in images
    ]
    labels = {"0": "background", "1": "spleen", "2": "kidney", "3": "kidney", "6": "liver"}
    content = {"name": "x", "modality": {"0": "CT"}, "labels": labels, "training": items, **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder / "dataset.json"


def text_of_list(path: Path, output: str = "my.yaml", backbone: str = "unet", modality: str | None = None) -> str:
    return task_file(source_of_list(path, modality), Path(output), backbone, lambda n: None, 1)


def written(path: Path, output: str = "my.yaml", backbone: str = "unet") -> Settings:
    Path(output).write_text(text_of_list(path, output, backbone))
    return load_settings(task=output).settings


def facts(shape: tuple[int, int, int], spacing: tuple[float, float, float], inside: object = (0.0,)) -> CaseFacts:
    return CaseFacts(shape, spacing, -1000.0, np.asarray(inside, np.float32), (1,))


def test_a_list_of_ct_makes_a_task_that_finds_its_data(tmp_path: Path) -> None:
    settings = written(phantoms(tmp_path / "d"))
    classes = {one.name: one.values for one in settings.task.classes}
    assert classes["spleen"] == (1,)
    assert classes["kidney"] == (2, 3)  # values of one name are one class
    assert classes["label 8"] == (8,)
    assert settings.preprocess.intensity == "window"
    low, high = settings.preprocess.window_hu
    assert -1000 <= low < 0 < high < 1000
    assert settings.preprocess.spacing_mm is None  # all are alike: 360/48 mm, 280/40, 320/16
    assert settings.task.patch_size == (48, 40, 16)
    data = find_task_data(settings)
    assert (len(data.datalist.training), len(data.datalist.validation)) == (4, 1)
    assert not Path(load_raw("my.yaml")["data"]["file"]).is_absolute()


def load_raw(name: str) -> dict[str, dict[str, str]]:
    import yaml

    raw: dict[str, dict[str, str]] = yaml.safe_load(Path(name).read_text())
    return raw


def test_the_file_may_lie_elsewhere_than_one_stands(tmp_path: Path) -> None:
    path = phantoms(tmp_path / "d")
    (tmp_path / "tasks").mkdir()
    written(path, "tasks/my.yaml")
    os.chdir("/")
    settings = load_settings(task=str(tmp_path / "tasks/my.yaml")).settings
    assert settings.data.file == path or settings.data.file.resolve() == path  # type: ignore[union-attr]


def test_a_swinunetr_gets_multiples_of_32(tmp_path: Path) -> None:
    settings = written(phantoms(tmp_path / "d"), backbone="swinunetr")
    assert settings.model.feature_size == 48
    assert settings.task.patch_size == (64, 64, 32)


def test_a_list_with_validation_keeps_it(tmp_path: Path) -> None:
    path = phantoms(tmp_path / "d")
    raw = json.loads(path.read_text())
    raw["validation"], raw["training"] = raw["training"][:2], raw["training"][2:]
    path.write_text(json.dumps(raw))
    settings = written(path)
    assert settings.task.split is None
    assert len(find_task_data(settings).datalist.validation) == 2


def test_one_patient_cannot_be_split(tmp_path: Path) -> None:
    settings = written(phantoms(tmp_path / "d", 1))
    assert (settings.task.split, settings.task.choose) == (None, "last")
    assert len(find_task_data(settings).datalist.training) == 1


def test_spacing_is_the_median_along_the_patients_axes() -> None:
    spacings = [(0.7, 0.7, 5.0), (0.8, 0.8, 2.5), (0.9, 0.9, 2.5)]
    plan = make_template([facts((400, 400, 80), one) for one in spacings], {"a": (1,)}, "CT", "swinunetr")
    assert plan.spacing_mm == (0.8, 0.8, 2.5)
    assert plan.spacings == ((0.7, 0.9), (0.7, 0.9), (2.5, 5.0))
    assert plan.common_shape == (400, 400, 80)  # medians of 350, 400, 450 and of 160, 80, 80
    assert plan.size == (96, 96, 96)


def test_the_window_is_rounded_outwards_and_never_too_narrow() -> None:
    inside = np.linspace(-103, 203, 10_001)
    plan = make_template([facts((64, 64, 64), (1, 1, 1), inside)], {"a": (1,)}, "CT", "unet")
    assert plan.window_hu == (-110, 210)  # percentiles 0.5 and 99.5 are -101.5 and 201.5
    narrow = make_template([facts((64, 64, 64), (1, 1, 1), [40.0, 41.0, 42.0])], {"a": (1,)}, "CT", "unet")
    assert narrow.window_hu == (-5, 95)  # 40 to 50, widened to a hundred
    assert make_template([facts((64, 64, 64), (1, 1, 1))], {"a": (1,)}, "MR", "unet").window_hu is None


def test_patches_of_small_volumes() -> None:
    plan = make_template([facts((35, 51, 36), (1, 1, 1))], {"a": (1,)}, "MR", "unet", training=92)
    assert (plan.size, plan.network) == ((40, 56, 40), Network("unet", 16, 4))
    assert plan.steps == 4600  # 100 passes of 92 scans, two a step
    assert make_template([facts((20, 20, 20), (1, 1, 1))], {"a": (1,)}, "MR", "swinunetr").size == (64, 64, 32)


def test_patches_are_no_larger_than_scans_whose_spacing_has_many_digits() -> None:
    # 360/64, 280/64 and 320/24 mm, as a NIfTI header holds them: 5.625, 4.375, 13.333333
    spacing = (5.625, float(np.float32(4.4)), float(np.float32(320 / 24)))
    one = facts((64, 64, 24), spacing)
    assert make_template([one] * 3, {"x": (1,)}, "MR", "unet").size == (64, 64, 24)


def test_sides_are_seen_in_names() -> None:
    one = [facts((64, 64, 64), (1, 1, 1))]
    assert make_template(one, {"left kidney": (1,)}, "CT", "unet").mixed_sides
    assert make_template(one, {"lung_r": (1,)}, "CT", "unet").mixed_sides
    assert not make_template(one, {"liver": (1,), "bright spot": (2,)}, "CT", "unet").mixed_sides


def test_modality_is_known_or_read_off_the_air() -> None:
    ct, mr = facts((9, 9, 9), (1, 1, 1)), CaseFacts((9, 9, 9), (1, 1, 1), 0.0, np.zeros(1, np.float32))
    assert guess_modality([ct], "unknown") == "CT"
    assert guess_modality([mr, mr, ct], "mixed") == "MR"
    assert guess_modality([ct], "MR") == "MR"


def test_background_alone_is_nothing_to_learn() -> None:
    with pytest.raises(UsageError, match="nothing but background"):
        classes_of([CaseFacts((9, 9, 9), (1, 1, 1), 0.0, np.zeros(1, np.float32))], {})


def test_faults_of_the_data_are_named(tmp_path: Path) -> None:
    path = phantoms(tmp_path / "d", 2)
    raw = json.loads(path.read_text())
    raw["training"][0]["label"] = raw["training"][0]["image"]
    path.write_text(json.dumps(raw))
    with pytest.raises(
        DataError, match=r"1 of 2 scans cannot be used: .* and labels are whole numbers from 0 to 65535"
    ):
        written(path)
    for one in raw["training"]:
        del one["label"]
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="names no label map"):
        written(path)


def test_a_table_and_a_folder(tmp_path: Path) -> None:
    write_cts(tmp_path / "d", 6, seed=2, shape_xyz=(48, 40, 16))
    cases = [path.name.removesuffix("_0000.nii.gz") for path in sorted((tmp_path / "d/imagesTr").iterdir())]
    Path("t.csv").write_text(
        "case,label\n" + "".join(f"{case},{'sick' if i % 2 else 'well'}\n" for i, case in enumerate(cases))
    )
    source = source_of_table(Path("t.csv"), Path("d/imagesTr"))
    text = task_file(source, Path("my.yaml"), "unet", lambda n: None, 1)
    Path("my.yaml").write_text(text)
    settings = load_settings(task="my.yaml").settings
    assert settings.task.kind == "classification"
    assert {one.name: one.values for one in settings.task.classes} == {"sick": (0,), "well": (1,)}
    assert settings.preprocess.resize_vox == (48, 40, 16)
    data = find_task_data(settings).datalist
    assert (len(data.training), len(data.validation)) == (5, 1)
    with pytest.raises(UsageError, match="holds no scan of the 6 cases"):
        source_of_table(Path("t.csv"), Path("d"))
    Path("t.csv").write_text("case,label\na,1\nb,\nc\n")
    with pytest.raises(UsageError, match=r"t\.csv has no label for b, c\."):
        source_of_table(Path("t.csv"), Path("d"))


def test_real_volumes_give_the_known_sizes() -> None:
    if not HIPPOCAMPUS.is_dir():
        pytest.skip("the hippocampus volumes are not here")
    settings = written(HIPPOCAMPUS / "dataset.json")
    assert {one.name: one.values for one in settings.task.classes} == {"Anterior": (1,), "Posterior": (2,)}
    assert settings.preprocess.intensity == "percentiles"
    assert settings.preprocess.spacing_mm is None
    assert settings.task.patch_size == (40, 56, 40)
    data = find_task_data(settings).datalist
    assert (len(data.training), len(data.validation), len(data.test)) == (85, 21, 26)


def two_channels(folder: Path, cases: int = 4) -> Path:
    """A list as voco index writes it of nnU-Net's raw data: each channel a scan with the label map of its case."""
    write_cts(folder, 2 * cases, seed=1, shape_xyz=(48, 40, 16), labelled=True)
    images = sorted((folder / "imagesTr").iterdir())
    items = []
    for number, image in enumerate(images):
        moved = image.rename(folder / "imagesTr" / f"pros_{number // 2:02d}_{number % 2:04d}.nii.gz")
        label = folder / "labelsTr" / f"pros_{number // 2:02d}.nii.gz"
        (folder / "labelsTr" / image.name.replace("_0000.", ".")).rename(label)
        items.append({"image": str(moved), "label": str(label), "patient": f"pros_{number // 2:02d}"})
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T2", "1": "ADC"}, "labels": {}}))
    (folder / "list.json").write_text(json.dumps({"modality": "MRI", "training": items[:-2], "validation": items[-2:]}))
    return folder / "list.json"


def test_channels_of_a_case_make_a_task_of_as_many(tmp_path: Path) -> None:
    settings = written(two_channels(tmp_path / "d"))
    assert settings.task.channels == ("T2", "ADC")
    assert settings.preprocess.intensity == "percentiles"
    found = find_task_data(settings).datalist
    assert [(one.name, one.image.name, [path.name for path in one.channels]) for one in found.training] == [
        (f"pros_{n:02d}", f"pros_{n:02d}_0000.nii.gz", [f"pros_{n:02d}_0001.nii.gz"]) for n in range(3)
    ]
    assert [one.name for one in found.validation] == ["pros_03"]
    assert "read off 4 scans" in Path("my.yaml").read_text()


def test_cases_of_unlike_channels_are_refused(tmp_path: Path) -> None:
    path = two_channels(tmp_path / "d")
    raw = json.loads(path.read_text())
    raw["training"].pop()
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="not of the same channels in every case"):
        written(path)


def test_label_maps_that_name_one_value_differently_are_warned_of(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    phantoms(folder, 3).unlink()
    names = [{"1": "spleen", "2": "kidney"}, {"1": "spleen"}, {"1": "heart", "2": "kidney"}]
    for label, one in zip(sorted((folder / "labelsTr").iterdir()), names, strict=True):
        label.with_name(label.name.replace(".nii.gz", ".json")).write_text(json.dumps(one))
    write_datalist(build_index([folder], tmp_path / "data.json", IndexOptions(workers=1)), tmp_path / "data.json")
    source = source_of_list(tmp_path / "data.json", "CT")
    assert source.mixed_names == (
        "The label maps call one value by several names, so a class of this task mixes structures: phantom_001_0002 "
        "(1 is heart here and spleen elsewhere). `voco index` takes folders and files: list scans and label maps "
        "of one naming alone."
    )
    text = text_of_list(tmp_path / "data.json", modality="CT")
    assert f"# Caution: {source.mixed_names}" in text
    Path("my.yaml").write_text(text)
    assert load_settings(task="my.yaml").settings.task.classes[0].name == "label 1"
    third = sorted((folder / "labelsTr").glob("*.json"))[2]
    third.write_text(json.dumps(names[0]))
    write_datalist(build_index([folder], tmp_path / "data.json", IndexOptions(workers=1)), tmp_path / "data.json")
    assert source_of_list(tmp_path / "data.json", "CT").mixed_names is None
    text = text_of_list(tmp_path / "data.json", modality="CT")
    assert "Caution" not in text
    assert '"spleen"' in text
