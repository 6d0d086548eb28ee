"""Scans in an object store: indexed, cached and read as those of a disk are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import make_entries
from tests.stores import Traffic
from voco_cli.atomic_files import write_atomic
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.entry import volume_key
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import DataError, ResourceError, UsageError
from voco_cli.object_stores import RemotePath, facts, know_all_below, location

SETTINGS = Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(32, 32, 32))


def send(folder: Path, place: str) -> None:
    """Put the files of a folder into the store."""
    for file in sorted(folder.iterdir()):
        write_atomic(location(f"{place}/{file.name}"), file.read_bytes())


@pytest.fixture
def scans(tmp_path: Path, s3: Traffic) -> list[Entry]:
    """Two scans with label maps in tmp_path/ct and in s3://scans/ct; the entries are those of the disk."""
    (tmp_path / "ct").mkdir()
    entries = make_entries(tmp_path / "ct", 2, (40, 36, 24), label=True)
    send(tmp_path / "ct", "s3://scans/ct")
    return entries


def in_store(entry: Entry) -> Entry:
    place = location("s3://scans/ct")
    assert entry.label is not None
    return entry.model_copy(update={"image": place / entry.image.name, "label": place / entry.label.name})


def test_a_prefix_is_indexed_as_a_folder_is(tmp_path: Path, s3: Traffic) -> None:
    (tmp_path / "ct").mkdir()
    for entry in make_entries(tmp_path / "ct", 2, label=True):
        assert entry.label is not None
        entry.label.rename(entry.label.with_name(entry.image.name.replace(".", "_seg.", 1)))
    (tmp_path / "ct" / "notes.txt").write_bytes(b"x")
    send(tmp_path / "ct", "s3://scans/ct")
    write_atomic(location("s3://scans/ct/.hidden.nii.gz"), b"x")
    for place, listed in (("ct", "local.json"), ("s3://scans/ct", "data.json")):
        inputs = [location(place) if "s3" in place else tmp_path / place]
        index = build_index(inputs, tmp_path / listed, IndexOptions(modality="CT"))
        write_datalist(index, tmp_path / listed)
        assert read_datalist(tmp_path / listed) == index
    text = (tmp_path / "data.json").read_text()
    assert '"image": "s3://scans/ct/case_0.nii.gz", "label": "s3://scans/ct/case_0_seg.nii.gz"' in text
    assert text.replace("s3://scans/ct", "ct") == (tmp_path / "local.json").read_text()


def test_headers_are_read_without_the_voxels(scans: list[Entry], s3: Traffic, tmp_path: Path) -> None:
    image = in_store(scans[0]).image
    header = read_header(image)
    assert header.path == image
    assert header.shape_xyz == (40, 36, 24)
    assert list((tmp_path / "scratch").iterdir()) == []
    scan = read_scan(image)
    assert scan.path == image
    assert np.array_equal(scan.array_zyx, read_scan(scans[0].image).array_zyx)


def test_an_identity_is_what_the_store_says(scans: list[Entry], s3: Traffic, tmp_path: Path) -> None:
    image = in_store(scans[0]).image
    assert isinstance(image, RemotePath)
    s3.requests.clear()
    key = volume_key(image, (), "settings", full_hash=False)
    assert s3.count("GET") == 0
    assert volume_key(in_store(scans[1]).image, (), "settings", full_hash=False) != key
    write_atomic(image.with_name("copy.nii.gz"), image.read_bytes())
    assert volume_key(image.with_name("copy.nii.gz"), (), "settings", full_hash=False) == key
    write_atomic(image, scans[1].image.read_bytes())
    assert volume_key(image, (), "settings", full_hash=False) != key
    whole = volume_key(image, (), "settings", full_hash=True)
    assert whole == volume_key(scans[1].image, (), "settings", full_hash=True)
    with pytest.raises(DataError, match=r"s3://scans/ct/gone.nii.gz does not exist\."):
        volume_key(image.with_name("gone.nii.gz"), (), "settings", full_hash=False)


def test_what_is_missing_is_counted_and_secrets_are_refused(tmp_path: Path, scans: list[Entry]) -> None:
    listed = tmp_path / "data.json"
    gone = in_store(scans[0]).model_copy(update={"image": location("s3://scans/ct/gone.nii.gz")})
    write_datalist(Datalist(training=(gone,)), listed)
    with pytest.raises(DataError, match=r"lists 1 file that is missing: s3://scans/ct/gone.nii.gz\."):
        read_datalist(listed)
    for url in ("s3://me:secret@scans/x.nii.gz", "https://host/x.nii.gz?X-Amz-Signature=secret"):
        for content in ({"format": "voco-data/1", "training": [{"image": url, "patient": "p"}]}, {"training": [url]}):
            listed.write_text(json.dumps(content))
            with pytest.raises(UsageError) as refused:
                read_datalist(listed)
            assert "must not be written down" in refused.value.message
            assert "secret" not in refused.value.message


