"""Tumours that are painted onto patches in the loader: replayable, cut from what the whole scan would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.finetune.tiny_task import killed_finetune, make_data, tiny_finetune
from tests.pretrain.tiny_run import At
from tests.tasks.made_cases import make_case
from voco_cli.config import Settings
from voco_cli.config.schema import Model, Preprocess
from voco_cli.config.task_schema import Task
from voco_cli.errors import UsageError
from voco_cli.finetune.dataset import CaseSamples
from voco_cli.finetune.patches import PatchDataset, survey_labels
from voco_cli.tasks.cases import StoredCase

EDGE, LIVER, LESION = 48, 1, 2
CLASSES = [{"name": "liver", "values": 6}, {"name": "tumour", "values": 9}]
SIZES = [{"radius_mm": [4, 6], "number": [1, 3]}]


def settings(**tumours: object) -> Settings:
    task = Task.model_validate(
        {
            "name": "made",
            "preset": "made",
            "classes": CLASSES,
            "patch_size": (32, 32, 32),
            "foreground_share": 1.0,
            "patches_per_volume": 4,
            "tumours": {"share": 1.0, "organs": ["liver"], "lesion": "tumour", "sizes": SIZES, **tumours},
        }
    )
    return Settings(task=task, preprocess=Preprocess(window_hu=(0, 255)), model=Model(backbone="unet", levels=3))


def made_case(folder: Path, name: str = "healthy", with_lesion: bool = False) -> StoredCase:
    """A ball of liver, 150 with noise; stored numbers are HU."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices((EDGE,) * 3) - EDGE // 2
    liver = x**2 + y**2 + z**2 < 22**2
    image = (np.where(liver, 150, 20) + rng.normal(0, 5, liver.shape)).clip(0, 250).astype(np.uint8)
    label = np.where(liver, 6, 0).astype(np.uint8)
    if with_lesion:
        label[20:24, 20:24, 20:24] = 9
    return make_case(folder, image, label, name)


def samples(dataset: PatchDataset, number: int) -> CaseSamples:
    found = dataset[number, 0]
    assert isinstance(found, CaseSamples)
    return found


def test_every_patch_of_a_healthy_case_gets_tumours_and_a_replay_the_same(tmp_path: Path) -> None:
    case, asked = made_case(tmp_path), settings()
    points = survey_labels([case], asked.task)
    painted, plain = (PatchDataset([case], points, one) for one in (asked, settings(share=0.0)))
    counted = 0
    for number in range(6):
        one, without = samples(painted, number), samples(plain, number)
        again = samples(PatchDataset([case], points, asked), number)
        np.testing.assert_array_equal(one.images_NCXYZ, again.images_NCXYZ)
        np.testing.assert_array_equal(one.targets, again.targets)
        assert one.images_NCXYZ.dtype == np.uint8
        assert one.images_NCXYZ.shape == (4, 1, 32, 32, 32)
        assert not (without.targets == LESION).any()
        lesion = one.targets == LESION
        counted += int(lesion.any(axis=(1, 2, 3)).sum())
        # Liver of 150 HU falls by a contrast of at least 10 HU; what no tumour reaches is bit for bit as stored.
        assert one.images_NCXYZ[:, 0][lesion].mean() < 140
        same = (one.images_NCXYZ == without.images_NCXYZ).all(axis=(1, 2, 3, 4))
        assert not same[lesion.any(axis=(1, 2, 3))].any()
        assert (one.images_NCXYZ != without.images_NCXYZ).mean() < 0.5
        # Nothing but liver turns into a lesion; tissue is pushed aside around it.
        assert (without.targets[lesion] == LIVER).mean() > 0.95
    assert counted >= 22  # of 24: now and then there is no place


def test_a_share_of_the_patches_is_painted_on(tmp_path: Path) -> None:
    case, asked = made_case(tmp_path), settings(share=0.5)
    dataset = PatchDataset([case], survey_labels([case], asked.task), asked)
    found = [(samples(dataset, n).targets == LESION).any(axis=(1, 2, 3)) for n in range(25)]
    assert abs(np.concatenate(found).sum() - 50) < 5 * 25**0.5


