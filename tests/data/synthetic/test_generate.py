"""Generated patients: every organ there, on the right side, at plausible size and attenuation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco_cli.data.synthetic import BTCV_ORGANS, FIELD_MM, SyntheticCT, generate_ct, write_cts
from voco_cli.data.synthetic.generate import patient_seed
from voco_cli.errors import ResourceError, UsageError

# Adult organs, mL: a wide plausible range, since small organs are a few voxels here.
VOLUME_ML = {
    1: (60, 700),
    2: (60, 420),
    3: (60, 420),
    4: (8, 150),
    5: (6, 80),
    6: (600, 2600),
    7: (100, 900),
    8: (30, 250),
    9: (25, 220),
    10: (4, 60),
    11: (15, 160),
    12: (1.0, 25),
    13: (1.0, 25),
}


@pytest.fixture(scope="module")
def patients() -> list[SyntheticCT]:
    return [generate_ct(seed) for seed in range(12)]


def _centroid(ct: SyntheticCT, label: int) -> np.ndarray:
    return np.argwhere(ct.labels_xyz == label).mean(axis=0)


def test_field_and_types(patients: list[SyntheticCT]) -> None:
    ct = patients[0]
    assert ct.image_hu_xyz.shape == ct.labels_xyz.shape == (96, 96, 24)
    assert ct.image_hu_xyz.dtype == np.int16
    assert ct.labels_xyz.dtype == np.uint8
    assert np.allclose(np.multiply(ct.spacing_mm, (96, 96, 24)), FIELD_MM)
    assert ct.image_hu_xyz.min() >= -1024
    assert ct.image_hu_xyz.max() <= 3071


def test_every_organ_has_a_plausible_volume_in_every_patient(patients: list[SyntheticCT]) -> None:
    assert set(VOLUME_ML) == set(BTCV_ORGANS) == set(range(1, 14))
    for seed, ct in enumerate(patients):
        ml = np.bincount(ct.labels_xyz.ravel(), minlength=14) * np.prod(ct.spacing_mm) / 1000
        for label, (least, most) in VOLUME_ML.items():
            assert least <= ml[label] <= most, f"seed {seed}: {BTCV_ORGANS[label]} has {ml[label]:.1f} mL"


def test_no_organ_vanishes_in_many_patients() -> None:
    for seed in range(100, 130):
        assert np.unique(generate_ct(seed, (64, 64, 20)).labels_xyz).tolist() == list(range(14)), seed


def test_sides_are_those_of_ras(patients: list[SyntheticCT]) -> None:
    for ct in patients:
        centre = {label: _centroid(ct, label) for label in BTCV_ORGANS}
        assert centre[6][0] > centre[7][0] > centre[1][0]  # x grows to the right: liver, stomach, spleen
        assert centre[2][0] > 48 > centre[3][0]  # right and left kidney
        assert centre[9][0] > centre[8][0]  # vena cava right of the aorta
        assert centre[12][0] > centre[13][0]
        assert centre[4][1] > centre[2][1]  # y grows to the front: gallbladder before kidney
        assert centre[5][2] > centre[6][2] > centre[2][2]  # z grows to the head: esophagus, liver, kidney


def test_attenuation_is_that_of_a_ct(patients: list[SyntheticCT]) -> None:
    for ct in patients:
        image, labels = ct.image_hu_xyz, ct.labels_xyz
        assert 30 < np.median(image[labels == 6]) < 140  # liver
        assert -30 < np.median(image[labels == 4]) < 60  # bile, partial volume included
        assert 15 < np.median(image[labels == 8]) < 320  # aorta
        assert np.mean(image[:, -1] < -900) > 0.3  # air before the belly
        inside = image[labels == 0]
        assert np.mean((inside > -140) & (inside < -60)) > 0.1  # fat
        assert np.mean((inside > -900) & (inside < -700)) > 0.05  # lung
        assert np.mean(inside > 250) > 0.005  # bone


def test_the_seed_fixes_everything_and_the_shape_only_the_sampling() -> None:
    first, again, other = generate_ct(7), generate_ct(7), generate_ct(8)
    assert np.array_equal(first.image_hu_xyz, again.image_hu_xyz)
    assert np.array_equal(first.labels_xyz, again.labels_xyz)
    assert not np.array_equal(first.labels_xyz, other.labels_xyz)
    fine = generate_ct(7, (192, 96, 24))
    for label in (1, 2, 6, 7):
        assert np.allclose((_centroid(fine, label) + 0.5) / (2, 1, 1), _centroid(first, label) + 0.5, atol=0.6)


def test_patients_differ_in_place_size_contrast_and_noise(patients: list[SyntheticCT]) -> None:
    livers = np.array([_centroid(ct, 6) / ct.labels_xyz.shape for ct in patients])
    assert np.all(livers.std(axis=0) > 0.015)
    sizes = np.array([np.count_nonzero(ct.labels_xyz == 6) for ct in patients])
    assert sizes.std() / sizes.mean() > 0.08
    aorta_hu = np.array([np.median(ct.image_hu_xyz[ct.labels_xyz == 8]) for ct in patients])
    assert np.ptp(aorta_hu) > 60
    noise_hu = np.array([ct.image_hu_xyz[ct.labels_xyz == 6].std() for ct in patients])
    assert noise_hu.min() > 15
    assert np.ptp(noise_hu) > 5


def test_a_shape_in_which_organs_would_vanish_is_refused() -> None:
    with pytest.raises(UsageError, match="96x96x4 voxels is too small"):
        generate_ct(0, (96, 96, 4))


SHAPE = (48, 40, 16)


def test_nibabel_reads_ras_with_the_same_voxels(tmp_path: Path) -> None:
    (image_path,) = write_cts(tmp_path, 1, seed=3, shape_xyz=SHAPE, spacing_mm=(7.0, 6.0, 20.0), labelled=True)
    ct = generate_ct(patient_seed(3, 0), SHAPE)
    image = nib.load(image_path)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.allclose(image.affine[:3, :3], np.diag((7.0, 6.0, 20.0)))
    assert np.allclose(image.affine[:3, 3], (-7.0 * 47 / 2, -6.0 * 39 / 2, -20.0 * 15 / 2))
    assert np.array_equal(np.asarray(image.dataobj), ct.image_hu_xyz)
    label = nib.load(tmp_path / "labelsTr" / "phantom_003_0000.nii.gz")
    assert np.allclose(label.affine, image.affine)
    assert np.array_equal(np.asarray(label.dataobj), ct.labels_xyz)


def test_layout_is_nnunets_and_labels_are_optional(tmp_path: Path) -> None:
    images = write_cts(tmp_path, 2, seed=0, shape_xyz=SHAPE)
    assert [path.name for path in images] == ["phantom_000_0000_0000.nii.gz", "phantom_000_0001_0000.nii.gz"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [path.name for path in images]


def test_a_patient_does_not_depend_on_the_count_and_groups_share_none(tmp_path: Path) -> None:
    two = write_cts(tmp_path / "two", 2, seed=5, shape_xyz=SHAPE)
    three = write_cts(tmp_path / "three", 3, seed=5, shape_xyz=SHAPE)
    assert np.array_equal(np.asarray(nib.load(two[1]).dataobj), np.asarray(nib.load(three[1]).dataobj))
    seeds = {patient_seed(group, index) for group in range(20) for index in range(50)}
    assert len(seeds) == 1000


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_cts(tmp_path / "file", 1, seed=0, shape_xyz=SHAPE)
