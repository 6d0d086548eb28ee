"""URLs as paths, and what stores are asked: moto's S3, a web server, and connections that are cut."""

from __future__ import annotations

import importlib
import pickle
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.stores import Traffic, web_folder
from voco_cli import object_stores
from voco_cli.atomic_files import whole_file, write_atomic
from voco_cli.errors import DataError, ResourceError, UsageError
from voco_cli.object_stores import (
    ObjectFacts,
    RemotePath,
    ask_of_many,
    facts,
    know_all_below,
    location,
    name_below,
    objects_below,
    shared_folder,
)

CONTENT = bytes(range(256)) * 400


def remote(name: str) -> RemotePath:
    path = location(name)
    assert isinstance(path, RemotePath)
    return path


def test_a_url_is_a_path_that_keeps_its_slashes() -> None:
    path = remote("s3://bucket/folder/case_1.nii.gz")
    assert str(path) == f"{path}" == path.as_posix() == "s3://bucket/folder/case_1.nii.gz"
    assert (path.name, path.suffixes, path.scheme) == ("case_1.nii.gz", [".nii", ".gz"], "s3")
    assert str(path.parent / "x.nii") == str(path.with_name("x.nii")) == "s3://bucket/folder/x.nii"
    assert location(Path("s3://bucket/folder/case_1.nii.gz")) == path  # one slash, as pathlib has it
    assert pickle.loads(pickle.dumps(path)) == path
    assert hash(pickle.loads(pickle.dumps(path))) == hash(path)
    assert type(pickle.loads(pickle.dumps(path))) is RemotePath
    assert path.resolve() == path.absolute() == path
    assert type(location("scans/a.nii")) is type(Path())
    assert str(location("https://host/a/b.pt")) == "https://host/a/b.pt"


def test_names_are_seen_from_the_folder_that_is_shared() -> None:
    first, second = remote("s3://bucket/a/x/1.nii"), remote("s3://bucket/a/y/2.nii")
    shared = shared_folder([first.parent, second.parent])
    assert shared == remote("s3://bucket/a")
    assert [name_below(one, shared) for one in (first, second)] == ["x/1.nii", "y/2.nii"]
    mixed = shared_folder([first.parent, Path("/scans")])
    assert name_below(Path("/scans/3.nii"), mixed) == "/scans/3.nii"
    assert name_below(first, shared_folder([first.parent, remote("s3://other/a")])) == "bucket/a/x/1.nii"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://me:secret@bucket/x.nii", "s3://***@bucket/x.nii bears a user or a password"),
        ("https://host/x.nii?X-Amz-Signature=secret", "https://host/x.nii?*** has a query"),
        ("s3://bucket/a//x.nii", "s3://bucket/a//x.nii is no URL of a file"),
        ("s3://bucket/../x.nii", "s3://bucket/../x.nii is no URL of a file"),
        ("s3://", "s3:// is no URL of a file"),
    ],
)
def test_urls_that_bear_secrets_or_name_nothing_are_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        location(url)
    assert refused.value.message.startswith(message)
    assert "secret" not in f"{refused.value.message}{refused.value.hint}"


def test_secrets_are_refused_also_after_pathlib_had_them() -> None:
    with pytest.raises(UsageError, match=r"^s3://\*\*\*@bucket/x.nii bears"):
        location(Path("s3://me:secret@bucket/x.nii"))


def test_what_a_store_says_is_asked_once(s3: Traffic) -> None:
    path = remote("s3://scans/a/one.bin")
    with pytest.raises(FileNotFoundError):
        facts(path)
    write_atomic(path, CONTENT)
    assert facts(path).size == path.stat().st_size == len(CONTENT)
    assert facts(path).stamp  # moto's ETag is the MD5 of the content
    before = s3.count("HEAD")
    assert path.is_file()
    assert path.exists()
    assert not path.is_dir()
    assert s3.count("HEAD") == before
    assert path.read_bytes() == CONTENT
    path.unlink()
    assert not path.exists()
    path.unlink(missing_ok=True)


