"""The written files: geometry as other readers see it, layout, and repeatability."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco_cli.data.synthetic import generate_ct, write_cts
from voco_cli.data.synthetic.generate import patient_seed
from voco_cli.errors import ResourceError

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
