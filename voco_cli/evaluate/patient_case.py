"""Bring an image and what is drawn on it to the axes of the patient, by their headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.data.cache.grid import axes_to_ras
from voco_cli.data.io.geometry import same_grid, storage_order
from voco_cli.data.io.image import Scan, placement, ras_affine, whole_labels
from voco_cli.errors import DataError, GeometryError
from voco_cli.evaluate.label_fit import Triple


@dataclass(frozen=True)
class PatientCase:
    """Arrays of one shape; index 0 of x is the patient's left, of y the back, of z the feet.

    The axes of an oblique scan are those of its voxels, each under the name of the patient axis that it is nearest to.

    Attributes:
        image_xyz: intensities as stored.
        label_xyz, prediction_xyz: uint8 or uint16; None where there is none.
        spacing_mm: of the voxels along x, y, z.
        turned: whether each of x, y, z runs against the axis of the file.
    """

    image_xyz: NDArray[Any]
    label_xyz: NDArray[Any] | None
    prediction_xyz: NDArray[Any] | None
    spacing_mm: Triple
    turned: tuple[bool, bool, bool]

    @property
    def extent_mm(self) -> Triple:
        """Return the size of the volume along x, y, z."""
        x, y, z = (n * step for n, step in zip(self.image_xyz.shape, self.spacing_mm, strict=True))
        return (x, y, z)

    def file_index(self, axis: int, index: int) -> int:
        """Return the index, from 0, that a slice across ``axis`` has in the file."""
        return self.image_xyz.shape[axis] - 1 - index if self.turned[axis] else index


def patient_case(image: Scan, label: Scan | None, prediction: Scan | None) -> PatientCase:
    """Bring an image and what is drawn on it to the axes of the patient, without resampling the image.

    A label map on another grid is laid on the image's by its header, nearest neighbour.

    Raises:
        DataError: a label map with values that are not whole numbers from 0 to 65535.
        GeometryError: a label map none of whose structures lies inside the image.
    """
    axes, turned = axes_to_ras(ras_affine(image))
    label_xyz, prediction_xyz = (
        None if one is None else in_patient_axes(on_grid_of(one, image), image) for one in (label, prediction)
    )
    x_mm, y_mm, z_mm = (image.spacing_xyz_mm[axis] for axis in axes)
    return PatientCase(in_patient_axes(image.array_zyx, image), label_xyz, prediction_xyz, (x_mm, y_mm, z_mm), turned)


def in_patient_axes(array_zyx: NDArray[Any], image: Scan) -> NDArray[Any]:
    """Return a view of an array on the grid of an image, turned as the header of the image says."""
    axes, turned = axes_to_ras(ras_affine(image))
    array_xyz = array_zyx.transpose(2, 1, 0).transpose(axes)
    return array_xyz[tuple(slice(None, None, -1 if against else 1) for against in turned)]


def on_grid_of(label: Scan, image: Scan) -> NDArray[Any]:
    """Return the values of a label map at the voxels of an image, array order z, y, x; 0 outside the map.

    Raises:
        DataError, GeometryError: as `patient_case`.
    """
    try:
        values = whole_labels(label.array_zyx)
    except ValueError as error:
        raise DataError(f"{label.path} {error}.", "Give a label map: 0 is background.") from error
    order = storage_order(placement(label), label.shape_xyz, placement(image), image.shape_xyz)
    if order is not None:
        return order.array_zyx(values)
    # Voxel of the image to voxel of the label, both x, y, z; scipy counts axes in the order of the array.
    between = np.linalg.inv(ras_affine(label)) @ ras_affine(image)
    placed = np.asarray(
        ndimage.affine_transform(
            values,
            between[:3, :3][::-1, ::-1],
            between[:3, 3][::-1],
            output_shape=image.array_zyx.shape,
            order=0,
            mode="grid-constant",
        )
    )
    if values.any() and not placed.any():
        raise GeometryError(
            f"No structure of {label.path} lies inside {image.path}, by their headers.",
            "Give the label map of this image, or correct its origin and direction.",
        )
    return placed


def lies_on_grid_of(label: Scan, image: Scan) -> bool:
    """Return whether two scans store one voxel grid in one order, but for rounding in their headers."""
    return label.shape_xyz == image.shape_xyz and same_grid(placement(label), placement(image), image.shape_xyz)


def value_counts(label_xyz: NDArray[Any]) -> NDArray[np.int64]:
    """Count the voxels of each value of a label map, from 0 to its highest, in each slice across z: values x slices."""
    counts_VZ = np.zeros((int(label_xyz.max(initial=0)) + 1, label_xyz.shape[2]), np.int64)
    for index in range(label_xyz.shape[2]):
        counts_VZ[:, index] = np.bincount(label_xyz[:, :, index].ravel(), minlength=len(counts_VZ))
    return counts_VZ
