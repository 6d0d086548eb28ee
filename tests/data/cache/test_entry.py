from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.entry import content_identity, label_key, settings_fingerprint, volume_key
from voco_cli.errors import DataError


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii"
    path.write_bytes(os.urandom(50_000))
    return path


def test_every_setting_that_changes_a_voxel_changes_the_fingerprint() -> None:
    plain = Preprocess()
    fingerprints = {
        settings_fingerprint(settings, cache)
        for settings, cache in [
            (plain, Cache()),
            (Preprocess(spacing_mm=(1.5, 1.5, 1.5)), Cache()),
            (Preprocess(window_hu=(-1000.0, 500.0)), Cache()),
            (Preprocess(foreground_above=None), Cache()),
            (Preprocess(foreground_above=0.3), Cache()),
            (Preprocess(min_size_vox=(64, 64, 64)), Cache()),
            (Preprocess(resize_vox=(64, 64, 64)), Cache()),
            (Preprocess(intensity="percentiles"), Cache()),
            (Preprocess(intensity="percentiles", percentiles=(1.0, 99.0)), Cache()),
            (plain, Cache(dtype="int16")),
        ]
    }
    assert len(fingerprints) == 10


def test_settings_that_change_no_voxel_keep_the_fingerprint() -> None:
    fingerprint = settings_fingerprint(Preprocess(), Cache())
    assert fingerprint == settings_fingerprint(Preprocess(percentiles=(1.0, 99.0)), Cache())
    other = Cache(codec="lz4", level=5, workers=3, chunk_vox=(32, 32, 32))
    assert fingerprint == settings_fingerprint(Preprocess(), other)


def test_key_depends_on_scan_and_settings(scan: Path) -> None:
    assert (
        len({volume_key(scan, (), "a", False), volume_key(scan, (), "b", False), volume_key(scan, (), "a", True)}) == 3
    )


def test_content_counts_and_the_name_does_not(scan: Path, tmp_path: Path) -> None:
    before = content_identity(scan, full_hash=False)
    copy = tmp_path / "other.nii"
    shutil.copy2(scan, copy)
    assert content_identity(copy, full_hash=False) == before
    stat = scan.stat()
    changed = bytearray(scan.read_bytes())
    changed[len(changed) // 2] ^= 1
    scan.write_bytes(changed)
    os.utime(scan, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_identity(scan, full_hash=False) != before  # size and time are the same: a sample differs


def test_full_hash_ignores_the_time_and_sees_every_byte(scan: Path) -> None:
    before = content_identity(scan, full_hash=True)
    os.utime(scan, (1, 1))
    assert content_identity(scan, full_hash=True) == before
    assert content_identity(scan, full_hash=False) != before
    changed = bytearray(scan.read_bytes())
    changed[8_000] ^= 1
    scan.write_bytes(changed)
    assert content_identity(scan, full_hash=True) != before


def test_voxels_beside_their_header_count(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw")
    (tmp_path / "a.raw").write_bytes(b"1234")
    before = content_identity(tmp_path / "a.mhd", full_hash=True)
    (tmp_path / "a.raw").write_bytes(b"1235")
    assert content_identity(tmp_path / "a.mhd", full_hash=True) != before


def test_each_file_of_a_series_counts(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(bytes([number]))
    before = content_identity(tmp_path, full_hash=True)
    (tmp_path / "2.dcm").write_bytes(b"x")
    assert content_identity(tmp_path, full_hash=True) != before


def test_label_key_depends_on_volume_and_label(scan: Path, tmp_path: Path) -> None:
    other = tmp_path / "seg.nii"
    other.write_bytes(b"label")
    assert len({label_key("a", scan, False), label_key("b", scan, False), label_key("a", other, False)}) == 3


def test_missing_scan_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.nii does not exist"):
        volume_key(tmp_path / "gone.nii", (), "settings", False)


def test_the_file_that_a_header_names_counts_whatever_it_is_called(tmp_path: Path) -> None:
    start = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\nencoding: raw\n"
    (tmp_path / "a.nhdr").write_text(start + "data file: voxels.bin\n")
    (tmp_path / "voxels.bin").write_bytes(bytes(48))
    before = content_identity(tmp_path / "a.nhdr", full_hash=True)
    (tmp_path / "voxels.bin").write_bytes(bytes(47) + b"\1")
    assert content_identity(tmp_path / "a.nhdr", full_hash=True) != before
    (tmp_path / "voxels.bin").unlink()
    with pytest.raises(DataError, match=r"voxels\.bin"):
        content_identity(tmp_path / "a.nhdr", full_hash=True)
