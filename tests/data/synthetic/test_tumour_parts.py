from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from voco_cli.config.tumour_schema import OrganContrast, TumourRules
from voco_cli.data.synthetic.tumour_parts import (
    Tumour,
    capsule_hu,
    covered,
    cut_texture,
    draw_tumour,
    num_textures,
    outline_mm,
    reads_at,
    surface_mm,
    texture_tile,
)

RULES = TumourRules()
ONE_MM = (1.0, 1.0, 1.0)


def ball(radius_mm: float = 10.0, **changes: object) -> Tumour:
    """A tumour without noise on its surface."""
    drawn = draw_tumour(np.random.default_rng(0), radius_mm, RULES)
    return replace(drawn, half_axes_mm=(radius_mm,) * 3, unevenness=0.0, **changes)  # type: ignore[arg-type]


def test_the_mass_effect_is_monotone_and_shifts_most_at_a_third_of_its_reach() -> None:
    reach = 13.0
    distance = np.linspace(0, 20, 20_001)
    read = distance * reads_at(distance, reach, 0.3)
    assert (np.diff(read) > 0).all()
    shift = distance - read
    # d - k d = 0.3 d (1 - d/R)^2, whose derivative is 0 at d = R/3: 0.3 / 3 * 4/9 = 0.0444 R.
    assert shift.max() == pytest.approx(0.3 / 3 * 4 / 9 * reach, rel=1e-6)
    assert distance[shift.argmax()] == pytest.approx(reach / 3, abs=2e-3)
    assert (read[distance >= reach] == distance[distance >= reach]).all()
    # The middle grows by 1 / (1 - 0.3).
    assert read[1] / distance[1] == pytest.approx(0.7, abs=1e-4)


def test_the_outline_of_a_ball_is_its_distance_from_the_surface() -> None:
    outline = outline_mm(ball(10.0), ONE_MM)
    half = outline.shape[0] // 2
    x, y, z = np.indices(outline.shape) - half
    expected = np.sqrt(x**2 + y**2 + z**2) - 10
    apart = np.abs(outline - expected)
    assert apart[np.abs(expected) < 4].max() < 0.05  # linear between points of the coarse grid
    assert min(outline[0].min(), outline[:, 0].min(), outline[:, :, 0].min()) > 0  # the box holds all of it
    inside = int((outline < 0).sum())
    assert inside == pytest.approx(4 / 3 * math.pi * 1000, rel=0.02)


def test_a_grid_of_unequal_steps_holds_the_same_volume() -> None:
    drawn = draw_tumour(np.random.default_rng(3), 12.0, RULES)
    volumes = [
        (outline_mm(drawn, step) < 0).sum() * np.prod(step) for step in (ONE_MM, (2.0, 2.0, 5.0), (0.7, 0.7, 1.0))
    ]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.06)
    assert volumes[2] == pytest.approx(volumes[0], rel=0.03)


def test_the_surface_is_uneven_by_as_much_as_the_rules_say() -> None:
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    spread = []
    for seed in range(300):
        drawn = draw_tumour(np.random.default_rng(seed), 10.0, RULES)
        uneven = replace(drawn, half_axes_mm=(10.0, 10.0, 10.0), unevenness=0.2)
        spread.append(surface_mm(uneven, directions)[seed % 500] / 10 - 1)
        assert all(7.5 <= axis <= 12.5 for axis in drawn.half_axes_mm)
        assert 0.125 <= drawn.unevenness <= 0.3125
    assert abs(np.mean(spread)) < 0.035  # three standard errors of 0.2 over 300
    assert np.std(spread) == pytest.approx(0.2, rel=0.15)
    assert np.abs(spread).max() <= 0.4 + 1e-6