def test_who_asks_while_another_thread_asks_anew_is_told_what_was_known(
    new_stores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remote("s3://scans/a.bin")
    told: list[ObjectFacts] = []

    class Store:
        def info(self, name: str) -> dict[str, object]:
            if told:  # asked anew: the answer is under way
                told.append(facts(path))
            return {"type": "file", "size": 7 + len(told), "ETag": "x"}

    monkeypatch.setattr(object_stores, "_store", lambda path: (Store(), str(path)))
    told.append(facts(path))
    assert facts(path, anew=True) == ObjectFacts(9, "x")
    assert told == [ObjectFacts(7, "x")] * 2


def test_many_questions_are_one_listing(s3: Traffic) -> None:
    paths = [remote(f"s3://scans/case_{number}/ct.nii") for number in range(40)]
    for path in paths[:-1]:
        write_atomic(path, b"x" * 10)
    object_stores._KNOWN.clear()
    s3.requests.clear()
    ask_of_many(paths)
    assert [path.is_file() for path in paths] == [True] * 39 + [False]
    assert s3.count("HEAD") == 0
    assert s3.count("GET") == 1


def test_a_listed_folder_is_not_asked_of_single_files(s3: Traffic) -> None:
    write_atomic(remote("s3://scans/cache/a.b2nd"), b"a")
    know_all_below(remote("s3://scans/cache"))
    s3.requests.clear()
    assert remote("s3://scans/cache/a.b2nd").is_file()
    assert not remote("s3://scans/cache/b.b2nd").is_file()
    assert not s3.requests
    write_atomic(remote("s3://scans/cache/b.b2nd"), b"b")
    assert remote("s3://scans/cache/b.b2nd").is_file()
    assert [path.name for path in objects_below(remote("s3://scans/cache"))] == ["a.b2nd", "b.b2nd"]
    assert objects_below(remote("s3://scans/nothing")) == {}


def test_a_file_that_is_written_in_pieces_is_there_whole(s3: Traffic) -> None:
    path = remote("s3://scans/out/made.nii.gz")
    with whole_file(path) as beside:
        assert beside.name.endswith("-made.nii.gz")
        beside.write_bytes(CONTENT)
        assert not path.exists()
    assert path.read_bytes() == CONTENT
    with suppress(RuntimeError), whole_file(remote("s3://scans/out/half.nii.gz")) as beside:
        beside.write_bytes(CONTENT)
        raise RuntimeError
    assert [one.name for one in objects_below(remote("s3://scans"))] == ["made.nii.gz"]


def test_a_write_that_is_cut_once_is_tried_again(s3: Traffic) -> None:
    s3.cut_writes = 1
    write_atomic(remote("s3://scans/cut.bin"), CONTENT)
    assert remote("s3://scans/cut.bin").read_bytes() == CONTENT
    assert s3.count("PUT", "cut.bin") == 2


def test_a_write_that_is_always_cut_leaves_nothing(s3: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    s3.cut_writes = 1000
    with pytest.raises(ResourceError, match=r"^s3://scans/cut.bin cannot be written: [^\n]*\.$"):
        write_atomic(remote("s3://scans/cut.bin"), CONTENT)
    s3.cut_writes = 0
    assert objects_below(remote("s3://scans")) == {}


def test_several_parts_are_completed_or_aborted(s3: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda size, chunksize=None: 6 * 2**20)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(13 * 2**20))
    path = remote("s3://scans/large.bin")
    s3.cut_writes = 1000
    with pytest.raises(ResourceError):
        object_stores.upload(large, path)
    s3.cut_writes = 0
    assert s3.count("POST", "uploads") == 1
    assert s3.count("DELETE", "uploadId") == 1
    assert objects_below(remote("s3://scans")) == {}
    object_stores.upload(large, path)
    assert facts(path).size == 13 * 2**20


def test_a_bucket_that_is_not_there_and_a_key_that_is_refused_are_one_sentence(
    s3: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResourceError, match=r"^s3://nobucket/x cannot be written: there is no such bucket\.$"):
        write_atomic(remote("s3://nobucket/x"), b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError) as refused:
        facts(remote("s3://scans/x"))
    assert refused.value.message == "s3://scans/x cannot be read: Unable to locate credentials."
    assert refused.value.hint == "credentials are taken where the store's own tools take them, such as AWS_PROFILE"


def test_the_extra_is_named_where_a_package_is_missing(new_stores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError) as missing:
        facts(remote("s3://scans/x"))
    assert missing.value.message == "s3://scans/x needs the package s3fs, which is not installed."
    assert missing.value.hint == 'pip install "voco-cli[s3]"'


def test_a_web_server_is_only_read(tmp_path: Path, new_stores: None) -> None:
    pytest.importorskip("aiohttp", reason="https:// is not tested: pip install aiohttp")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(CONTENT)
    with web_folder(tmp_path / "web") as (url, traffic):
        path = remote(f"{url}/a.bin")
        assert facts(path).size == len(CONTENT)
        assert "GMT" in facts(path).stamp  # this server has no hash: the time of the last change
        assert path.read_bytes() == CONTENT
        assert not remote(f"{url}/b.bin").exists()
        with pytest.raises(UsageError, match="is on a web server, which is only read from"):
            write_atomic(remote(f"{url}/b.bin"), b"x")
        with pytest.raises(UsageError, match="is on a web server, which lists no files"):
            objects_below(remote(url))
        traffic.cut_reads = 1
        with pytest.raises(DataError, match=r"^http://127.0.0.1:\d+/a.bin cannot be read: [^\n]*\.$"):
            path.read_bytes()
