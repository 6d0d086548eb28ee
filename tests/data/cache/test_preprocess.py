"""Against MONAI's own transforms, and against volumes whose voxels say where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.cache.made_scans import body_hu, oriented_affine, scan_of, write_nifti
from voco_cli.config.schema import Preprocess
from voco_cli.data.cache.preprocess import preprocess, preprocess_label, preprocessed_shape
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, GeometryError

# MONAI sets up every reader it knows, whichever is asked for, and warns of a codec that is not there.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

SETTINGS = {
    "resize": Preprocess(foreground_above=0.3, resize_vox=(48, 40, 24)),
    "spacing": Preprocess(spacing_mm=(1.5, 1.5, 2.0), min_size_vox=(64, 64, 64)),
    "spacing-resize": Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(8, 41, 8), resize_vox=(33, 32, 16)),
    "pad-resize": Preprocess(foreground_above=0.0, min_size_vox=(51, 52, 53), resize_vox=(40, 40, 40)),
    "window only": Preprocess(foreground_above=None, window_hu=(-1000.0, 500.0)),
    "spacing only": Preprocess(foreground_above=None, spacing_mm=(0.9, 2.2, 3.0)),
}


def monai_volume(path: Path, settings: Preprocess) -> Any:
    """The same steps as MONAI composes them; a MetaTensor (x, y, z)."""
    from monai import transforms

    steps: list[Any] = [
        transforms.LoadImaged("image", reader="NibabelReader"),
        transforms.EnsureChannelFirstd("image"),
        transforms.Orientationd("image", axcodes="RAS", labels=None),
    ]
    if settings.spacing_mm:
        steps.append(transforms.Spacingd("image", pixdim=settings.spacing_mm, mode="bilinear"))
    steps.append(transforms.ScaleIntensityRanged("image", *settings.window_hu, 0.0, 1.0, clip=True))
    if settings.foreground_above is not None:
        above = settings.foreground_above
        steps.append(transforms.CropForegroundd("image", "image", select_fn=lambda x: x > above, allow_smaller=True))
    if settings.min_size_vox:
        steps.append(transforms.SpatialPadd("image", settings.min_size_vox))
    if settings.resize_vox:
        steps.append(transforms.Resized("image", settings.resize_vox, mode="trilinear", align_corners=True))
    return transforms.Compose(steps)({"image": path})["image"][0]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL", "ASR"])
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_monai_on_every_chain_and_orientation(tmp_path: Path, name: str, codes: str) -> None:
    affine = oriented_affine(codes, (1.3, 1.7, 3.1))
    path = write_nifti(tmp_path / "scan.nii.gz", body_hu((37, 43, 29)), affine)
    expected = monai_volume(path, SETTINGS[name])
    found = preprocess(read_scan(path), SETTINGS[name])
    assert found.array_xyz.dtype == np.float32
    assert found.array_xyz.shape == found.record.shape_xyz == tuple(expected.shape)
    np.testing.assert_allclose(found.array_xyz, expected.numpy(), atol=2e-6)
    np.testing.assert_allclose(found.affine, expected.affine.numpy(), atol=1e-4)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAL"])
@pytest.mark.parametrize("name", SETTINGS)
def test_record_maps_coordinates_both_ways(name: str, codes: str) -> None:
    """A scan whose voxels hold their own coordinate says after preprocessing where each came from."""
    shape = (31, 27, 23)
    affine = oriented_affine(codes, (1.3, 1.7, 2.1))
    for axis in range(3):
        ramp = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
        settings = SETTINGS[name].model_copy(update={"window_hu": (-1.0, 40.0), "foreground_above": None})
        found = preprocess(scan_of(ramp.astype(np.int16), affine), settings)
        voxels = np.moveaxis(np.indices(found.array_xyz.shape), 0, -1)
        source = found.record.to_source(voxels)
        inside = ((source >= 0) & (source <= np.array(shape) - 1)).all(axis=-1)
        # After padding and a resize, voxels next to the border blend with zeros.
        inside &= ((source >= 2) & (source <= np.array(shape) - 3)).all(axis=-1) | (name == "window only")
        assert inside.any()
        np.testing.assert_allclose(found.array_xyz[inside] * 41 - 1, source[inside][:, axis], atol=1e-4)
        np.testing.assert_allclose(found.record.to_preprocessed(source), voxels, atol=1e-9)


def test_affine_agrees_with_the_coordinate_map() -> None:
    affine = oriented_affine("IPL", (1.3, 1.7, 2.1))
    found = preprocess(scan_of(body_hu((31, 27, 23)), affine), SETTINGS["spacing-resize"])
    voxel = np.array([5.0, 7.0, 3.0])
    world = found.affine @ [*voxel, 1.0]
    np.testing.assert_allclose(world, affine @ [*found.record.to_source(voxel), 1.0], atol=1e-9)


def test_oblique_scan_is_treated_as_its_nearest_upright_one() -> None:
    """Same voxels, and an affine that is turned by as much.

    MONAI agrees up to a shift: where the affine was stored in float32, the rounding of an oblique one makes its
    Spacing align centres (n/2 with m/2) instead of first voxels.
    """
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    upright = oriented_affine("LPS", (1.3, 1.7, 3.1))
    hu = body_hu((37, 43, 29))
    expected = preprocess(scan_of(hu, upright), SETTINGS["spacing"])
    found = preprocess(scan_of(hu, turn @ upright), SETTINGS["spacing"])
    np.testing.assert_allclose(found.array_xyz, expected.array_xyz, atol=1e-6)
    np.testing.assert_allclose(found.affine, turn @ expected.affine, atol=1e-9)


def test_steps_by_hand() -> None:
    """2 x 1 x 1 voxels of 2 mm to 1 mm: three voxels, the middle one halfway; then padded by 1 and 2."""
    array = np.array([0, 100], dtype=np.int16).reshape(2, 1, 1)
    settings = Preprocess(
        spacing_mm=(1.0, 1.0, 1.0), window_hu=(-100.0, 100.0), foreground_above=None, min_size_vox=(6, 1, 1)
    )
    found = preprocess(scan_of(array, np.diag([2.0, 1.0, 1.0, 1.0])), settings)
    np.testing.assert_allclose(found.array_xyz[:, 0, 0], [0, 0.5, 0.75, 1.0, 0, 0])
    assert found.record.pad_before == (1, 0, 0)
    assert found.record.pad_after == (2, 0, 0)
    assert found.affine[0, 3] == -1.0


def test_a_constant_region_at_the_lower_end_is_background_after_resampling() -> None:
    hu = np.full((20, 20, 20), -175, dtype=np.int16)
    hu[8:12, 8:12, 8:12] = 100
    found = preprocess(scan_of(hu, np.diag([1.0, 1.0, 1.0, 1.0])), Preprocess(spacing_mm=(0.7, 0.7, 0.7)))
    # Voxels above 0 lie between 7 and 12 exclusive: coordinates 7.7 to 11.9, steps 11 to 16 or 17.
    assert found.record.box_start == (11, 11, 11)
    assert found.record.box_size == (7, 7, 7)


def test_percentiles_of_the_scan_map_to_0_and_1() -> None:
    values = np.arange(1001, dtype=np.float32).reshape(7, 11, 13) * 3
    settings = Preprocess(intensity="percentiles", percentiles=(10.0, 90.0), foreground_above=None)
    found = preprocess(scan_of(values, np.eye(4)), settings).array_xyz
    np.testing.assert_allclose(found, np.clip((values - 300) / 2400, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("hu", "settings", "message"),
    [
        (np.full((4, 4, 4), -1000, np.int16), Preprocess(), "no voxel above"),
        (np.full((4, 4, 4), 7, np.int16), Preprocess(intensity="percentiles"), "both percentiles"),
        (np.full((4, 4, 4), np.nan, np.float32), Preprocess(), "not finite"),
    ],
)
def test_unusable_scans_are_named(hu: NDArray[Any], settings: Preprocess, message: str) -> None:
    with pytest.raises(DataError, match=f"bad.nii.*{message}"):
        preprocess(scan_of(hu, np.eye(4), "bad.nii"), settings)


@pytest.mark.parametrize("codes", ["RAS", "IPL"])
def test_label_equals_monai_nearest_spacing(tmp_path: Path, codes: str) -> None:
    from monai import transforms

    affine = oriented_affine(codes, (1.3, 1.7, 3.1))
    labels = np.random.default_rng(1).integers(0, 14, (17, 23, 19)).astype(np.uint8)
    path = write_nifti(tmp_path / "seg.nii.gz", labels, affine)
    steps = [
        transforms.LoadImage(reader="NibabelReader"),
        transforms.EnsureChannelFirst(),
        transforms.Orientation("RAS", labels=None),
        transforms.Spacing((1.1, 1.2, 1.9), mode="nearest"),
    ]
    expected = transforms.Compose(steps)(path)[0].numpy()
    settings = Preprocess(spacing_mm=(1.1, 1.2, 1.9), foreground_above=None)
    image = scan_of(body_hu((17, 23, 19)), affine)
    found = preprocess_label(read_scan(path), preprocess(image, settings).record)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_label_follows_its_image(name: str) -> None:
    """A label map that is the thresholded scan is, after preprocessing, the thresholded volume but for its rim."""
    affine = oriented_affine("LPS", (1.3, 1.7, 3.1))
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (37, 43, 29)), indexing="ij")
    smooth = (200 - 400 * sum((g - 0.1) ** 2 for g in grids)).astype(np.int16)
    settings = SETTINGS[name].model_copy(update={"window_hu": (-400.0, 200.0)})
    volume = preprocess(scan_of(smooth, affine), settings)
    label = preprocess_label(scan_of((smooth > 50).astype(np.uint8), affine), volume.record)
    expected = volume.array_xyz > (50 + 400) / 600
    assert label.shape == volume.array_xyz.shape
    overlap = 2 * (label.astype(bool) & expected).sum() / (label.sum() + expected.sum())
    assert overlap > 0.95


def test_label_stored_along_other_axes_is_the_same_label() -> None:
    affine = np.diag([1.3, 1.7, 3.1, 1.0])
    array = body_hu((20, 18, 16))
    record = preprocess(scan_of(array, affine), Preprocess(spacing_mm=(1.5, 1.5, 2.0))).record
    labels = (array > 0).astype(np.uint8)
    flipped = affine.copy()
    flipped[:, 0] *= -1
    flipped[0, 3] = 1.3 * 19
    exchanged = affine[:, [1, 0, 2, 3]]
    expected = preprocess_label(scan_of(labels, affine), record)
    assert expected.any()
    for stored, where in ((labels[::-1], flipped), (labels.transpose(1, 0, 2), exchanged)):
        assert np.array_equal(preprocess_label(scan_of(stored, where), record), expected)


def test_label_on_another_grid_is_refused() -> None:
    record = preprocess(scan_of(body_hu((20, 20, 20)), np.eye(4)), Preprocess()).record
    with pytest.raises(GeometryError, match="voxels, but its scan"):
        preprocess_label(scan_of(np.zeros((20, 20, 21), np.uint8), np.eye(4)), record)
    shifted = np.eye(4)
    shifted[0, 3] = 2.0
    with pytest.raises(GeometryError, match=r"2\.00 mm off"):
        preprocess_label(scan_of(np.zeros((20, 20, 20), np.uint8), shifted), record)


def test_shape_from_the_header_is_an_upper_bound() -> None:
    for settings in SETTINGS.values():
        found = preprocess(scan_of(body_hu((37, 43, 29)), np.diag([1.3, 1.7, 3.1, 1.0])), settings)
        largest = preprocessed_shape((37, 43, 29), (1.3, 1.7, 3.1), settings)
        assert all(n <= most for n, most in zip(found.record.shape_xyz, largest, strict=True))
    without_cut = SETTINGS["spacing only"]
    found = preprocess(scan_of(body_hu((37, 43, 29)), np.diag([1.3, 1.7, 3.1, 1.0])), without_cut)
    assert found.record.shape_xyz == preprocessed_shape((37, 43, 29), (1.3, 1.7, 3.1), without_cut)
