from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from voco_cli.config.schema import Augment
from voco_cli.finetune.augment import PatchDraws, augment_patches, draw_patches, join_draws

STILL = Augment(flip_prob=0, rotate_prob=0, shift_prob=0)
SIZE = (12, 10, 8)


def draws(
    count: int = 1, number: int = 0, spacing: tuple[float, float, float] = (1, 1, 1), **changes: object
) -> PatchDraws:
    return draw_patches(0, number, "case", count, spacing, STILL.model_copy(update=changes))


def patch(seed: int = 0, count: int = 1, channels: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, channels, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def test_without_changes_a_patch_is_its_stored_numbers_over_255() -> None:
    images, labels = augment_patches(patch(), None, draws())
    assert labels is None
    torch.testing.assert_close(images, patch().float() / 255)


def test_flips_and_turns_move_image_and_label_together() -> None:
    stored = torch.randint(0, 3, (4, 1, 10, 10, 8), dtype=torch.uint8)
    moved, labels = augment_patches(stored, stored[:, 0], draws(4, flip_prob=0.5, rotate_prob=0.9))
    assert labels is not None
    torch.testing.assert_close(moved[:, 0], labels.float() / 255)
    assert not torch.equal(labels, stored[:, 0])


@pytest.mark.parametrize("number", range(3))
def test_the_affine_map_is_that_of_scipy(number: int) -> None:
    """Rotation about the middle in mm, one zoom, a shift in shares of the patch; nearest edge outside."""
    spacing = (1.0, 1.0, 3.0)
    one = draws(1, number, spacing, affine_prob=1.0, affine_degrees=25.0)
    matrix, shift = one.affine_N34[0, :, :3].double().numpy(), one.affine_N34[0, :, 3].double().numpy()
    # A rotation in mm: D M D^-1 is orthogonal up to the zoom.
    in_mm = np.diag(spacing) @ matrix @ np.diag(1 / np.array(spacing))
    zoom = np.linalg.det(in_mm) ** (1 / 3)
    np.testing.assert_allclose(in_mm @ in_mm.T, zoom**2 * np.eye(3), atol=1e-6)
    assert 1 / 1.2 <= zoom <= 1 / 0.8
    size = np.array(SIZE)
    middle = (size - 1) / 2
    offset = middle + shift * size - matrix @ middle
    image = patch(number)
    want = ndimage.affine_transform(image[0, 0].double().numpy(), matrix, offset, order=1, mode="nearest")
    got, _ = augment_patches(image, None, one)
    np.testing.assert_allclose(got[0, 0].numpy() * 255, want, atol=2e-3)


def test_labels_follow_the_image_by_the_nearest_voxel() -> None:
    labels = torch.zeros(1, *SIZE, dtype=torch.uint8)
    labels[0, 3:9, 2:8, 2:6] = 2
    one = draws(1, 4, affine_prob=1.0, affine_degrees=20.0)
    image, moved = augment_patches((labels * 100)[:, None], labels, one)
    assert moved is not None
    assert set(moved.unique().tolist()) == {0, 2}
    agree = ((image[:, 0] * 255 / 100) > 1) == (moved == 2)
    assert float(agree.float().mean()) > 0.97


def test_only_the_drawn_patches_move() -> None:
    some = draws(40, affine_prob=0.5)
    images = patch(count=40)
    got, _ = augment_patches(images, None, some)
    still = [bool(torch.allclose(a, b)) for a, b in zip(got, images.float() / 255, strict=True)]
    assert [not one for one in still] == some.moved_N.tolist()
    assert 8 < sum(still) < 32


def test_intensity_is_scaled_then_shifted_then_noisy_from_its_own_seed() -> None:
    one = draws(1, scale_prob=1.0, shift_prob=1.0)
    got, _ = augment_patches(patch(channels=2), None, one)
    want = patch(channels=2).float() / 255 * float(one.scales_N[0]) + float(one.shifts_N[0])
    torch.testing.assert_close(got, want)
    assert 0.9 <= float(one.scales_N[0]) <= 1.1
    noisy = draws(2, noise_prob=1.0, noise_sd=0.2)
    plain = patch(count=2)
    first, _ = augment_patches(plain, None, noisy)
    second, _ = augment_patches(plain, None, noisy)
    torch.testing.assert_close(first, second)
    noise = first - plain.float() / 255
    for row in range(2):
        sd = float(noisy.noise_N[row])
        assert 0 < sd <= 0.2
        assert float(noise[row].std()) == pytest.approx(sd, rel=5 / (2 * 960) ** 0.5)


def test_joined_draws_are_those_of_each_case() -> None:
    joined = join_draws([draws(2, 1, flip_prob=0.5), draws(1, 2, flip_prob=0.5)])
    assert joined.flips_N3.shape == (3, 3)
    assert torch.equal(joined.flips_N3[2:], draws(1, 2, flip_prob=0.5).flips_N3)
