"""The stored numbers of DICOM pixels, as the scanner wrote them: nothing rescaled, nothing inverted, nothing guessed.

SimpleITK would rescale a whole series by its first slice, and turn MONOCHROME1 round, which says how to show a picture
and not what its numbers are. So uncompressed pixels are taken from the file as they lie, and of compressed ones
SimpleITK gets a copy without any of these fields to decode.
"""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    UncompressedTransferSyntaxes,
    generate_uid,
)

from voco_cli.errors import DataError

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
FRAME_TAGS = (SHARED, PER_FRAME)
# The groups that say where a frame lies and what its numbers mean, and those that tell it from others at its place.
GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
)
# (2005,100E): Philips' private scale slope; it lies in no public dictionary, so it goes by its number.
PHILIPS_SCALE = 0x2005100E
# Fields that nothing depends on: a number that is none there damages no scan.
LOOSE = ("SeriesNumber", "InstanceNumber", "AcquisitionNumber", "EchoNumbers", "TemporalPositionIdentifier")
LOOSE_TAGS = {tag_for_keyword(name) for name in (*LOOSE, "AcquisitionTime", "SliceThickness")}


@dataclass(frozen=True)
class Frames:
    """The fields of each frame, and why they cannot be used; then there is one for the whole object."""

    values: tuple[Mapping[str, Any], ...]
    fault: tuple[str, str | None] | None = None


def frame_values(dataset: Any) -> Frames:
    """Return the fields of each frame of an object, by keyword; its own go before those that all frames share."""
    own = _fields(dataset)
    if hasattr(dataset, "file_meta"):
        own["TransferSyntaxUID"] = dataset.file_meta.get("TransferSyntaxUID", "")
    count = int(own.get("NumberOfFrames") or 1)
    shared, per_frame = own.pop(SHARED, None) or (), own.pop(PER_FRAME, None) or ()
    own |= _groups(shared[0]) if shared else {}
    if count == 1 and len(per_frame) <= 1:
        return Frames(({**own, **(_groups(per_frame[0]) if per_frame else {})},))
    if len(per_frame) != count:
        what = f"and says of {len(per_frame)} where they lie" if per_frame else "that do not say where they lie"
        return Frames((own,), (f"holds {count} frames {what}.", "Convert it first, for example with dcm2niix."))
    return Frames(tuple({**own, **_groups(group)} for group in per_frame))


def _groups(group: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in GROUPS:
        if items := group.get(name):
            found |= _fields(items[0])
    if mapping := group.get("RealWorldValueMappingSequence"):
        found["RealWorldValueMappingSequence"] = mapping
    return found


def _fields(dataset: Any) -> dict[str, Any]:
    found = {}
    for tag in dataset.keys():  # noqa: SIM118 (a data set goes through its elements, and decodes them)
        try:
            element = dataset[tag]
        except (ValueError, TypeError):
            if tag in LOOSE_TAGS:
                continue
            raise
        found["PhilipsScale" if tag == PHILIPS_SCALE else element.keyword or str(tag)] = element.value
    return found


# Not all of pydicom's list of JPEG 2000: it holds Part 2 and HTJ2K, too.
DECODED_BY_ITK = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000Lossless, JPEG2000}
PIXEL_DATA = 0x7FE00010
ALWAYS_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
DECODED_BY_EXTRA = {HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K}
CONVERT = "Convert the files to NIfTI first, for example with dcm2niix."


def pixel_fault(dataset: Any, file: IO[bytes], path: Path) -> tuple[str, str | None] | None:
    """Say why the pixels cannot be decoded, with a hint, as far as the header and the length of the file tell.

    Args:
        dataset: the fields before the pixels.
        file: where they were read from, which stands before the pixels.
    Returns:
        None where nothing is wrong, or the object holds no grey image.
    """
    values = {
        tag: dataset.get(tag) for tag in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
    }
    rows, columns, frames, samples, bits = (
        int(value or usual) for value, usual in zip(values.values(), (0, 0, 1, 1, 16), strict=True)
    )
    if rows <= 0 or columns <= 0 or samples != 1:
        return None
    syntax = dataset.file_meta.get("TransferSyntaxUID", "") if hasattr(dataset, "file_meta") else ""
    if syntax == DeflatedExplicitVRLittleEndian:  # the whole file is compressed, and its length tells nothing
        return None
    implicit, little = dataset.original_encoding
    order, start = "<" if little else ">", file.read(12)
    if len(start) < 8:
        return "holds no pixels.", "Copy or export it again."
    group, element = struct.unpack(f"{order}HH", start[:4])
    if (group << 16 | element) != PIXEL_DATA:
        return "holds no whole numbers (it is a map of calculated values).", "Convert it to NIfTI first."
    long_form = not implicit and start[4:6] in (b"OB", b"OW", b"UN")
    header = 12 if long_form else 8
    (length,) = struct.unpack(f"{order}I", start[8:12] if long_form else start[4:8])
    if bits not in (8, 16, 32):
        return f"has {bits} BitsAllocated, and 8, 16 or 32 are read.", "Convert it to NIfTI first."
    stored, high = int(dataset.get("BitsStored") or bits), dataset.get("HighBit")
    if not 1 <= stored <= bits or (high is not None and int(high) != stored - 1):
        return f"has {stored} BitsStored of {bits} with HighBit {high}, which is not read.", "Correct the header."
    if length == 0xFFFFFFFF:
        return decoding_fault(syntax)
    if syntax and syntax not in UncompressedTransferSyntaxes:
        return "says that its pixels are compressed, and they are not.", "Copy or export it again."
    needed = (rows * columns * frames * bits + 7) // 8
    found = min(length, path.stat().st_size - file.tell() + len(start) - header)
    if found < needed:
        return f"is truncated: its pixels are {needed - found} bytes too short.", "Copy or export it again."
    return None