def test_what_is_no_scan_of_one_file_is_named(s3: Traffic) -> None:
    write_atomic(location("s3://scans/slice.dcm"), b"x" * 200)
    with pytest.raises(DataError) as refused:
        read_scan(location("s3://scans/slice.dcm"))
    assert refused.value.message == "s3://scans/slice.dcm is no scan that is read from a store."
    write_atomic(location("s3://scans/half.nii.gz"), b"\x1f\x8bno such thing")
    with pytest.raises(DataError, match=r"^s3://scans/half.nii.gz "):
        read_scan(location("s3://scans/half.nii.gz"))


def test_a_cache_in_a_store_holds_what_one_on_a_disk_does(tmp_path: Path, scans: list[Entry], s3: Traffic) -> None:
    remote = [in_store(entry) for entry in scans]
    local = VolumeCache(tmp_path / "cache", SETTINGS, Cache(), labels=True)
    assert local.build(scans, workers=1).built == 2
    there = VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache(), labels=True)
    assert there.lookup(remote[0]) is None
    assert there.build(remote, workers=1).built == 2
    assert there.build(remote, workers=1).reused == 2
    assert (there.stats().volumes, there.stats().labels, there.stats().unreadable) == (2, 2, 0)
    for ours, theirs in zip(scans, remote, strict=True):
        one, other = local.lookup(ours), there.lookup(theirs)
        assert one is not None
        assert other is not None
        assert one.metadata.stored_hash == other.metadata.stored_hash
        assert (one.shape_xyz, one.dtype, one.label_hash) == (other.shape_xyz, other.dtype, other.label_hash)
        region = (1, 2, 3), (20, 16, 8)
        assert np.array_equal(one.read(*region), other.read(*region))
        assert np.array_equal(one.read_label(*region), other.read_label(*region))


def test_a_start_asks_for_the_cache_in_one_listing(scans: list[Entry], s3: Traffic) -> None:
    remote = [in_store(entry) for entry in scans]
    VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache()).build(remote, workers=1)
    know_all_below(location("s3://scans/ct"))
    s3.requests.clear()
    cache = VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache())
    assert all(cache.lookup(entry) for entry in remote)
    assert len(s3.requests) == 1


def test_a_damaged_volume_is_found_removed_and_built_again(scans: list[Entry], s3: Traffic) -> None:
    remote = [in_store(entry) for entry in scans]
    cache = VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache())
    cache.build(remote, workers=1)
    volume = cache.lookup(remote[0])
    assert volume is not None
    assert isinstance(volume.path, RemotePath)
    expected = volume.read((0, 0, 0), volume.shape_xyz)
    content = bytearray(volume.path.read_bytes())
    content[len(content) // 2] ^= 255
    write_atomic(volume.path, bytes(content))
    report = cache.verify(workers=1)
    assert (report.checked, [path for path, _ in report.damaged]) == (2, [volume.path])
    cache.remove(path for path, _ in report.damaged)
    assert cache.build(remote, workers=1).built == 1
    assert cache.verify(workers=1).damaged == []
    assert np.array_equal(volume.read((0, 0, 0), volume.shape_xyz), expected)
    superfluous = cache.lookup(remote[1])
    assert superfluous is not None
    assert cache.prune(remote[:1]).removed == [superfluous.path]
    assert cache.stats().volumes == 1


def test_a_build_whose_writes_are_cut_leaves_nothing_half(
    scans: list[Entry], s3: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    cache = VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache())
    remote = [in_store(entry) for entry in scans]
    s3.cut_writes = 1000
    with pytest.raises(ResourceError, match=r"^s3://scans/cache/volumes/[^ ]* cannot be written: [^\n]*\.$"):
        cache.build(remote, workers=1)
    s3.cut_writes = 0
    cache = VolumeCache(Path("s3://scans/cache"), SETTINGS, Cache())
    assert cache.stats().volumes == 0
    assert cache.build(remote, workers=1).built == 2
    assert facts(cache._stored("volumes")[0]).size > 0
