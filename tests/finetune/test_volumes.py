"""Whole volumes in batches: what is read, drawn, weighted and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.tasks.made_categories import SIZE, classification_settings, make_entries, store
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, UsageError
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.classification import VolumeDataset, category_index, category_weights
from voco_cli.finetune.dataset import LabelledBatch, collate


def test_an_item_is_the_whole_stored_volume_and_its_category(tmp_path: Path) -> None:
    settings = classification_settings(3)
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 2, 1]), settings)
    item = VolumeDataset(cases, settings)[5, 1]
    assert not isinstance(item, Exception)
    expected = preprocess(read_scan(cases[1].entry.image), settings.preprocess).array_xyz
    assert (item.name, item.targets.tolist(), item.images_NCXYZ.dtype) == ("p1-s1", [2], np.uint8)
    np.testing.assert_array_equal(item.images_NCXYZ[0][0], np.rint(expected * 255).astype(np.uint8))


def test_channels_are_stacked_in_their_order(tmp_path: Path) -> None:
    settings = classification_settings(2, task={"channels": ["t1", "t2"]})
    first, second = make_entries(tmp_path, [0, 1])
    both = first.model_copy(update={"channels": (second.image,)})
    (case,) = store(tmp_path / "cache", [both], settings)
    item = VolumeDataset([case], settings)[0, 0]
    assert not isinstance(item, Exception)
    assert item.images_NCXYZ[0].shape == (2, *SIZE)
    bright = [channel[4:8, 4:8, 3:5].mean() > 150 for channel in item.images_NCXYZ[0]]
    assert bright == [False, True]


def test_draws_depend_on_seed_number_and_case_alone(tmp_path: Path) -> None:
    settings = classification_settings()
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 1, 0]), settings)

    def draws(listed: list[int], key: tuple[int, int], seed: int = 3) -> list[list[float]]:
        asked = settings.model_copy(update={"seed": seed})
        item = VolumeDataset([cases[n] for n in listed], asked)[key]
        assert not isinstance(item, Exception)
        return [tensor.flatten().tolist() for tensor in item.draws]

    assert draws([0, 1, 2], (7, 2)) == draws([2, 0], (7, 0))
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (8, 2))
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (7, 2), seed=4)
    # The second time that a case stands in a batch it is changed in another way.
    assert draws([0, 1, 2], (7, 2)) != draws([0, 1, 2], (7, 5))


def test_a_batch_is_augmented_as_its_cases_are(tmp_path: Path) -> None:
    settings = classification_settings(2, augment={"noise_prob": 0.0, "affine_prob": 0.0})
    dataset = VolumeDataset(store(tmp_path / "cache", make_entries(tmp_path, [0, 1, 1]), settings), settings)
    items = [dataset[4, index] for index in range(3)]
    batch = collate(items)
    assert isinstance(batch, LabelledBatch)
    assert (batch.names, batch.targets.tolist()) == (["p0-s0", "p1-s1", "p2-s2"], [0, 1, 1])
    images, labels = augment_patches(batch.images_NCXYZ, None, batch.draws)
    assert labels is None
    for row, item in enumerate(items):
        assert not isinstance(item, Exception)
        flips, turns = item.draws.flips_N3[0].tolist(), int(item.draws.turns_N[0])
        flipped = np.flip(item.images_NCXYZ[0][0], [axis for axis in range(3) if flips[axis]])
        by_hand = np.rot90(flipped, turns, (0, 1)) / 255 * float(item.draws.scales_N[0]) + float(item.draws.shifts_N[0])
        torch.testing.assert_close(images[row, 0].double(), torch.from_numpy(by_hand.copy()), atol=1e-6, rtol=0)


def test_a_damaged_volume_becomes_the_batch(tmp_path: Path) -> None:
    settings = classification_settings()
    cases = store(tmp_path / "cache", make_entries(tmp_path, [0, 1]), settings)
    cases[1].volumes[0].path.unlink()
    dataset = VolumeDataset(cases, settings)
    assert isinstance(collate([dataset[0, 0], dataset[0, 1]]), DataError)


def test_weights_by_hand() -> None:
    # Six of the first, two of the second: 8 / (2 * 6) and 8 / (2 * 2); the cases weigh (6 * 2/3 + 2 * 2) / 8 = 1.
    np.testing.assert_allclose(category_weights([0] * 6 + [1] * 2, 2), [2 / 3, 2])
    # The third category has no case and no say.
    np.testing.assert_allclose(category_weights([0, 1, 1, 1], 3), [2, 2 / 3, 0])
    with pytest.raises(UsageError, match="The 3 training cases are of 1 category"):
        category_weights([1, 1, 1], 2)


def test_categories_go_by_name(tmp_path: Path) -> None:
    task = classification_settings(3).task
    entry = make_entries(tmp_path, [2])[0]
    assert category_index(task, entry) == 2
    with pytest.raises(DataError, match="'flu', and the task has normal, pneumonia, covid"):
        category_index(task, entry.model_copy(update={"category": "flu"}))
    with pytest.raises(DataError, match="p0-s0 has no category"):
        category_index(task, entry.model_copy(update={"category": None}))


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("preprocess", {"resize_vox": None}, "a classification sees whole scans of one size"),
        ("preprocess", {"resize_vox": (4, 4, 4)}, "4x4x4 voxels, and the last level of unet only one"),
        ("preprocess", {"resize_vox": (12, 12, 10)}, "12x12x10 voxels, not multiples of 4"),
        ("preprocess", {"resize_vox": (12, 16, 8)}, "square in the plane, not 12x16x8"),
    ],
)
def test_sizes_that_cannot_be_used(section: str, values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        classification_settings(2, **{section: values})
