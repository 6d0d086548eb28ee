from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from voco_cli.atomic_files import STALE_AFTER_S, UNFINISHED, unfinished_files, whole_file, write_atomic
from voco_cli.errors import ResourceError


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.rglob(f"{UNFINISHED}*")) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "volume.b2nd"
    write_atomic(path, b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"disk is full.*volume\.b2nd"):
        write_atomic(path, b"after")
    assert path.read_bytes() == b"before"
    assert [child.name for child in tmp_path.iterdir()] == ["volume.b2nd"]


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_atomic(path, b"before")

    def fail() -> None:
        with whole_file(path) as beside:
            beside.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"before"
    assert [child.name for child in tmp_path.iterdir()] == ["data.json"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file/a\.txt cannot be written"):
        write_atomic(tmp_path / "file" / "a.txt", b"")


def test_only_old_unfinished_files_count(tmp_path: Path) -> None:
    young, old = tmp_path / f"{UNFINISHED}a", tmp_path / f"{UNFINISHED}b"
    young.touch()
    old.touch()
    long_ago = old.stat().st_mtime - 2 * STALE_AFTER_S
    os.utime(old, (long_ago, long_ago))
    assert unfinished_files(tmp_path) == [old]
