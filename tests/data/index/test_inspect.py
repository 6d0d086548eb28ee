"""A damaged file is a sentence, whatever its damage."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.data.io.make_files import numbers, write_dicom, write_enhanced, write_nifti
from voco_cli.data.index.inspect import ScanFiles, check_label, check_scan, holds_labels, inspect_file, is_label_map
from voco_cli.data.index.reasons import count_kinds, kind_of

FLIPS = 150


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "slice", "frames"])
def test_random_damage_never_raises(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "slice":
        path = write_dicom(tmp_path)[0]
    elif name == "frames":
        write_enhanced(path, slopes=[1, 2, 3, 4])
    elif name.startswith("a.nii"):
        write_nifti(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(numbers().T.copy()), str(path))
    good, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(FLIPS):
        raw = bytearray(good)
        for place in random.integers(0, min(len(good), 2000 if name == "frames" else 400), 4):
            raw[place] = random.integers(256)
        path.write_bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen = inspect_file(path)
            assert sum(part is not None for part in (seen.header, seen.slices, seen.fault)) == 1
            if seen.header is not None and np.prod(seen.header.shape_xyz) < 10**6:
                check_scan(ScanFiles(path))


def organs(values: int, edge: int = 24, seed: int = 0) -> np.ndarray:
    """Cubes of 3 voxels edge, each of one value from 1 on, in a background of 0."""
    coarse = np.random.default_rng(seed).permutation((edge // 3) ** 3).reshape(3 * (edge // 3,)) % (values + 1)
    return np.kron(coarse, np.ones((3, 3, 3), int))


def noisy(low: int, high: int, edge: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (edge, edge, edge))


@pytest.mark.parametrize(
    ("array", "named", "expected"),
    [
        ((noisy(0, 2)).astype(np.uint8), True, True),  # a map of two values, however scattered
        ((noisy(0, 2) * 255).astype(np.uint8), False, True),
        (organs(13).astype(np.float32), True, True),
        (organs(117).astype(np.uint8), True, True),
        (organs(400).astype(np.int16) * 30, True, True),  # FreeSurfer's numbers go to 14175
        (np.where(organs(5) > 4, -1, organs(5)).astype(np.int16), True, True),  # not looked at
        (np.where(organs(5) > 4, np.nan, organs(5)).astype(np.float32), True, True),
        (noisy(-1000, 1200).astype(np.int16), True, False),  # a CT, whatever it is called
        (noisy(0, 4000).astype(np.uint16), True, False),
        (noisy(0, 256).astype(np.uint8), True, False),  # an 8-bit picture of few values
        (noisy(0, 4).astype(np.float32) + 0.5, True, False),
        (np.where(organs(40) > 20, np.inf, 0).astype(np.float32), True, False),
        (noisy(0, 256).astype(np.uint8), False, False),
        (noisy(0, 60).astype(np.uint8), False, False),  # of little contrast, and no label map
        (organs(400).astype(np.int16) * 30, False, False),  # without a name the numbers have to be small
    ],
)
def test_label_maps_are_told_by_their_voxels(array: np.ndarray, named: bool, expected: bool) -> None:
    assert holds_labels(array, named) is expected


def test_a_file_s_voxels_are_asked(tmp_path: Path) -> None:
    assert is_label_map(write_nifti(tmp_path / "l.nii.gz", (numbers() % 4).astype(np.float32) ** 2), named=True)
    assert not is_label_map(write_nifti(tmp_path / "c.nii.gz", numbers()), named=True)  # from -100
    assert not is_label_map(write_nifti(tmp_path / "f.nii.gz", np.full((4, 4, 4), 0.5, np.float32)), named=True)
    (tmp_path / "gone.nii.gz").write_bytes(b"no image")
    assert is_label_map(tmp_path / "gone.nii.gz", named=True)  # cannot be listed anyway
    assert not is_label_map(tmp_path / "gone.nii.gz", named=False)


def test_labels_are_checked(tmp_path: Path) -> None:
    empty = write_nifti(tmp_path / "e.nii.gz", np.zeros((7, 6, 5), np.uint8))
    half = write_nifti(tmp_path / "h.nii.gz", np.full((7, 6, 5), 0.5, np.float32))
    assert check_label(empty).notes == ("the label map is empty",)
    assert check_label(half).fault == "label map with values that are not whole numbers."
    assert check_label(tmp_path / "no.nii").fault == "cannot be opened: No such file or directory."


def test_kinds() -> None:
    assert kind_of("a gantry tilt of 18.5 degrees and uneven slice gaps (1 x 2 mm).") == "gantry tilt"
    assert kind_of("axes that are not at right angles (..), as a gantry tilt or a shear makes them") == "sheared axes"
    assert kind_of("cannot be read: KeyError: 3.") == "damaged or not readable"
    assert kind_of("/a/b is compressed as JPIP, which is not decoded.") == "compression that is not decoded"
    assert kind_of("/a/b is truncated: its pixels are 2 bytes too short.") == "truncated"
    assert count_kinds([]) == {}
