"""One generated CT of a torso with its label map, the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import FloatArray, draw_attenuation, draw_bowel, draw_organs, draw_wall, union
from voco_cli.errors import UsageError

FIELD_MM = (360.0, 280.0, 320.0)
"""Extent of the field of view along R, A, S: an adult torso from mid-chest to the iliac crests."""

RAS_IN_LPS = (-1.0, -1.0, 1.0)
"""Signs of the axes of a volume in RAS voxel order, in the LPS world of scans."""

AIR_HU = -1000.0
GAS_HU = -900.0
LUNG_BELOW_HU = -700.0
TEXTURE_SD_HU = 18.0
LEAST_SIZE_VOX = (32, 32, 12)

Size = tuple[int, int, int]


@dataclass(frozen=True)
class SyntheticCT:
    """A generated scan in RAS voxel order: index 0 of x is the patient's left, of y the back, of z the feet.

    Attributes:
        image_hu_xyz: int16, Hounsfield units.
        labels_xyz: uint8, 0 or one of the 13 BTCV organs (``anatomy.BTCV_ORGANS``).
        spacing_mm: distance of voxel centres along x, y, z.
    """

    image_hu_xyz: NDArray[np.int16]
    labels_xyz: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]

    def scan(self, path: Path) -> Scan:
        """Return the CT as a scan read from ``path`` would be, with its middle at the origin of the world."""
        middle_mm = [(n - 1) / 2 * step for n, step in zip(self.image_hu_xyz.shape, self.spacing_mm, strict=True)]
        origin = (middle_mm[0], middle_mm[1], -middle_mm[2])
        return Scan(self.image_hu_xyz.transpose(2, 1, 0), self.spacing_mm, origin, np.diag(RAS_IN_LPS), path)


def generate_ct(seed: int, shape_xyz: Size = (96, 96, 24)) -> SyntheticCT:
    """Draw a patient and scan it.

    Two patients differ in size, place and pose of the body, in a smooth warp, in place and size of each organ, in fat,
    bowel, contrast phase, texture and noise. The same seed is the same patient at any shape.

    Args:
        seed: not negative; fixes everything.
        shape_xyz: voxels; the field of view stays ``FIELD_MM``, so the spacing follows.
    Raises:
        UsageError: a shape so small that organs vanish between voxels.
    """
    if any(n < least for n, least in zip(shape_xyz, LEAST_SIZE_VOX, strict=True)):
        raise UsageError(
            f"A synthetic CT of {'x'.join(map(str, shape_xyz))} voxels is too small to hold all organs.",
            hint=f"ask for at least {'x'.join(map(str, LEAST_SIZE_VOX))} voxels",
        )
    rng = np.random.default_rng(seed)
    body_3XYZ = _body_coordinates(rng, shape_xyz)
    clean_hu, labels = _paint(rng, body_3XYZ)
    spacing = (FIELD_MM[0] / shape_xyz[0], FIELD_MM[1] / shape_xyz[1], FIELD_MM[2] / shape_xyz[2])
    return SyntheticCT(_scanned(rng, clean_hu), labels, spacing)


def _body_coordinates(rng: np.random.Generator, shape_xyz: Size) -> FloatArray:
    """Return (u, v, w) of every voxel centre: the field's coordinates shifted, scaled, turned about w and warped."""
    build = rng.uniform(0.88, 1.06)
    scale = (build * rng.uniform(0.96, 1.04), build * rng.uniform(0.96, 1.04), rng.uniform(0.85, 1.15))
    shift = (rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06), rng.uniform(-0.15, 0.15))
    angle = np.radians(rng.uniform(-8.0, 8.0))
    warp_nodes = rng.normal(0.0, 0.045, (3, 5, 5, 3))

    axes = [((np.arange(n) + 0.5) * 2 / n - 1).astype(np.float32) for n in shape_xyz]
    x, y, z = np.meshgrid(
        *((axis - np.float32(t)) / np.float32(s) for axis, t, s in zip(axes, shift, scale, strict=True)), indexing="ij"
    )
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    warp = warp_nodes
    for axis, places in enumerate(axes, start=1):
        warp = CubicSpline(np.linspace(-1, 1, warp.shape[axis]), warp, axis=axis)(places).astype(np.float32)
    return np.asarray(np.stack([cos * x + sin * y, cos * y - sin * x, z]) + warp, dtype=np.float32)