def decoding_fault(syntax: str) -> tuple[str, str | None] | None:
    """Say why compressed pixels cannot be decoded here, with a hint; none where they can."""
    if not syntax:
        return "does not say how its pixels are compressed.", "Copy or export it again."
    if syntax in DECODED_BY_ITK or has_decoder(UID(syntax)):
        return None
    # In the sentence, since a list of refused files shows no hints.
    how = "needs a decoder: pip install 'voco-cli[dicom]'" if syntax in DECODED_BY_EXTRA else "is not decoded"
    return f"is compressed as {UID(syntax).name}, which {how}.", CONVERT


def has_decoder(syntax: UID) -> bool:
    """Return whether pydicom decodes a transfer syntax with what is installed."""
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def lossy_note(syntax: str, lossy: str) -> str | None:
    """Return the note on pixels that were compressed with loss, by the format or their file; none of others."""
    if syntax in ALWAYS_LOSSY:
        return f"compressed with loss ({UID(syntax).name})"
    return "compressed with loss at some time (LossyImageCompression)" if lossy == "01" else None


def stored_frames(path: Path) -> NDArray[Any]:
    """Decode all frames of a DICOM file.

    Returns:
        frames, rows, columns; the stored whole numbers.
    Raises:
        DataError: pixels that are missing, damaged, cut, or compressed in a way that is not decoded here.
    """
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            return _within_bits(_decode(dataset), dataset, path)
    except DataError:
        raise
    except Exception as error:  # each decoder has errors of its own
        text = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise DataError(f"{path} cannot be decoded: {text.rstrip('.')}.", "Copy or export it again.") from error


def _decode(dataset: Any) -> NDArray[Any]:
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None or syntax in UncompressedTransferSyntaxes:
        return _as_they_lie(dataset)
    if syntax in DECODED_BY_ITK:
        return _by_itk(dataset, syntax)
    array: NDArray[Any] = get_decoder(syntax).as_array(dataset, raw=True)[0]
    return array.reshape(_shape(dataset))


def _as_they_lie(dataset: Any) -> NDArray[Any]:
    """Return uncompressed pixels; big-endian words may hold two pixels of 8 bits, which pydicom does not see."""
    little = dataset.original_encoding[1] is not False
    bits = int(dataset.BitsAllocated)
    raw = dataset.PixelData
    if bits == 8 and not little and dataset["PixelData"].VR == "OW":
        raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
    kind = np.dtype(f"{'i' if dataset.get('PixelRepresentation') else 'u'}{bits // 8}")
    shape = _shape(dataset)
    voxels = int(np.prod(shape, dtype=object))
    array = np.frombuffer(raw, kind.newbyteorder("<" if little else ">"), count=voxels)
    return array.reshape(shape).astype(kind, copy=False)


def _by_itk(dataset: Any, syntax: UID) -> NDArray[Any]:
    """Decode a copy that holds pixels and their format only, so that nothing is rescaled or turned round."""
    import SimpleITK as sitk  # late: headers alone need no decoder

    plain = Dataset()
    plain.SOPClassUID, plain.SOPInstanceUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid()
    plain.Rows, plain.Columns, plain.BitsAllocated = dataset.Rows, dataset.Columns, dataset.BitsAllocated
    plain.BitsStored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    plain.HighBit, plain.PixelRepresentation = plain.BitsStored - 1, int(dataset.get("PixelRepresentation") or 0)
    plain.SamplesPerPixel, plain.PhotometricInterpretation = 1, "MONOCHROME2"
    plain.NumberOfFrames = _shape(dataset)[0]
    plain["PixelData"] = dataset["PixelData"]
    plain["PixelData"].is_undefined_length = True
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = syntax
    plain.file_meta.MediaStorageSOPClassUID = plain.SOPClassUID
    plain.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID
    content = io.BytesIO()
    plain.save_as(content, enforce_file_format=True)
    with tempfile.NamedTemporaryFile(suffix=".dcm") as copy:
        copy.write(content.getvalue())
        copy.flush()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(copy.name)
        try:
            array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:  # its text tells of SimpleITK's insides
            raise ValueError(f"its pixels are no {syntax.name}") from error
    return array.reshape(_shape(dataset))


def _within_bits(array: NDArray[Any], dataset: Any, path: Path) -> NDArray[Any]:
    """Return the numbers of the stored bits; other bits of a pixel are not its own where an overlay lies in them.

    Raises:
        DataError: numbers beyond their bits without an overlay, since readers do not agree on what these are.
    """
    bits, signed = int(dataset.get("BitsStored") or dataset.BitsAllocated), bool(dataset.get("PixelRepresentation"))
    lowest, highest = stored_range(bits, signed)
    if lowest <= array.min() and array.max() <= highest:
        return array
    overlaid = any(dataset.get((group, 0x0102)) and dataset[group, 0x0102].value for group in range(0x6000, 0x6020, 2))
    unextended = signed and array.min() >= 0 and array.max() < 1 << bits  # the sign is the highest stored bit
    if not overlaid and not unextended:
        raise DataError(
            f"{path} holds numbers from {array.min()} to {array.max()}, which are more than its {bits} BitsStored.",
            "Correct BitsStored and HighBit, or export it again.",
        )
    own = array.astype(np.int64) & ((1 << bits) - 1)
    return (own - ((own > highest) * (1 << bits))).astype(array.dtype)


def stored_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the lowest and the highest number of so many bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _shape(dataset: Any) -> tuple[int, int, int]:
    return int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
