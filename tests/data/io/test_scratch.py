"""Local copies of files in stores: bounded, shared by processes, whole or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stores import Traffic, web_folder
from voco_cli.atomic_files import UNFINISHED, write_atomic
from voco_cli.config.schema import Data
from voco_cli.data.io import scratch as scratch_module
from voco_cli.data.io.scratch import (
    HEAD_BYTES,
    LOCK,
    Scratch,
    header_copy,
    kept_copy,
    local_copy,
    scratch,
    use_scratch,
)
from voco_cli.errors import DataError, ResourceError
from voco_cli.object_stores import RemotePath, facts, location
from voco_cli.operating_system import hold_file

SIZE = 1000


@dataclass(frozen=True)
class Web:
    """A folder that a web server has, where it is, and what is asked of it."""

    folder: Path
    url: str
    traffic: Traffic

    def add(self, name: str, content: bytes) -> RemotePath:
        """Put a file there."""
        (self.folder / name).write_bytes(content)
        path = location(f"{self.url}/{name}")
        assert isinstance(path, RemotePath)
        return path


@pytest.fixture
def web(tmp_path: Path, new_stores: None) -> Iterator[Web]:
    pytest.importorskip("aiohttp", reason="https:// is not tested: pip install aiohttp")
    folder = tmp_path / "web"
    folder.mkdir()
    with web_folder(folder) as (url, traffic):
        yield Web(folder, url, traffic)


def copies(folder: Path) -> list[str]:
    """Names of the files that local copies are of, and of what is unfinished."""
    return sorted(one.name.rpartition("-")[2] for one in folder.iterdir() if one.name != LOCK)


def read(path: Path) -> bytes:
    with local_copy(path) as local:
        return local.read_bytes()


def test_a_file_comes_once_and_again_when_it_has_changed(web: Web, tmp_path: Path) -> None:
    path = web.add("a.nii", b"first" * SIZE)
    assert read(path) == read(path) == b"first" * SIZE
    assert web.traffic.count("GET", "a.nii") == 1
    with local_copy(path) as local:
        assert local.parent == tmp_path / "scratch"
        assert local.name.endswith("-a.nii")
    web.add("a.nii", b"other" * (SIZE + 1))
    facts(path, anew=True)
    assert read(path) == b"other" * (SIZE + 1)
    with local_copy(web.folder / "a.nii") as own:  # a file of a disk is its own copy
        assert own == web.folder / "a.nii"


def test_the_least_recently_used_goes_first(web: Web, tmp_path: Path) -> None:
    place = Scratch(tmp_path / "copies", 3 * SIZE)
    paths = [web.add(f"{name}.bin", bytes(SIZE)) for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        with place.hold(path) as local:
            pass
        os.utime(local, (age, age))
    with place.hold(paths[0]):
        pass  # used now
    with place.hold(paths[3]):
        assert copies(place.folder) == ["a.bin", "c.bin", "d.bin"]


def test_what_is_being_read_stays(web: Web, tmp_path: Path) -> None:
    place = Scratch(tmp_path / "copies", 2 * SIZE)
    first, second, third = (web.add(f"{name}.bin", bytes(SIZE)) for name in "abc")
    with place.hold(first) as held, place.hold(second):
        with pytest.raises(ResourceError, match=r"c.bin of 1e-06 GB does not fit beside what is being read"):
            place.hold(third).__enter__()
        assert held.read_bytes() == bytes(SIZE)
        assert copies(place.folder) == ["a.bin", "b.bin"]
    with place.hold(third):
        assert len(copies(place.folder)) == 2


def test_a_file_larger_than_the_limit_is_refused(web: Web, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as refused:
        Scratch(tmp_path / "copies", SIZE).hold(web.add("a.bin", bytes(SIZE + 1))).__enter__()
    assert refused.value.hint == "set data.scratch_gb to more"
    assert copies(tmp_path / "copies") == []


HOLDS = """
import sys
from pathlib import Path
from voco_cli.operating_system import hold_file
with hold_file(Path(sys.argv[1]), alone=True, make=True) as handle:
    handle.write(b"half")
    handle.flush()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(web: Web, tmp_path: Path) -> None:
    place = Scratch(tmp_path / "copies", 3 * SIZE)
    place.folder.mkdir()
    half = place.folder / f"{UNFINISHED}{SIZE}-0-half.bin"
    command = [sys.executable, "-c", HOLDS, str(half)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "held\n"
    with place.hold(web.add("a.bin", bytes(SIZE))), place.hold(web.add("b.bin", bytes(SIZE))):
        assert half.exists()
        with pytest.raises(ResourceError):  # what is being written counts as large as it will be
            place.hold(web.add("c.bin", bytes(SIZE))).__enter__()
        writer.kill()
        writer.communicate()
        with place.hold(web.add("c.bin", bytes(SIZE))):
            assert copies(place.folder) == ["a.bin", "b.bin", "c.bin"]


def test_several_that_want_the_same_file_fetch_it_once(web: Web) -> None:
    path = web.add("a.bin", bytes(100 * SIZE))
    facts(path)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, [path] * 8)) == {bytes(100 * SIZE)}
    assert web.traffic.count("GET", "a.bin") == 1