def _paint(rng: np.random.Generator, body_3XYZ: FloatArray) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Paint attenuation without noise, HU, and labels: the wall, then organs, each over what lies behind it."""
    hu_of = draw_attenuation(rng)
    wall, organs, bowel = draw_wall(rng), draw_organs(rng), draw_bowel(rng)
    stomach_level, fill_hu = rng.uniform(0.15, 0.5), rng.normal(0.0, 20.0)

    tissue = wall.masks(body_3XYZ)
    image = np.full(body_3XYZ.shape[1:], AIR_HU, dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    image[tissue.skin] = hu_of["fat"]
    image[tissue.muscle] = hu_of["muscle"]
    image[tissue.cavity] = hu_of["fat"] + 6
    for loop, gas in bowel:
        image[loop.inside(body_3XYZ) & tissue.cavity] = GAS_HU if gas else hu_of["bowel"] + fill_hu
    image[tissue.lungs] = hu_of["lung"]
    for organ in organs:
        inside = union(organ.shapes, body_3XYZ) & tissue.cavity
        if organ.name in ("liver", "spleen", "stomach", "colon"):
            inside &= ~tissue.lungs
        image[inside] = hu_of[organ.name]
        labels[inside] = organ.label
        if organ.name == "stomach":  # the patient lies on the back: gas rises to the front
            image[inside & (body_3XYZ[1] > stomach_level)] = GAS_HU
    image[tissue.bone] = hu_of["bone"] + 120
    image[tissue.marrow] = hu_of["bone"]
    image[tissue.canal] = 25.0
    labels[tissue.bone | tissue.marrow | tissue.canal] = 0
    return image, labels


def _scanned(rng: np.random.Generator, clean_hu: FloatArray) -> NDArray[np.int16]:
    """Add what a scanner would: soft edges, tissue texture, white noise of a patient's own strength."""
    noise_sd_hu = rng.uniform(8.0, 28.0)
    specks = gaussian_filter(rng.standard_normal(clean_hu.shape, dtype=np.float32), sigma=(1.0, 1.0, 0.6))
    vessels = (specks > 1.8 * specks.std()) & (clean_hu > GAS_HU) & (clean_hu < LUNG_BELOW_HU)
    image = gaussian_filter(np.where(vessels, np.float32(30), clean_hu), sigma=(0.6, 0.6, 0.3))
    texture = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), sigma=(1.5, 1.5, 0.7))
    texture *= np.float32(TEXTURE_SD_HU) / texture.std()
    image += np.where(clean_hu > AIR_HU, texture, np.float32(0))
    image += np.float32(noise_sd_hu) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def patient_seed(seed: int, index: int) -> int:
    """Return the seed of patient ``index`` of the group ``seed``; groups with different seeds share no patient."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def write_cts(
    folder: Path,
    count: int,
    seed: int,
    shape_xyz: tuple[int, int, int] = (96, 96, 24),
    spacing_mm: tuple[float, float, float] | None = None,
    labelled: bool = False,
) -> list[Path]:
    """Write ``count`` generated patients as compressed NIfTI; patient i is the same however many are asked for.

    Args:
        folder: made where it does not exist; files of the same names are replaced.
        count: patients.
        seed: of the group.
        shape_xyz: voxels.
        spacing_mm: spacing in the header; none is the field of view divided by the shape.
        labelled: write the label maps too.
    Returns:
        The image files, in order.
    Raises:
        UsageError: a shape too small to hold all organs.
        ResourceError: the folder cannot be written.
    """
    images = []
    for index in range(count):
        ct = generate_ct(patient_seed(seed, index), shape_xyz)
        if spacing_mm is not None:
            ct = replace(ct, spacing_mm=spacing_mm)
        name = f"phantom_{seed:03d}_{index:04d}"
        images.append(folder / "imagesTr" / f"{name}_0000.nii.gz")
        scan = ct.scan(images[-1])
        write_scan(scan.array_zyx, scan, images[-1])
        if labelled:
            write_scan(ct.labels_xyz.transpose(2, 1, 0), scan, folder / "labelsTr" / f"{name}.nii.gz")
    return images
