from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import blosc2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.cache.made_scans import body_hu, make_entries, oriented_affine, write_nifti
from voco_cli.atomic_files import UNFINISHED
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.preprocess import preprocess, preprocess_label
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.cache.volume import FULL_SCALE, StoredVolume, close_handles, compress, quantise
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, GeometryError, ResourceError

SETTINGS = Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(32, 32, 32))


def stored(cache: VolumeCache, entry: Entry) -> StoredVolume:
    volume = cache.lookup(entry)
    assert volume is not None
    return volume


def unit_volume(entry: Entry) -> NDArray[np.float32]:
    return preprocess(read_scan(entry.image), SETTINGS).array_xyz


@pytest.mark.parametrize(
    ("cache", "step"),
    [
        (Cache(), 1 / 255),
        (Cache(codec="lz4", chunk_vox=(16, 16, 16), block_vox=(8, 8, 8)), 1 / 255),
        (Cache(dtype="int16"), 1 / 32767),
        (Cache(dtype="float16"), 2**-11),
    ],
)
def test_stored_voxels_are_within_half_a_step(tmp_path: Path, cache: Cache, step: float) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, cache)
    assert volumes.lookup(entry) is None
    assert volumes.build([entry], workers=1).built == 1
    volume = stored(volumes, entry)
    expected = unit_volume(entry)
    found = volume.read((0, 0, 0), volume.shape_xyz)
    assert found.dtype == volume.dtype == np.dtype(cache.dtype)
    assert volume.shape_xyz == expected.shape
    assert np.abs(found.astype(np.float64) / FULL_SCALE[volume.dtype.name] - expected).max() <= step / 2 + 1e-7
    corner = volume.read((3, 4, 5), (20, 10, 7))
    assert np.array_equal(corner, found[3:23, 4:14, 5:12])
    assert corner.flags.c_contiguous


