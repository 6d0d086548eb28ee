"""Files damaged at random, with a seed: refused in one sentence or read as they were, never as other voxels.

Only what is compressed carries a checksum, so damage of uncompressed voxels cannot be told; there headers are damaged.
"""

from __future__ import annotations

import bz2
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import VocoError

ARRAY = np.random.default_rng(0).integers(0, 300, (6, 10, 15)).astype(np.int16)
AFFINE = np.diag([-1.5, -2.0, 3.0, 1.0])
TRIES = 150

FILES = {  # of a scan: the file to damage, and whether its bytes carry a checksum
    "a.mha": ("a.mha", True),
    "a.mhd": ("a.zraw", True),
    "a.nrrd": ("a.nrrd", True),
    "b.nrrd": ("b.nrrd", True),
    "a.nhdr": ("a.raw.gz", True),
    "a.nii.gz": ("a.nii.gz", True),
    "p.hdr.gz": ("p.img.gz", True),
    "raw.mhd": ("raw.mhd", False),
    "raw.nhdr": ("raw.nhdr", False),
}


def write(folder: Path) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing((1.5, 2, 3))
    for name in ("a.mha", "a.mhd", "a.nrrd", "a.nhdr", "raw.mhd", "raw.nhdr"):
        sitk.WriteImage(image, str(folder / name), not name.startswith("raw"))
    start, data = (folder / "raw.nhdr").read_bytes(), ARRAY.tobytes()
    kept = b"\n".join(line for line in start.split(b"\n") if not line.startswith(b"data file"))
    (folder / "b.nrrd").write_bytes(kept.rstrip().replace(b": raw", b": bzip2") + b"\n\n" + bz2.compress(data))
    nib.save(nib.Nifti1Image(ARRAY.T, AFFINE), folder / "a.nii.gz")
    nib.save(nib.Nifti1Pair(ARRAY.T, AFFINE), folder / "p.img.gz")


def damaged(good: bytes, rng: np.random.Generator) -> bytes:
    """One of: a bit flipped, bytes set to zero, cut, bytes put in between, a digit of the header made many."""
    raw = bytearray(good)
    at, what = int(rng.integers(len(raw))), int(rng.integers(5))
    if what == 0:
        raw[at] ^= 1 << int(rng.integers(8))
    elif what == 1:
        raw[at : at + 50] = bytes(len(raw[at : at + 50]))
    elif what == 2:
        del raw[at:]
    elif what == 3:
        raw[at:at] = rng.bytes(int(rng.integers(1, 50)))
    else:
        digits = [i for i, byte in enumerate(raw[:400]) if chr(byte).isdigit()]
        raw[digits[at % len(digits)] : digits[at % len(digits)] + 1] = b"9" * int(rng.integers(1, 400))
    return bytes(raw)


def refusal(path: Path) -> str | None:
    """What is said of a file; none where it holds the right voxels."""
    try:
        read_header(path)
        np.testing.assert_array_equal(read_scan(path).array_zyx, ARRAY)
    except VocoError as error:
        return error.message
    return None


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    path, target = tmp_path / name, tmp_path / FILES[name][0]
    good, rng = target.read_bytes(), np.random.default_rng(17)
    assert refusal(path) is None
    messages = []
    for _ in range(TRIES):
        target.write_bytes(damaged(good, rng))
        messages.append(refusal(path))
    said = [message for message in messages if message is not None]
    assert len(said) > TRIES * (0.75 if FILES[name][1] else 0.4)
    for message in said:
        assert message.startswith(f"{path} ")
        assert len(message) < len(str(path)) + 250
        assert "\n" not in message
