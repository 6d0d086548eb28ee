from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.config.tumour_schema import TumourRules, TumourSize
from voco_cli.data.synthetic.tumour_parts import outline_mm, texture_tile
from voco_cli.data.synthetic.tumours import (
    Canvas,
    contrast_hu,
    draw_radii,
    paint_one,
    paint_tumours,
    possible_places,
    prepare,
    push_aside,
    repaint,
)

RULES = TumourRules()
STEP = (1.0, 1.0, 1.0)
EDGE = 72
LIVER, LESION = 3, 9


def made_scan(seed: int = 0, vessel: bool = True) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A ball of liver, 110 HU with noise of 5, in fat; a straight vessel of 200 HU runs through it along z."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((EDGE,) * 3) - EDGE // 2
    liver = x**2 + y**2 + z**2 < 33**2
    image = np.where(liver, 110, -100) + rng.normal(0, 5, liver.shape)
    labels = np.where(liver, LIVER, 0).astype(np.uint8)
    if vessel:
        image[(np.hypot(x - 6, y) < 3) & liver] = 200
    return image.astype(np.float32), labels


def canvas(vessel: bool = True, **rules: object) -> Canvas:
    image, labels = made_scan(vessel=vessel)
    return prepare(image, labels, STEP, {"liver": (LIVER,)}, LESION, TumourRules.model_validate(rules))


