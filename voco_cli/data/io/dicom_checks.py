"""Checks that slices make one volume: decodable pixels, numbers of one kind, one even stack, one acquisition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.dicom_slices import Slice
from voco_cli.data.io.geometry import MAX_REPAIR_DEG
from voco_cli.errors import DataError, GeometryError

# Slice positions are written with two or three decimals; a missing slice doubles a gap.
GAP_SHARE, GAP_MM = 0.02, 0.05
SIDEWAYS_PIXELS = 0.25
# A cosine with two decimals is at most this far from length 1.
COSINE_LENGTH = 0.02
SAME_SCALE_SHARE = 1e-4
# Fields that number the slices of one acquisition, each with a number of its own.
ONE_A_SLICE = ("InstanceNumber", "InStackPositionNumber")
SPLIT = "Split it into series of their own, or remove the slices that do not belong to it."


def check_pixels(name: str, slices: Sequence[Slice]) -> None:
    """Refuse what holds no grey pixels that can be decoded.

    Args:
        name: of the series, for messages.
    Raises:
        DataError: no image, a scout, colour, or a slice with a fault (named).
    """
    first = slices[0]
    if not first.is_image:
        raise DataError(f"{name} holds no image.")
    if first.scout:
        raise DataError(f"{name} is a scout (ImageType LOCALIZER), a projection through the body and no slice.")
    if first.colour:
        raise DataError(f"{name} is a colour picture, and a scan holds one number a voxel.")
    for one in slices:
        if one.fault is not None:
            raise DataError(f"{one.path} {one.fault[0]}", one.fault[1])


def check_alike(name: str, slices: Sequence[Slice]) -> None:
    """Refuse slices whose numbers or places do not mean the same.

    Raises:
        DataError: several units, scales that cannot be compared, or a scale on some slices only.
        GeometryError: several frames of reference, or several stacks in one file.
    """
    _check_one(DataError, name, "units", [one.units for one in slices])
    _check_one(GeometryError, name, "frames of reference", [one.frame_of_reference for one in slices])
    _check_one(GeometryError, name, "stacks of slices", [one.stack for one in slices])
    unscaled = sum(one.slope is None for one in slices)
    if 0 < unscaled < len(slices):
        raise DataError(
            f"{name} has no RescaleSlope and RescaleIntercept on {unscaled} of {len(slices)} slices.",
            "Export it again, or remove the slices that do not belong to it.",
        )
    if unscaled and len({one.real_world for one in slices}) > 1:
        raise DataError(
            f"{name} has stored numbers whose RealWorldValueMapping differs by slice, and no RescaleSlope.",
            "Convert it to NIfTI with a reader of the manufacturer's scaling.",
        )
    scales = [(one.slope or 1) * one.philips_scale for one in slices if one.philips_scale]
    if scales and (len(scales) < len(slices) or max(scales) - min(scales) > SAME_SCALE_SHARE * max(map(abs, scales))):
        raise DataError(
            f"{name} has slices that Philips' private scale slope (2005,100E) scales each in its own way, so that "
            "their rescaled values cannot be compared.",
            "Convert it with dcm2niix, which reads that scale.",
        )


def stack_axes(name: str, slices: Sequence[Slice]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the step from column to column and from row to row that all slices share, LPS, mm.

    Raises:
        GeometryError: no geometry, a single slice, or steps that differ from slice to slice.
    """
    placeless = sum(None in (one.position_mm, one.orientation, one.pixel_mm) for one in slices)
    if placeless:
        raise GeometryError(
            f"{name} has no geometry: {placeless} of {len(slices)} slices lack ImagePositionPatient, "
            "ImageOrientationPatient or PixelSpacing.",
            "Export it again with these fields; SliceLocation alone does not say where a slice lies.",
        )
    if len(slices) == 1:
        raise GeometryError(f"{name} is 2-D (a single slice), and a scan is 3-D.")
    pixels_mm = np.array([one.pixel_mm for one in slices], dtype=np.float64)
    cosines = np.array([one.orientation for one in slices], dtype=np.float64).reshape(-1, 2, 3)
    if not (pixels_mm > 0).all():
        raise GeometryError(f"{name} has PixelSpacing {pixels_mm.min():g} mm.", "Correct the header.")
    lengths = np.linalg.norm(cosines, axis=2, keepdims=True)
    if np.abs(lengths - 1).max() > COSINE_LENGTH:
        worst = lengths.flat[np.abs(lengths - 1).argmax()]
        raise GeometryError(f"{name} has direction cosines of length {worst:.2f} in place of 1.", "Correct the header.")
    # PixelSpacing is the distance of rows, then of columns; the first cosines go along a row.
    steps_mm = cosines / lengths * pixels_mm[:, ::-1, None]
    steps_mm = np.where(np.abs(lengths - 1) < 1e-12, cosines * pixels_mm[:, ::-1, None], steps_mm)
    usual = np.median(steps_mm, axis=0)
    _check_steps(name, slices, steps_mm, usual)
    return usual[0], usual[1]


