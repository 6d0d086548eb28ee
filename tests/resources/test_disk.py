"""Adding up by file system, with disks of a known size."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import pytest

from voco_cli.data.cache.entry import SPARE_BYTES
from voco_cli.resources.amounts import Amount, Part, disk_needs
from voco_cli.resources.machine import bytes_below, existing_parent, mount_point, temporary_folder

Usage = namedtuple("Usage", "total used free")


def part(name: str, value: float) -> Part:
    return Part(name, Amount.of(value, "measured"))


def test_folders_of_one_file_system_share_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 0, 1000 + SPARE_BYTES))
    wanted = [(tmp_path / "not" / "yet", part("cache", 700)), (tmp_path, part("checkpoints", 300))]
    (need,) = disk_needs(wanted)
    assert (need.needed_bytes, need.free_bytes, need.fits) == (1000, 1000, True)
    (more,) = disk_needs([*wanted, (tmp_path, part("weights", 1))])
    assert not more.fits


def test_other_file_systems_are_counted_apart(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    needs = disk_needs([(shared / "a", part("cache", 1)), (tmp_path, part("checkpoints", 2)), (shared, part("x", 4))])
    assert [need.needed_bytes for need in needs] == [5, 2]
    assert needs[0].where == "/dev/shm"


def test_places(tmp_path: Path) -> None:
    assert existing_parent(tmp_path / "a" / "b") == tmp_path
    assert mount_point(Path("/proc/self")) == Path("/proc").resolve()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"12")
    assert bytes_below(tmp_path) == 5
    assert bytes_below(tmp_path / "none") == 0


def test_a_temporary_folder_lies_beside_and_goes_whatever_happens(tmp_path: Path) -> None:
    def spoil() -> None:
        with temporary_folder(tmp_path / "cache") as folder:
            assert folder.parent == tmp_path
            (folder / "x").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        spoil()
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_a_trial_goes_where_temporary_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("voco_cli.resources.machine.gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 0, 199_999_999))
    with temporary_folder(tmp_path / "cache") as folder:
        assert folder.parent == tmp_path / "tmp"


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".voco-temporary-old", tmp_path / ".voco-temporary-young"
    for folder in (old, young):
        (folder / "cache").mkdir(parents=True)
    os.utime(old, (0, 0))
    with temporary_folder(tmp_path / "cache"):
        pass
    assert list(tmp_path.iterdir()) == [young]