def test_the_same_generator_paints_the_same_and_another_another() -> None:
    first, again, other = (paint_tumours(canvas(), [8.0, 4.0], np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image_hu, again.image_hu)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert [one.centre for one in first.tumours] == [one.centre for one in again.tumours]
    assert not np.array_equal(first.labels, other.labels)


def test_no_tumour_touches_a_vessel_and_the_label_holds_the_shape() -> None:
    for seed in range(12):
        made = canvas()
        painted = paint_tumours(made, [9.0], np.random.default_rng(seed))
        (one,) = painted.tumours
        lesion = painted.labels == LESION
        assert not (lesion & made.vessels).any()
        outline = outline_mm(one.tumour, STEP)
        shape = np.zeros((EDGE + 200,) * 3, bool)
        low = [c + 100 - n // 2 for c, n in zip(one.centre, outline.shape, strict=True)]
        shape[tuple(slice(a, a + n) for a, n in zip(low, outline.shape, strict=True))] = outline < 0
        shape = shape[100:-100, 100:-100, 100:-100]
        organ = (painted.labels == LIVER) | lesion
        np.testing.assert_array_equal(lesion, shape & organ)
        assert one.voxels == lesion.sum()
        assert one.volume_ml == pytest.approx(lesion.sum() / 1000)


def test_vessels_are_found_where_the_organ_is_brighter() -> None:
    found = canvas().vessels
    image, labels = made_scan()
    assert found[(image == 200)].mean() > 0.9
    assert found[(labels == LIVER) & (ndimage.grey_dilation(image, size=9) < 150)].mean() < 0.001


def test_the_mean_falls_by_what_the_texture_takes_away() -> None:
    drops = []
    for seed in range(8):
        painted = paint_tumours(canvas(vessel=False, capsule_hu=0.0), [11.0], np.random.default_rng(seed))
        (one,) = painted.tumours
        core = ndimage.binary_erosion(painted.labels == LESION, iterations=3)
        mean = float(texture_tile(one.tumour.texture, STEP, RULES).mean())
        asked = contrast_hu(one.tumour, 110, mean, RULES) * mean
        drops.append((110 - painted.image_hu[core].mean()) / asked)
        # As much as [65, 145] HU times the texture, but the mean stays above 30 HU.
        assert asked == pytest.approx(min(one.tumour.contrast_hu * mean, 110 - 30), abs=0.5)
        # Tissue keeps its own noise, which linear interpolation at most halves here.
        assert 2 < painted.image_hu[core].std() < 40
    assert np.mean(drops) == pytest.approx(1, abs=0.1)


def test_a_dark_organ_gets_faint_tumours() -> None:
    image, labels = made_scan(vessel=False)
    made = prepare(image - 60, labels, STEP, {"liver": (LIVER,)}, LESION, RULES)  # 50 HU, as without contrast agent
    (one,) = paint_tumours(made, [8.0], np.random.default_rng(0)).tumours
    mean = float(texture_tile(one.tumour.texture, STEP, RULES).mean())
    assert contrast_hu(one.tumour, made.mean_hu["liver"], mean, RULES) * mean == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(("darker_hu", "radius_mm", "is_lighter"), [(0, 9.0, False), (85, 3.0, True)])
def test_the_drop_is_what_organ_and_labelled_voxels_differ_by(
    darker_hu: float, radius_mm: float, is_lighter: bool
) -> None:
    """Also with a capsule, which outshines a small tumour in an organ of 25 HU."""
    image, labels = made_scan(vessel=False)
    made = prepare(image - darker_hu, labels, STEP, {"liver": (LIVER,)}, LESION, RULES)
    painted = paint_tumours(made, [radius_mm] * 2, np.random.default_rng(0))
    organ_hu = (image - darker_hu)[labels == LIVER].mean()
    parts, count = ndimage.label(painted.labels == LESION)
    assert count == len(painted.tumours) == 2
    for one in painted.tumours:
        inside = parts == parts[one.centre]
        assert one.drop_hu == pytest.approx(organ_hu - painted.image_hu[inside].mean(), abs=1e-3)
        assert (one.drop_hu < 0) is is_lighter


def test_nothing_changes_beyond_the_reach() -> None:
    image, labels = made_scan()
    painted = paint_tumours(canvas(), [8.0], np.random.default_rng(4))
    (one,) = painted.tumours
    away = np.sqrt(((np.indices(labels.shape).T - one.centre) ** 2).sum(-1).T)
    far = away > 8 * 1.25 * 1.625 + 5
    np.testing.assert_array_equal(painted.image_hu[far], image[far])
    np.testing.assert_array_equal(painted.labels[far], labels[far])
    assert (painted.image_hu != image)[away < 5].mean() > 0.9


def test_tissue_is_pushed_as_the_formula_says() -> None:
    """An image whose value is x: after the push, a voxel at distance d shows k d."""
    x = np.indices((61, 61, 61))[0].astype(np.float32)
    labels = np.full(x.shape, LIVER, np.uint8)
    labels[36:] = 5
    made = prepare(x, labels, STEP, {"liver": (LIVER,)}, LESION, TumourRules(vessel_above_hu=1e6))
    push_aside(made, (30, 30, 30), 15.0)
    reach = 1.3 * 15
    for d in (0, 1, 4, 7, 12, 19, 20, 25):
        k = 1 - 0.3 * max(0, 1 - d / reach) ** 2
        assert made.image_hu[30 + d, 30, 30] == pytest.approx(30 + k * d, abs=1e-4)
        assert made.image_hu[30, 30 + d, 30] == pytest.approx(30, abs=1e-4)
        # Labels by the nearest voxel of the same map.
        assert made.labels[30 + d, 30, 30] == labels[round(30 + k * d), 30, 30]
    assert (np.diff(made.image_hu[:, 30, 30]) > 0).all()


def test_a_tumour_that_fits_nowhere_is_counted_and_leaves_all_as_it_was() -> None:
    image, labels = made_scan()
    made = canvas()
    painted = paint_tumours(made, [40.0], np.random.default_rng(0))  # larger than the liver
    assert painted.tumours == ()
    assert painted.unplaced_mm == (40.0,)
    np.testing.assert_array_equal(painted.image_hu, image)
    np.testing.assert_array_equal(painted.labels, labels)
    blocked = canvas()
    blocked.vessels[:] = True
    assert paint_tumours(blocked, [4.0], np.random.default_rng(0)).unplaced_mm == (4.0,)


def test_tumours_do_not_push_one_another() -> None:
    painted = paint_tumours(canvas(vessel=False), [7.0] * 6, np.random.default_rng(0))
    assert len(painted.tumours) > 2
    assert sum(one.voxels for one in painted.tumours) == (painted.labels == LESION).sum()


def test_painting_again_gives_the_same_and_may_leave_some_out() -> None:
    first = paint_tumours(canvas(), [8.0, 5.0, 4.0], np.random.default_rng(3))
    again = repaint(canvas(), first.tumours)
    np.testing.assert_array_equal(first.image_hu, again.image_hu)
    assert again.tumours == first.tumours
    fewer = repaint(canvas(), first.tumours[1:])
    assert (fewer.labels == LESION).sum() == sum(one.voxels for one in first.tumours[1:])


def test_middles_lie_within_the_organ_and_the_part_that_was_asked_for() -> None:
    made = canvas()
    within = (slice(10, 40), slice(20, 50), slice(0, EDGE))
    places = np.stack(np.unravel_index(possible_places(made, "liver", within), made.labels.shape), axis=1)
    # z: the middle 0.3 to 0.7 of 4 to 68, 23.2 to 48.8; x and y: 2 mm inside the organ.
    assert places[:, 2].min() == 24
    assert places[:, 2].max() == 48
    assert places[:, 0].max() == 39
    assert places[:, 1].min() == 20
    radius = np.hypot(np.abs(places[:, 0] - 36) + 2, np.abs(places[:, 1] - 36) + 2)
    assert (np.hypot(radius, places[:, 2] - 36) < 33).all()


def test_each_class_of_sizes_is_drawn_as_often_and_the_largest_come_first() -> None:
    rng = np.random.default_rng(0)
    sizes = (TumourSize(radius_mm=(4, 4), number=(3, 10)), TumourSize(radius_mm=(10, 20), number=(1, 3)))
    drawn = [draw_radii(rng, sizes, 0.0) for _ in range(2000)]
    small = [one for one in drawn if one[0] == 4]
    assert abs(len(small) - 1000) < 5 * 500**0.5
    assert {len(one) for one in small} == set(range(3, 11))
    assert {len(one) for one in drawn if one[0] != 4} == {1, 2, 3}
    assert all(one == sorted(one, reverse=True) for one in drawn)
    mixed = [draw_radii(rng, sizes, 1.0) for _ in range(200)]
    assert any(4 in one and max(one) > 4 for one in mixed)


def test_painting_a_part_is_painting_the_whole() -> None:
    """With a margin of the reach, a patch gets what the scan would get there."""
    whole = paint_tumours(canvas(), [6.0], np.random.default_rng(5))
    (one,) = whole.tumours
    image, labels = made_scan()
    low = [max(0, c - 24) for c in one.centre]
    part = tuple(slice(a, c + 25) for a, c in zip(low, one.centre, strict=True))
    local = prepare(image[part], labels[part], STEP, {"liver": (LIVER,)}, LESION, RULES)
    local.mean_hu["liver"] = canvas().mean_hu["liver"]  # type: ignore[index]
    x, y, z = (c - a for c, a in zip(one.centre, low, strict=True))
    moved = type(one)(one.tumour, one.organ, (x, y, z))
    paint_one(local, moved, outline_mm(one.tumour, STEP))
    np.testing.assert_array_equal(local.labels, whole.labels[part])
    np.testing.assert_allclose(local.image_hu, whole.image_hu[part], atol=1e-4)