def test_half_of_a_voxel_on_the_surface_is_tumour_and_the_border_is_as_blurred_as_drawn() -> None:
    tumour = ball(edge_mm=1.0)
    outline = np.array([-20.0, -1.0, 0.0, 1.0, 20.0], np.float32).reshape(5, 1, 1)
    fine = covered(outline, tumour, (1e-3, 1e-3, 1e-3)).ravel()
    # Phi(1) = 0.8413
    np.testing.assert_allclose(fine, [1, 0.8413, 0.5, 0.1587, 0], atol=1e-4)
    # A voxel of 2 mm averages: 1 / 12 * 2^2 is added to the variance. Phi(1 / sqrt(4/3)) = Phi(0.8660) = 0.8068
    coarse = covered(outline, tumour, (2.0, 2.0, 2.0)).ravel()
    np.testing.assert_allclose(coarse, [1, 0.8068, 0.5, 0.1932, 0], atol=1e-4)


def test_the_capsule_lies_on_the_border_and_adds_what_its_band_holds() -> None:
    tumour = ball(edge_mm=1.0, capsule_hu=80.0)
    outline = np.arange(-8, 8, 0.01, np.float32).reshape(-1, 1, 1)
    added = capsule_hu(outline, tumour, RULES, (1e-3, 1e-3, 1e-3)).ravel()
    # 0.4 <= Phi(-s) <= 0.7 is -0.5244 <= s <= 0.2533 mm: 80 HU over 0.7777 mm, however it is blurred.
    assert added.sum() * 0.01 == pytest.approx(80 * 0.7777, rel=0.005)
    assert outline.ravel()[added.argmax()] == pytest.approx((0.2533 - 0.5244) / 2, abs=0.02)
    assert not capsule_hu(outline, replace(tumour, capsule_hu=0.0), RULES, ONE_MM).any()


def test_tiles_of_texture_are_the_same_everywhere_and_have_the_mean_of_the_source() -> None:
    rules = TumourRules(tile_vox=64)
    for number in range(num_textures(rules)):
        tile = texture_tile(number, ONE_MM, rules)
        assert tile.shape == (64, 64, 64)
        assert tile.min() >= 0
        assert tile.max() <= 1
        # 0.5 to 0.55 where it was above 0.12 before it was scaled, two to three times; that is the brighter part.
        assert 0.38 < tile[tile > 0.12].mean() < 0.56
        assert 0.48 < tile[tile > 0.12 * 3].mean() < 0.62
    assert num_textures(rules) == 10
    assert texture_tile(3, ONE_MM, rules) is texture_tile(3, ONE_MM, rules)


def test_grain_is_as_coarse_in_mm_on_any_grid() -> None:
    def correlation(step: float, lag_mm: float) -> float:
        tile = texture_tile(0, (step,) * 3, RULES)
        lag = round(lag_mm / step)
        return float(np.corrcoef(tile.ravel(), np.roll(tile, lag, axis=0).ravel())[0, 1])

    # The grain of 4 mm: white specks blurred by a Gaussian correlate by exp(-lag^2 / (4 sd^2)).
    for step in (1.0, 2.0):
        assert correlation(step, 4.0) == pytest.approx(math.exp(-(4**2) / (4 * 4**2)), abs=0.05)


def test_a_cut_goes_round_the_tile_and_may_be_mirrored() -> None:
    tile = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    tumour = ball(corner=(0.4, 0.0, 0.0), mirrored=(False, False, True))
    cut = cut_texture(tile, tumour, (4, 1, 3))
    assert cut[:, 0, 0].tolist() == [11.0, 20.0, 2.0, 11.0]
    assert cut[0, 0].tolist() == [11.0, 10.0, 9.0]


def test_an_organ_may_have_a_contrast_of_its_own() -> None:
    rules = TumourRules(organ_contrasts=(OrganContrast(organ="kidney", contrast_hu=(200.0, 200.0)),))
    assert draw_tumour(np.random.default_rng(0), 5.0, rules, "kidney").contrast_hu == 200
    assert 65 <= draw_tumour(np.random.default_rng(0), 5.0, rules, "liver").contrast_hu <= 145