def check_stack(name: str, positions: NDArray[np.float64], normal: NDArray[np.float64], pixel_mm: float) -> None:
    """Refuse positions (sorted along the normal, LPS, mm) that are no even stack at right angles.

    Args:
        pixel_mm: the smaller edge of a pixel.
    Raises:
        GeometryError: slices at one place, a gantry tilt, uneven gaps or slices shifted sideways, all named.
    """
    faults = []
    gaps_mm = np.diff(positions @ normal)
    usual_mm = float(np.median(gaps_mm))
    if gaps_mm.min() < 1e-3:
        raise GeometryError(
            f"{name} has {int((gaps_mm < 1e-3).sum())} slices at the same position as another.",
            "It may hold several phases or echoes; split them into series of their own.",
        )
    travel = positions[-1] - positions[0]
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(travel, normal)), travel @ normal)))
    if tilt_deg > 2 * MAX_REPAIR_DEG:
        faults.append(f"a gantry tilt of {tilt_deg:.1f} degrees")
    if np.abs(gaps_mm - usual_mm).max() > max(GAP_SHARE * usual_mm, GAP_MM):
        faults.append(f"uneven slice gaps ({_gaps(gaps_mm)})")
    else:
        even = positions[0] + np.linspace(0, 1, len(positions))[:, None] * travel
        aside_mm = float(np.linalg.norm(np.cross(positions - even, normal), axis=1).max())
        if aside_mm > SIDEWAYS_PIXELS * pixel_mm:
            faults.append(f"slices shifted sideways by up to {aside_mm:.2f} mm")
    if faults:
        raise GeometryError(
            f"{name} has {' and '.join(faults)}.",
            "Find the missing slices, or resample to an even grid first (dcm2niix does so for gantry tilt).",
        )


def check_acquisitions(name: str, slices: Sequence[Slice], gap_mm: float) -> None:
    """Refuse slices (in order of position) that were acquired in several sweeps over the same range.

    Two acquisitions half a step apart make an even stack of twice the slices. What tells them is any number that
    counts up in one acquisition. MR slices are excited in turns, so there the numbers count only where slices are
    thicker than their distance, as those of two acquisitions are.

    Raises:
        DataError: interleaved acquisitions, with the field that tells.
    """
    thick_mm = max((one.thickness_mm or 0 for one in slices), default=0)
    if slices[0].modality == "MR" and 0 < thick_mm <= gap_mm * (1 + GAP_SHARE):
        return
    sweeps = [dict(one.sweeps) for one in slices]
    for field in sweeps[0]:
        numbers = [sweep[field] for sweep in sweeps if field in sweep]
        twice = field in ONE_A_SLICE and _stand_twice(numbers)
        if len(numbers) == len(slices) and (twice or _is_interleaved(numbers)):
            raise DataError(
                f"{name} holds several acquisitions whose slices interleave ({field} runs through the stack more than "
                "once), and a scan is one.",
                SPLIT,
            )


def _is_interleaved(numbers: Sequence[float]) -> bool:
    """Return whether slices, numbered by position, are passed by in steps of two and more in a few long sweeps.

    One sweep passes all slices one by one. Numbers in no order (drawn anew to make a scan anonymous) turn too often.
    """
    steps = np.diff(np.lexsort((np.arange(len(numbers)), np.asarray(numbers))))
    turns = int((np.sign(steps[1:]) != np.sign(steps[:-1])).sum())
    return bool(np.median(np.abs(steps)) >= 2 and turns <= len(numbers) / 3)


def _stand_twice(numbers: Sequence[float]) -> bool:
    """Return whether numbers that begin anew with each acquisition stand side by side; a single one does not."""
    values = np.asarray(numbers)
    counts = np.unique(values, return_counts=True)[1]
    return bool(len(counts) > 1 and counts.min() >= 2 and (values[1:] == values[:-1]).sum() >= len(values) / 3)


def _check_steps(name: str, slices: Sequence[Slice], steps_mm: NDArray[np.float64], usual: NDArray[np.float64]) -> None:
    """Refuse slices whose far corner would lie elsewhere on the shared steps."""
    extent = np.array([slices[0].columns - 1, slices[0].rows - 1])[:, None]
    corner_mm = np.linalg.norm(((steps_mm - usual) * extent).sum(axis=1), axis=1)
    if corner_mm.max() <= SIDEWAYS_PIXELS * np.linalg.norm(usual, axis=1).min():
        return
    spacings = Counter(one.pixel_mm for one in slices)
    if len(spacings) > 1:
        shown = ", ".join(
            f"{pixel[0]:g}x{pixel[1]:g} mm in {count}" for pixel, count in spacings.most_common(4) if pixel
        )
        raise GeometryError(f"{name} has {len(spacings)} pixel spacings in one series ({shown} slices).", SPLIT)
    raise GeometryError(
        f"{name} has slices of {len({one.orientation for one in slices})} orientations, which moves a corner by up to "
        f"{corner_mm.max():.2f} mm.",
        SPLIT,
    )


def _check_one(kind: type[DataError], name: str, what: str, values: Sequence[str]) -> None:
    counts = Counter(filter(None, values))
    if len(counts) > 1:
        shown = ", ".join(f"{value} on {count}" for value, count in counts.most_common(3))
        raise kind(f"{name} has {len(counts)} {what} in one series ({shown} slices).", SPLIT)


def _gaps(gaps_mm: NDArray[np.float64]) -> str:
    counts = Counter(round(float(gap), 2) for gap in gaps_mm).most_common()
    shown = ", ".join(f"{count} x {gap:g} mm" for gap, count in counts[:6])
    return shown + (f" and {len(counts) - 6} other sizes" if len(counts) > 6 else "")