def test_quantise_rounds_to_the_nearest_byte_in_any_memory_order() -> None:
    values = np.linspace(0, 1, 2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    expected = np.floor(values * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    for axes in [(0, 1, 2), (2, 1, 0), (1, 2, 0)]:
        view = np.ascontiguousarray(values.transpose(axes)).transpose(np.argsort(axes))
        found = quantise(view, "uint8")
        assert np.array_equal(found, expected)
        assert found.flags.c_contiguous


def test_labels_are_kept_losslessly_beside_the_volume(tmp_path: Path) -> None:
    entry = make_entries(tmp_path, 1, label=True)[0]
    assert entry.label is not None
    without = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    without.build([entry], workers=1)
    with_labels = VolumeCache(tmp_path / "cache", SETTINGS, Cache(), labels=True)
    assert with_labels.lookup(entry) is None
    with_labels.build([entry], workers=1)
    volume = stored(with_labels, entry)
    record = preprocess(read_scan(entry.image), SETTINGS).record
    expected = preprocess_label(read_scan(entry.label), record)
    assert np.array_equal(volume.read_label((0, 0, 0), volume.shape_xyz), expected)
    assert volume.metadata.record == record
    with pytest.raises(DataError, match="without a label"):
        stored(without, entry).read_label((0, 0, 0), (1, 1, 1))


def test_values_of_a_label_map_are_noted_and_else_found(tmp_path: Path) -> None:
    (entry,) = make_entries(tmp_path, 1, label=True)
    cache = VolumeCache(tmp_path / "cache", SETTINGS, Cache(), labels=True)
    cache.build([entry], workers=1)
    volume = stored(cache, entry)
    values = np.unique(volume.read_label((0, 0, 0), volume.shape_xyz))
    assert volume.label_path is not None
    assert values.tolist() == [0, 1]
    assert volume.label_values == (1,)
    noted = blosc2.open(str(volume.label_path), mode="a")
    noted.schunk.vlmeta["voco_label_values"] = [3, 200]
    close_handles()
    assert volume.label_values == (3, 200)  # nothing was decoded
    del noted.schunk.vlmeta["voco_label_values"]  # as an earlier version wrote it
    close_handles()
    assert volume.label_values == (1,)


def test_a_region_is_read_into_memory_that_is_given(tmp_path: Path) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache(chunk_vox=(16, 16, 16), block_vox=(8, 8, 8)))
    volumes.build([entry], workers=1)
    volume = stored(volumes, entry)
    places = np.full((3, 9, 8, 7), 255, dtype=volume.dtype)
    assert volume.read((3, 0, 5), (9, 8, 7), places[1]) is not places
    assert np.array_equal(places[1], volume.read((3, 0, 5), (9, 8, 7)))
    assert (places[[0, 2]] == 255).all()


@pytest.mark.parametrize(
    ("blocks", "start", "size", "whole"),
    [
        ((8, 8, 8), (0, 16, 8), (8, 24, 32), True),
        ((8, 8, 8), (4, 0, 0), (8, 8, 8), False),
        ((8, 8, 8), (0, 0, 0), (8, 8, 12), False),
        ((6, 16, 16), (6, 0, 0), (6, 16, 16), False),  # blocks begin anew with each chunk, at 0, 6, 12, 16, 22
        ((6, 16, 16), (16, 0, 0), (16, 16, 16), True),
    ],
)
def test_whether_regions_share_a_block(
    tmp_path: Path, blocks: tuple[int, int, int], start: tuple[int, int, int], size: tuple[int, int, int], whole: bool
) -> None:
    cache = Cache(chunk_vox=(16, 16, 16), block_vox=blocks)
    path = tmp_path / "one.b2nd"
    path.write_bytes(compress(np.zeros((48, 48, 48), np.uint8), cache).to_cframe())
    assert StoredVolume(path).is_whole_blocks(start, size) is whole


@pytest.mark.parametrize(("start", "size"), [((-1, 0, 0), (4, 4, 4)), ((0, 0, 30), (4, 4, 4))])
def test_a_region_outside_is_refused(tmp_path: Path, start: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    volumes.build([entry], workers=1)
    with pytest.raises(GeometryError, match="reaches outside"):
        stored(volumes, entry).read(start, size)


def test_a_stored_volume_travels_as_paths(tmp_path: Path) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    volumes.build([entry], workers=1)
    volume = stored(volumes, entry)
    volume.read((0, 0, 0), (1, 1, 1))
    message = pickle.dumps(volume)
    assert len(message) < 1000
    again: StoredVolume = pickle.loads(message)
    assert np.array_equal(again.read((1, 2, 3), (4, 4, 4)), volume.read((1, 2, 3), (4, 4, 4)))


def test_reading_imports_neither_torch_nor_monai() -> None:
    code = "import sys, voco_cli.data.cache.volume; print({'torch', 'monai', 'SimpleITK'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_same_scan_is_recognised_in_another_container(tmp_path: Path) -> None:
    hu = body_hu((24, 20, 16))
    place = oriented_affine("LPS", (1.0, 1.2, 3.0))
    first = write_nifti(tmp_path / "a.nii.gz", hu, place)
    turned = place.copy()
    turned[0, 0] = -turned[0, 0]
    turned[0, 3] = (place @ [23, 0, 0, 1])[0]
    second = write_nifti(tmp_path / "b.nii", hu[::-1].astype(np.float32), turned)
    other = write_nifti(tmp_path / "c.nii", hu + np.int16(1), place)
    entries = [Entry(image=path, patient="p") for path in (first, second, other)]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    assert volumes.build(entries, workers=1).failed == []
    hashes = [stored(volumes, entry).voxel_hash for entry in entries]
    assert hashes[0] == hashes[1] != hashes[2]


def test_bad_scans_are_recorded_and_the_rest_is_built(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3)
    entries[1].image.write_bytes(b"nothing of use")
    gone = Entry(image=tmp_path / "gone.nii.gz", patient="p", shape=(4, 4, 4), spacing_mm=(1, 1, 1))
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    done: list[tuple[str, bool]] = []
    report = volumes.build(
        [*entries, gone], workers=2, on_done=lambda entry, reason: done.append((entry.image.name, reason is None))
    )
    assert (report.built, report.reused) == (2, 0)
    assert sorted(path.name for path, _ in report.failed) == ["case_1.nii.gz", "gone.nii.gz"]
    assert sorted(done) == [
        ("case_0.nii.gz", True),
        ("case_1.nii.gz", False),
        ("case_2.nii.gz", True),
        ("gone.nii.gz", False),
    ]
    again = volumes.build(entries, workers=1)
    assert (again.built, again.reused, len(again.failed), again.bytes) == (0, 2, 1, 0)


def test_two_processes_build_the_same_cache(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 4)
    images = [str(entry.image) for entry in entries]
    code = (
        "import sys; from pathlib import Path; from voco_cli.data.index.datalist import Entry\n"
        "from voco_cli.data.cache.store import VolumeCache; from voco_cli.config.schema import Cache, Preprocess\n"
        "entries = [Entry(image=Path(p), patient=p) for p in sys.argv[2:]]\n"
        "report = VolumeCache(Path(sys.argv[1]), Preprocess(), Cache()).build(entries, workers=1)\n"
        "sys.exit(len(report.failed))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), *images]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    volumes = VolumeCache(tmp_path / "cache", Preprocess(), Cache())
    assert volumes.verify(workers=1).damaged == []
    assert volumes.stats().volumes == 4
    assert list(tmp_path.rglob(f"{UNFINISHED}*")) == []


def test_verify_names_every_kind_of_damage(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3, shape=(64, 64, 40))
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    volumes.build(entries, workers=1)
    sound, flipped, cut = (stored(volumes, entry).path for entry in entries)
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 0xFF
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1000])
    report = volumes.verify(workers=1)
    assert report.checked == 3
    assert sorted(path for path, _ in report.damaged) == sorted([flipped, cut])
    volumes.remove(path for path, _ in report.damaged)
    assert volumes.build(entries, workers=1).built == 2
    assert volumes.verify(workers=1).damaged == []
    assert sound.is_file()


def test_a_damaged_volume_is_named_on_reading(tmp_path: Path) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    volumes.build([entry], workers=1)
    volume = stored(volumes, entry)
    volume.path.write_bytes(volume.path.read_bytes()[:500])
    with pytest.raises(DataError, match="is damaged"):
        volume.read((0, 0, 0), (1, 1, 1))
    volume.path.unlink()
    with pytest.raises(DataError, match="not in the cache any more"):
        _ = volume.shape_xyz


def test_prediction_is_exact_but_for_foreground_and_compression(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 2, shape=(40, 36, 20))
    resized = VolumeCache(tmp_path, Preprocess(resize_vox=(64, 64, 32)), Cache(dtype="int16"))
    assert resized.predict_bytes(entries, ratio=1.0) == 2 * 64 * 64 * 32 * 2
    respaced = VolumeCache(tmp_path, Preprocess(spacing_mm=(2.0, 1.2, 1.0), min_size_vox=(30, 1, 1)), Cache())
    # 39 / 2 + 1 = 20.5, rounded half to even 20, padded to 30; 36; 19 * 3 + 1 = 58
    assert respaced.predict_bytes(entries, ratio=1.0) == 2 * 30 * 36 * 58
    plain = [Entry(image=entry.image, patient="p") for entry in entries]  # a list without shapes
    assert respaced.predict_bytes(plain, ratio=1.0) == 2 * 30 * 36 * 58


def test_a_cache_that_cannot_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = make_entries(tmp_path, 2)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 64 * 2**20 + 100))
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    with pytest.raises(ResourceError, match="2 volumes need about"):
        volumes.build(entries, workers=1)
    assert not (tmp_path / "cache").exists()
    # The cautious prediction (30 kB) does not fit in 20 kB, but a look at the scans themselves shows that they do.
    needed = volumes.predict_bytes(entries)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 64 * 2**20 + needed - 1))
    assert volumes.build(entries, workers=1).built == 2


