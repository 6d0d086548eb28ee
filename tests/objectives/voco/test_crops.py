"""Random draws: replayable from (seed, step, case), uniform over every admissible place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from voco_cli.config.schema import Augment, Crops
from voco_cli.errors import GeometryError
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation
from voco_cli.objectives.voco.crops import CropDraws, draw_crops, label_boxes, position_labels

CROPS = Crops(grid=(3, 3), size=(8, 8, 8), random_per_volume=4)
VOLUME = (30, 26, 9)


def drawn(seed: int = 0, step: int = 0, case: str = "a") -> CropDraws:
    return draw_crops(seed, step, case, VOLUME, CROPS)


def same(a: CropDraws | AugmentDraws, b: CropDraws | AugmentDraws) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_replay_in_another_order() -> None:
    keys = [(seed, step, case) for seed in (0, 1) for step in (0, 7, 2**31) for case in ("a", "b", "a/b")]
    first = {key: (drawn(*key), draw_augmentation(*key, 13, Augment(flip_prob=0.5))) for key in keys}
    for key in reversed(keys):
        np.random.seed(len(key))  # the global state plays no part
        assert same(drawn(*key), first[key][0])
        assert same(draw_augmentation(*key, 13, Augment(flip_prob=0.5)), first[key][1])


def test_seed_step_case_and_purpose_each_make_another_draw() -> None:
    numbers = {
        counter_generator(*arguments).integers(2**62)
        for arguments in [(0, 0, "a", "x"), (1, 0, "a", "x"), (0, 1, "a", "x"), (0, 0, "b", "x"), (0, 0, "a", "y")]
    }
    assert len(numbers) == 5
    assert counter_generator(0, 0, "b", "a").integers(2**62) != counter_generator(0, 0, "a", "b").integers(2**62)


def test_draws_are_fixed_for_good() -> None:
    """A run that resumes under a later version must see the same crops: numbers of the first release."""
    draws = draw_crops(17, 3, "scans/case_01.nii.gz", (400, 390, 96), Crops())
    assert draws.region_start_3.tolist() == [12, 3, 0]
    assert draws.centres_S3.tolist() == [[142, 193, 48], [172, 174, 48]]


def test_crops_and_labels_belong_together() -> None:
    draws = drawn(step=5)
    assert draws.starts_N3.shape == (4 + 9, 3)
    assert draws.labels_SK.shape == (4, 9)
    starts = draws.starts_N3[:4]
    np.testing.assert_array_equal(draws.centres_S3, starts + 4)
    expected = position_labels(*label_boxes(starts, (8, 8, 8)), (8, 8, 8), (3, 3, 1), (8, 8, 8))
    np.testing.assert_array_equal(draws.labels_SK, expected)
    np.testing.assert_array_equal(draws.starts_N3[4:], [(x, y, 0) for x in (0, 8, 16) for y in (0, 8, 16)])


def test_released_labels_of_odd_crops() -> None:
    crops = Crops(grid=(3, 3), size=(65, 65, 65), odd_box="floored")
    labels = draw_crops(0, 0, "a", (195, 195, 65), crops).labels_SK
    np.testing.assert_allclose(labels.sum(-1), (64 / 65) ** 2)


def test_every_place_is_drawn_equally_often_with_both_ends() -> None:
    draws = [draw_crops(0, step, "a", VOLUME, CROPS) for step in range(3000)]
    starts = np.concatenate([draw.starts_N3[:4] for draw in draws])
    regions = np.stack([draw.region_start_3 for draw in draws])
    for axis, room in enumerate((16, 16, 0)):  # region 24x24x8, crop 8
        counts = np.bincount(starts[:, axis])
        assert len(counts) == room + 1
        assert room == 0 or stats.chisquare(counts).pvalue > 1e-3
    for axis, room in enumerate((6, 2, 1)):  # volume 30x26x9
        counts = np.bincount(regions[:, axis])
        assert len(counts) == room + 1
        assert stats.chisquare(counts).pvalue > 1e-3


def test_given_centres() -> None:
    centres = [(4, 4, 4), (12, 20, 4)]
    draws = draw_crops(0, 0, "a", VOLUME, CROPS, centres)
    np.testing.assert_array_equal(draws.centres_S3, centres)
    np.testing.assert_array_equal(draws.labels_SK.argmax(-1), [0, 5])
    np.testing.assert_array_equal(draws.labels_SK.max(-1), [1, 1])
    with pytest.raises(GeometryError, match="outside the 24x24x8 voxels"):
        draw_crops(0, 0, "a", VOLUME, CROPS, [(3, 4, 4)])


@pytest.mark.parametrize("volume", [(23, 24, 8), (24, 24, 7)])
def test_volume_too_small_for_the_grid_is_named(volume: tuple[int, int, int]) -> None:
    extent = "x".join(map(str, volume))
    with pytest.raises(GeometryError, match=rf"case_07 has {extent} voxels .* less than the 24x24x8 ") as caught:
        draw_crops(0, 0, "case_07", volume, CROPS)
    assert "preprocess.min_size_vox" in str(caught.value.hint)


def test_volume_of_just_the_right_size() -> None:
    np.testing.assert_array_equal(draw_crops(0, 0, "a", (24, 24, 8), CROPS).region_start_3, [0, 0, 0])


def test_augmentation_has_the_asked_probabilities() -> None:
    augment = Augment(flip_prob=0.2, rotate_prob=0.3, shift_prob=0.6, shift_max=0.1)
    draws = draw_augmentation(3, 4, "a", 20000, augment)
    within = 4 * np.sqrt(0.25 / 20000)  # four standard deviations of a share, at most
    np.testing.assert_allclose(draws.flips_N3.mean(0), 0.2, atol=within)
    np.testing.assert_allclose(np.bincount(draws.turns_N) / 20000, [0.7, 0.1, 0.1, 0.1], atol=within)
    shifted = draws.shifts_N[draws.shifts_N != 0]
    assert len(shifted) / 20000 == pytest.approx(0.6, abs=within)
    assert stats.kstest(shifted, "uniform", args=(-0.1, 0.2)).pvalue > 1e-3
    assert draws.shifts_N.dtype == np.float32


def test_crops_are_augmented_each_on_their_own() -> None:
    flips = draw_augmentation(0, 0, "a", 64, Augment(flip_prob=0.5)).flips_N3
    assert len(np.unique(flips, axis=0)) == 8


def test_no_augmentation() -> None:
    draws = draw_augmentation(0, 0, "a", 50, Augment(flip_prob=0, rotate_prob=0, shift_prob=0))
    assert not draws.flips_N3.any()
    assert not draws.turns_N.any()
    assert not draws.shifts_N.any()


def test_augmentation_that_is_certain() -> None:
    draws = draw_augmentation(0, 0, "a", 50, Augment(flip_prob=1, rotate_prob=1, shift_prob=1, shift_max=0.5))
    assert draws.flips_N3.all()
    assert set(draws.turns_N.tolist()) == {1, 2, 3}
    assert draws.shifts_N.all()


def test_names_that_are_no_text_draw_too() -> None:
    """Linux takes any bytes for a name; Python hands those that are no text on as surrogates."""
    name = b"caf\xe9.nii.gz".decode(errors="surrogateescape")
    same = counter_generator(0, 1, name, "crops").random()
    assert same == counter_generator(0, 1, name, "crops").random()
    assert same != counter_generator(0, 1, "caf.nii.gz", "crops").random()
