"""The manifest of a cache: what is asked of the file system, what makes a row count, and what a damaged file costs."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import make_entries, oriented_affine, write_nifti
from tests.file_operations import below, counted_operations
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.build import PreparedCache
from voco_cli.data.cache.manifest import VolumeFacts, read_rows, stamp, write_rows
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry

SETTINGS = Preprocess(spacing_mm=(4.0, 4.0, 4.0), min_size_vox=(8, 8, 8))
NIFTI = ".nii.gz"


def cache_in(folder: Path, labels: bool = False, **cache: object) -> VolumeCache:
    return VolumeCache(folder / "cache", SETTINGS, Cache.model_validate({"workers": 1, **cache}), labels)


def manifest_in(folder: Path) -> Path:
    (found,) = (folder / "cache" / "manifests").iterdir()
    return found


def counts(prepared: PreparedCache) -> tuple[int, int, int]:
    return prepared.report.built, prepared.report.reused, len(prepared.report.failed)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


FACTS = VolumeFacts(b"k" * 16, None, (3, 4, 5), (0.5, 1.25, 3.0), "ab" * 16, None)
LABELLED = FACTS._replace(key=b"m" * 16, label_key=b"l" * 16, label_hash="cd" * 16)


def test_rows_come_back_and_sqlite_reads_the_file(tmp_path: Path) -> None:
    rows = {b"1" * 16: FACTS, b"0" * 16: LABELLED}
    write_rows(tmp_path / "one.sqlite", rows)
    assert read_rows(tmp_path / "one.sqlite") == rows
    with sqlite3.connect(tmp_path / "one.sqlite") as tables:
        assert tables.execute("SELECT hex(key), x, z_mm FROM volumes ORDER BY key").fetchall() == [
            ("6B" * 16, 3, 3.0),
            ("6D" * 16, 3, 3.0),
        ]


def test_a_missing_file_has_no_rows_and_a_damaged_one_is_known_for_it(tmp_path: Path) -> None:
    path = tmp_path / "one.sqlite"
    assert read_rows(path) == {}
    write_rows(path, {b"1" * 16: FACTS})
    whole = path.read_bytes()
    assert read_rows(path) == {b"1" * 16: FACTS}
    place = whole.index(b"ab" * 16)
    for damaged in (b"", whole[:-1], whole[:place] + b"b" + whole[place + 1 :], whole[:40], b"<html>" * 20):
        path.write_bytes(damaged)
        assert read_rows(path) is None


def test_a_stamp_changes_with_place_time_size_and_inode_of_each_file(tmp_path: Path) -> None:
    (entry,) = make_entries(tmp_path, 1, label=True)
    assert entry.label is not None
    stamps = {stamp(entry, with_label=True), stamp(entry, with_label=False)}
    touch(entry.label)
    assert stamp(entry, with_label=False) in stamps
    stamps.add(stamp(entry, with_label=True))
    touch(entry.image)
    stamps.add(stamp(entry, with_label=False))
    # Another file of the same size and time takes the place.
    state, content = entry.image.stat(), entry.image.read_bytes()
    entry.image.rename(tmp_path / "old.nii.gz")
    entry.image.write_bytes(content)
    os.utime(entry.image, ns=(0, state.st_mtime_ns))
    stamps.add(stamp(entry, with_label=False))
    entry.image.write_bytes(content + b"\0")
    os.utime(entry.image, ns=(0, state.st_mtime_ns))
    stamps.add(stamp(entry, with_label=False))
    assert len(stamps) == 6
    entry.image.unlink()
    assert stamp(entry, with_label=False) is None


def test_of_a_series_the_folders_are_asked(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    (folder / "below").mkdir(parents=True)
    for name in ("1.dcm", "2.dcm", "below/3.dcm"):
        (folder / name).write_bytes(b"slice")
    entry = Entry(image=folder, patient="p")
    before = stamp(entry, with_label=False)
    with counted_operations() as found:
        assert stamp(entry, with_label=False) == before
    assert (found["state", str(folder)], found["state", str(folder / "below")]) == (1, 1)
    assert below(found, folder, ".dcm") == {}
    (folder / "below" / "4.dcm").write_bytes(b"slice")
    assert stamp(entry, with_label=False) != before


def test_a_second_start_asks_for_one_state_a_scan_and_opens_nothing(tmp_path: Path) -> None:
    scans, cache = tmp_path / "scans", tmp_path / "cache"
    scans.mkdir()
    entries = make_entries(scans, 3)
    first = cache_in(tmp_path).prepare(entries)
    assert (counts(first), first.notes) == ((3, 0, 0), ())
    prefixes = len(list((cache / "volumes").iterdir()))
    with counted_operations() as found:
        again = cache_in(tmp_path).prepare(entries)
    assert (counts(again), again.facts) == ((0, 3, 0), first.facts)
    assert below(found, scans) == {"state": 3}
    # The volumes: one listing of their folders and one of each; the manifest is opened once, and not written.
    assert below(found, cache) == {"list": 1 + prefixes, "open": 1}


def test_facts_are_what_scan_and_volume_say(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 2, label=True)
    cache = cache_in(tmp_path, labels=True)
    for prepared in (cache.prepare(entries), cache.prepare(entries)):
        for entry, facts in zip(entries, prepared.facts, strict=True):
            assert isinstance(facts, VolumeFacts)
            volume = cache.volume(facts, entry.image)
            assert volume == cache.lookup(entry)
            assert facts.shape_xyz == volume.shape_xyz
            assert facts.spacing_mm == pytest.approx((1.0, 1.2, 3.0))
            assert (facts.voxel_hash, facts.label_hash) == (volume.voxel_hash, volume.label_hash)


def test_what_changed_alone_is_looked_at(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    before = cache_in(tmp_path).prepare(entries)
    write_nifti(entries[1].image, np.full((40, 36, 20), 50, np.int16), oriented_affine("LPS", (1.0, 1.2, 3.0)))
    with counted_operations() as found:
        after = cache_in(tmp_path).prepare(entries)
    assert counts(after) == (1, 2, 0)
    assert [one == other for one, other in zip(before.facts, after.facts, strict=True)] == [True, False, True]
    opened = {path for (kind, path), _ in found.items() if kind == "open" and path.endswith(NIFTI)}
    assert opened == {str(entries[1].image)}


def test_other_settings_and_a_grown_list_are_looked_at(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    cache_in(tmp_path).prepare(entries[:2])
    assert counts(cache_in(tmp_path).prepare(entries)) == (1, 2, 0)
    assert counts(cache_in(tmp_path, dtype="int16").prepare(entries)) == (3, 0, 0)
    assert counts(cache_in(tmp_path, full_hash=True).prepare(entries)) == (3, 0, 0)
    assert len(list((tmp_path / "cache" / "manifests").iterdir())) == 3


def test_a_removed_volume_is_built_again(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    cache = cache_in(tmp_path)
    facts = cache.prepare(entries).facts[2]
    assert isinstance(facts, VolumeFacts)
    cache.volume(facts, entries[2].image).path.unlink()
    again = cache.prepare(entries)
    assert (counts(again), again.facts[2]) == ((1, 2, 0), facts)


def test_rows_of_arrays_that_are_removed_go_with_them(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    cache = cache_in(tmp_path)
    cache.prepare(entries)
    assert len(cache.prune(entries[:1]).removed) == 2
    assert [len(read_rows(manifest_in(tmp_path)) or {})] == [1]


def test_a_damaged_manifest_is_made_anew_and_said(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 2)
    first = cache_in(tmp_path).prepare(entries)
    path = manifest_in(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    again = cache_in(tmp_path).prepare(entries)
    assert (counts(again), again.facts) == ((0, 2, 0), first.facts)
    assert again.notes == (f"{path} was damaged: all scans were looked at, and it is made anew.",)
    assert path.read_bytes() == whole


def test_a_manifest_that_cannot_be_written_fails_no_build(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "manifests").write_bytes(b"in the way")
    prepared = cache_in(tmp_path).prepare(make_entries(tmp_path, 1))
    assert counts(prepared) == (1, 0, 0)
    assert prepared.notes[-1].endswith("The next start looks at all scans again.")


def test_recheck_opens_all_and_makes_again_what_does_not_open(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    cache = cache_in(tmp_path)
    first = cache.prepare(entries)
    facts = first.facts[0]
    assert isinstance(facts, VolumeFacts)
    path = cache.volume(facts, entries[0].image).path
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert counts(cache.prepare(entries)) == (0, 3, 0)  # it is there by name
    with counted_operations() as found:
        again = cache.prepare(entries, recheck=True)
    assert (counts(again), again.facts) == ((1, 2, 0), first.facts)
    assert again.notes == ("1 stored volume did not open, and was made again.",)
    assert path.read_bytes() == whole
    assert [found["open", str(entry.image)] for entry in entries[1:]] == [1, 1]  # samples of their bytes
    assert below(found, tmp_path / "cache" / "volumes")["volume"] == 3 + 1


def test_two_builders_of_other_scans_share_a_manifest(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 4)
    cache_in(tmp_path).prepare(entries[:2])
    cache_in(tmp_path).prepare(entries[2:])
    assert len(read_rows(manifest_in(tmp_path)) or {}) == 4
    with counted_operations() as found:
        assert counts(cache_in(tmp_path).prepare(entries)) == (0, 4, 0)
    assert below(found, tmp_path, NIFTI) == {"state": 4}


def test_no_name_of_a_file_is_in_the_manifest(tmp_path: Path) -> None:
    cache_in(tmp_path).prepare(make_entries(tmp_path, 2))
    content = manifest_in(tmp_path).read_bytes()
    assert b"case_0" not in content
    assert str(tmp_path).encode() not in content