def test_a_disk_that_fills_up_ends_the_build_and_keeps_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    entries = make_entries(tmp_path, 3)
    calls: list[int] = []

    def full_at_the_second(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache())
    with pytest.raises(ResourceError, match="disk is full"):
        volumes.build(entries, workers=1)
    assert volumes.stats().volumes == 1
    assert volumes.verify(workers=1).damaged == []
    assert list(tmp_path.rglob(f"{UNFINISHED}*")) == []


def test_prune_removes_what_nobody_needs(tmp_path: Path) -> None:
    entries = make_entries(tmp_path, 3, label=True)
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache(), labels=True)
    volumes.build(entries, workers=1)
    VolumeCache(tmp_path / "cache", Preprocess(), Cache()).build(entries, workers=1)
    assert volumes.stats().volumes == 6
    rehearsal = volumes.prune(entries[:2], rehearse=True)
    assert volumes.stats().volumes == 6
    report = volumes.prune(entries[:2])
    assert report == rehearsal
    assert len(report.removed) == 3 + 1 + 1  # other settings, one volume, its label
    assert report.bytes > 0
    assert [volumes.lookup(entry) is not None for entry in entries] == [True, True, False]
    entries[0].image.unlink()
    with pytest.raises(DataError, match="does not exist"):
        volumes.prune(entries)
    assert volumes.stats().volumes == 2


def test_folder_is_beside_the_data_file_unless_set(tmp_path: Path) -> None:
    assert cache_folder(tmp_path / "data.json", Cache()) == tmp_path / ".voco-cache"
    assert cache_folder(tmp_path / "data.json", Cache(dir=Path("elsewhere"))) == Path("elsewhere")


def test_a_volume_that_is_cut_while_it_is_in_use_is_named_with_its_scan(tmp_path: Path) -> None:
    entry = make_entries(tmp_path, 1)[0]
    volumes = VolumeCache(tmp_path / "cache", SETTINGS, Cache(chunk_vox=(16, 16, 16), block_vox=(8, 8, 8)))
    volumes.build([entry], workers=1)
    volume = stored(volumes, entry)
    whole = volume.read((0, 0, 0), volume.shape_xyz)
    with volume.path.open("r+b") as file:
        file.truncate(volume.path.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"the cached volume of {entry.image}, is damaged") as refused:
        volume.read((0, 0, 0), volume.shape_xyz)
    assert str(volume.path) in refused.value.message
    with volume.path.open("r+b") as file:
        file.truncate(0)
    with pytest.raises(DataError, match="is damaged"):
        volume.read((0, 0, 0), (4, 4, 4))
    assert whole.any()


def test_a_stored_volume_does_not_say_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "Mueller-Anna").mkdir()
    entry = make_entries(tmp_path / "Mueller-Anna", 1, label=True)[0]
    whose = entry.model_copy(update={"patient": "Mueller^Anna", "series_uid": "1.2.840.7", "study_uid": "1.2.840"})
    cache = VolumeCache(tmp_path / "cache", Preprocess(), Cache(workers=1), labels=True)
    cache.build([whose])
    stored = [path.read_bytes() for path in (tmp_path / "cache").rglob("*.b2nd")]
    assert len(stored) == 2
    for name in (b"Mueller", b"Anna", b"1.2.840", whose.image.name.encode()):
        assert not any(name in content for content in stored)
