"""Structures in the air around the patient."""

from __future__ import annotations

import numpy as np

from voco_cli.evaluate.sides import looks_like_ct, outside_shares

SPACING = (4.0, 4.0, 4.0)


def test_shares_in_the_air_around_a_body_with_lungs() -> None:
    image = np.full((40, 30, 20), -1000.0)
    image[10:30, 5:25] = 40  # the body
    image[12:18, 10:20, 5:15] = -850  # a lung
    image[22:26, 12:16, 8:12] = -1000  # gas in the bowel
    label = np.zeros(image.shape, np.uint8)
    label[12:18, 10:20, 5:15] = 1  # lung
    label[22:26, 12:16, 8:12] = 2  # bowel
    label[0:6, 0:3, 0:20] = 3  # all in the air
    label[6:14, 12:16, 16:20] = 4  # half of it: 6 to 9 of 6 to 13, but the mean over 3 voxels ends at 8
    shares = outside_shares(image, label, SPACING)
    assert shares == {1: 0.0, 2: 0.0, 3: 1.0, 4: 3 / 8}


def test_fine_grids_are_thinned() -> None:
    image = np.full((80, 80, 20), -1000.0)
    image[20:60, 20:60] = 0
    label = np.zeros(image.shape, np.uint8)
    label[0:8, 0:8] = 7
    assert outside_shares(image, label, (1.0, 1.0, 4.0)) == {7: 1.0}


def test_ct_is_told_from_mr_and_from_a_crop_without_air() -> None:
    ct = np.full((32, 32, 32), -1000.0)
    ct[8:24, 8:24] = 60
    assert looks_like_ct(ct)
    assert looks_like_ct(np.where(ct < 0, np.nan, ct) - 1060) is False
    assert not looks_like_ct(ct + 1000)
    assert not looks_like_ct(ct[8:24, 8:24])