def test_cases_with_lesions_are_left_alone_unless_asked(tmp_path: Path) -> None:
    ill, healthy = made_case(tmp_path, "ill", with_lesion=True), made_case(tmp_path, "healthy")
    asked = settings()
    points = survey_labels([ill, healthy], asked.task)
    dataset = PatchDataset([ill, healthy], points, asked)
    plain = PatchDataset([ill, healthy], points, settings(share=0.0))
    np.testing.assert_array_equal(samples(dataset, 0).images_NCXYZ, samples(plain, 0).images_NCXYZ)
    everything = PatchDataset([ill, healthy], points, settings(healthy_only=False))
    assert (samples(everything, 0).images_NCXYZ != samples(plain, 0).images_NCXYZ).any()
    with pytest.raises(UsageError) as raised:
        PatchDataset([ill], points, asked)
    assert raised.value.message == (
        "task.tumours paints into liver, and none of the 1 training cases has it without tumour."
    )


def test_the_margin_is_the_reach_of_the_largest_tumour(tmp_path: Path) -> None:
    case, asked = made_case(tmp_path), settings()
    dataset = PatchDataset([case], survey_labels([case], asked.task), asked)
    painter = dataset.painter
    assert painter is not None
    plan = painter.plan(case, 0, case.name, 0)
    assert plan is not None
    # The reach is 1.3 of the largest radius, at 1 mm.
    assert plan.margin_vox == (int(np.ceil(1.3 * plan.radii_mm[0])),) * 3
    assert plan.radii_mm == sorted(plan.radii_mm, reverse=True)


@pytest.mark.parametrize(
    ("tumours", "message"),
    [
        ({"organs": ["livr"]}, "task.tumours.organs names 'livr', and the classes are liver, tumour"),
        ({"organs": []}, "task.tumours.share is above 0, and task.tumours.organs names no class"),
        ({"lesion": ""}, "task.tumours.share is above 0, and task.tumours.lesion names no class"),
        (
            {"lesion": "", "organs": []},
            "task.tumours.share is above 0, and task.tumours.organs and task.tumours.lesion name no class",
        ),
        ({"lesion": "liver"}, "task.tumours.lesion 'liver' is one of task.tumours.organs, too"),
        ({"sizes": [{"radius_mm": [9, 4], "number": [1, 3]}]}, "the lower end 9 is above the upper end 4"),
    ],
)
def test_settings_that_cannot_paint_are_refused(tumours: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(**tumours)
    assert message in str(raised.value)


def test_percentiles_and_channels_are_refused() -> None:
    asked = settings()
    values = asked.model_dump()
    values["preprocess"]["intensity"] = "percentiles"
    values["task"]["channels"] = ("a", "b")
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate(values)
    assert "task.tumours paints Hounsfield units, so preprocess.intensity must be window" in str(raised.value)
    assert "task.tumours paints scans of one channel, and the task has 2" in str(raised.value)


PAINTED = (
    "task.tumours.share=1",
    "task.tumours.organs=[liver]",
    "task.tumours.lesion=spleen",
    "task.tumours.healthy_only=false",
    "task.tumours.sizes=[{radius_mm: [9, 12], number: [2, 2]}]",
    "task.foreground_share=1",
    "train.steps=4",
    "train.checkpoint_every=2",
    "train.validate_every=4",
)


def test_resuming_a_painted_run_is_bit_for_bit_the_unbroken_one(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    whole = tiny_finetune(data, tmp_path / "whole", *PAINTED)
    plain = tiny_finetune(data, tmp_path / "plain", *PAINTED, "task.tumours.share=0")
    killed_finetune(data, tmp_path / "broken", At(advanced=3), *PAINTED)
    resumed = tiny_finetune(data, tmp_path / "broken", *PAINTED)
    assert whole.weights.read_bytes() == resumed.weights.read_bytes()
    assert whole.weights.read_bytes() != plain.weights.read_bytes()