def test_a_copy_that_is_cut_off_is_not_there(web: Web, tmp_path: Path) -> None:
    path = web.add("a.bin", bytes(100 * SIZE))
    web.traffic.cut_reads = 1
    with pytest.raises(DataError, match=r"^http://[^\n]*/a.bin cannot be read: [^\n]*\.$"):
        read(path)
    assert copies(tmp_path / "scratch") == []
    assert read(path) == bytes(100 * SIZE)


def test_an_object_that_changes_on_the_way_is_refused(web: Web, tmp_path: Path) -> None:
    path = web.add("a.bin", bytes(SIZE))
    facts(path)
    web.add("a.bin", bytes(SIZE + 1))
    with pytest.raises(DataError, match="came as 1001 bytes of 1000, or was changed while it was read"):
        read(path)
    assert copies(tmp_path / "scratch") == []
    assert read(path) == bytes(SIZE + 1)


def test_faults_of_a_copy_are_told_of_the_url(web: Web) -> None:
    path = web.add("a.nii", b"x")
    with pytest.raises(DataError) as told, local_copy(path) as local:
        raise DataError(f"{local} is damaged.", f"look at {local}")
    assert (told.value.message, told.value.hint) == (f"{path} is damaged.", f"look at {path}")
    with pytest.raises(DataError, match=r"/missing.nii does not exist\.$"):
        read(path.with_name("missing.nii"))


def test_a_header_comes_without_what_lies_between(s3: Traffic, tmp_path: Path) -> None:
    content = os.urandom(4 * HEAD_BYTES)
    path = location("s3://scans/a.nii")
    assert isinstance(path, RemotePath)
    write_atomic(path, content)
    with header_copy(path) as ends:
        found = ends.read_bytes()
    assert len(found) == len(content)
    assert found[:HEAD_BYTES] == content[:HEAD_BYTES]
    assert found[-1000:] == content[-1000:]
    assert not any(found[HEAD_BYTES : 2 * HEAD_BYTES])
    assert copies(tmp_path / "scratch") == []


def test_a_kept_copy_stays_while_the_process_lives(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_module, "_KEPT_COPIES", {})
    kept = kept_copy(web.add("weights.pt", bytes(SIZE)))
    with pytest.raises(BlockingIOError), hold_file(kept, alone=True, wait=False):
        pass


def test_settings_reach_the_processes_that_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_SCRATCH_GB", "")
    monkeypatch.setenv("VOCO_SCRATCH_DIR", "")
    use_scratch(Data(scratch_gb=0.5, scratch_dir=tmp_path))
    told = "from voco_cli.data.io.scratch import scratch; print(scratch())"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout == f"{Scratch(tmp_path, 500_000_000)}\n"
    monkeypatch.delenv("VOCO_SCRATCH_GB")
    monkeypatch.setenv("VOCO_DATA__SCRATCH_GB", "2")
    assert scratch().limit_bytes == 2_000_000_000


def test_a_read_from_s3_goes_on_where_it_was_cut(s3: Traffic) -> None:
    path = location("s3://scans/a.bin")
    content = os.urandom(2**20)
    write_atomic(path, content)
    s3.cut_reads = 2
    assert read(path) == content
    assert s3.cut_reads == 0
