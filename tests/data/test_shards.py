"""Which scan is whose, and the file that a shard leaves."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import write_nifti
from voco_cli.data.index.inspect import check_label, inspect_file, is_label_map
from voco_cli.data.parallel import Runner, WorkerKilledError, map_files, run_jobs
from voco_cli.data.shards import MergedOutcomes, Shard, ShardOutcomes, ShardPart, decoded, encoded, job_key, part_file
from voco_cli.errors import DataError, GeometryError, ResourceError, UsageError


def test_a_grown_list_moves_nobody_and_shards_are_even() -> None:
    scans = [f"imagesTr/case_{number:04d}.nii.gz" for number in range(4000)]

    def shard_of(key: str) -> int:
        (number,) = (one for one in range(1, 9) if Shard(one, 8).owns(key))
        return number

    before = {key: shard_of(key) for key in scans}
    assert {key: shard_of(key) for key in [*scans, "imagesTr/another.nii.gz"] if key in before} == before
    counts = [list(before.values()).count(number) for number in range(1, 9)]
    assert max(counts) < 1.15 * 500  # of a fair draw: 500, standard deviation 21
    assert min(counts) > 0.85 * 500
    assert [shard_of(key) for key in ("a.nii.gz", "b/c.nrrd", "d")] == [5, 7, 4]  # last digit of b2sum -l 64


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0", "1/4/2", ""])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="none of several shards"):
        Shard.parse(text)


def part(number: int = 1, **content: object) -> ShardPart:
    return ShardPart(Shard(number, 2), ("index", "scans"), ("--workers", "2"), "/somewhere", **content)  # type: ignore


def test_a_part_is_read_as_it_was_written_and_damage_is_noticed(tmp_path: Path) -> None:
    file = part_file(tmp_path / "data.json", Shard(1, 2))
    assert file == tmp_path / "data.json.shards" / "1-of-2.json"
    made = part(identity={"weights": "abc"}, is_whole=True, outcomes={"f x": ("3:4", {"value": [0.1, float("nan")]})})
    made.write(file)
    read = ShardPart.read(file)
    assert (read.shard, read.command, read.is_whole, read.identity) == (made.shard, made.command, True, made.identity)
    text = file.read_text()
    for damaged in (text[:-30], text.replace("abc", "abd"), "[]", ""):
        file.write_text(damaged)
        with pytest.raises(DataError, match="is damaged"):
            ShardPart.read(file)


def test_what_two_parts_do_not_share_is_named() -> None:
    assert part().difference(part(2)) is None
    assert part(identity={"weights": "a"}).difference(part(2, identity={"weights": "b"})) == "other weights"
    assert part().difference(part(2, version="0.0.1")) == f"voco 0.0.1, not {part().version}"


def test_headers_come_back_as_they_were(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "a.nii.gz", np.zeros((5, 4, 3), np.int16), np.diag([1.1, 2.0, 3.0, 1.0]))
    found, back = inspect_file(file), decoded(inspect_file, encoded(inspect_file, inspect_file(file)))
    assert found.header is not None
    np.testing.assert_array_equal(back.header.placement.direction, found.header.placement.direction)
    assert (back.path, back.header.shape_xyz, back.header.dtype) == (file, (5, 4, 3), "int16")
    assert back.header.placement.spacing_xyz_mm == found.header.placement.spacing_xyz_mm
    assert decoded(check_label, encoded(check_label, check_label(file))) == check_label(file)


@pytest.mark.parametrize("error", [DataError("no", "mend it"), GeometryError("skew"), WorkerKilledError()])
def test_errors_come_back_as_they_were(error: Exception) -> None:
    back = decoded(inspect_file, encoded(inspect_file, error))
    assert (type(back), str(back), getattr(back, "hint", 0)) == (type(error), str(error), getattr(error, "hint", 0))
    foreign = decoded(inspect_file, encoded(inspect_file, ZeroDivisionError("by zero")))
    assert f"{type(foreign).__name__}: {foreign}" == "ZeroDivisionError: by zero"


def test_options_of_a_function_are_part_of_its_outcome(tmp_path: Path) -> None:
    keys = {job_key(partial(is_label_map, named=named), tmp_path) for named in (True, False)}
    assert len(keys) == 2


def size_of(path: Path) -> int:
    """Fails where there is no such file, and on a full disk, which a file named full stands for."""
    if path.name == "full":
        raise ResourceError("The disk is full.")
    return path.stat().st_size


def test_a_shard_that_was_stopped_goes_on_and_looks_at_changed_files_again(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "gone", "full")]
    for path in (*paths[:2], paths[3]):
        path.write_text(path.name)

    def run() -> dict[str, object]:
        outcomes = ShardOutcomes(tmp_path / "part.json", part())
        outcomes.begin({"scans": "all"})
        found: dict[str, object] = {}
        run_jobs(size_of, paths, 1, lambda path, size: found.update({path.name: size}), runner=Runner(None, outcomes))
        outcomes.close()
        return {"kept": sorted(outcomes.earlier or {}), **found}

    first = run()
    assert (first["kept"], first["a"], first["b"]) == ([], 1, 1)
    paths[1].write_text("longer")
    again = run()
    known = [job_key(size_of, path) for path in paths[:3]]
    assert again["kept"] == known  # but not the full disk
    assert (again["a"], again["b"], type(again["gone"])) == (1, 6, FileNotFoundError)


def test_merged_outcomes_are_taken_and_changes_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    parts = []
    for number, path in enumerate(paths, start=1):
        path.write_text(path.name * number)
        outcomes = ShardOutcomes(part_file(tmp_path / "out", Shard(number, 2)), part(number))
        outcomes.begin({"weights": "w"})
        assert map_files(size_of, [path], 1, lambda n: None, runner=Runner(None, outcomes)) == [number]
        outcomes.finish()
        parts.append(ShardPart.read(outcomes.path))

    def merged() -> list[int]:
        outcomes = MergedOutcomes(tmp_path / "out", parts)
        outcomes.begin({"weights": "w"})
        return map_files(size_of, paths, 1, lambda n: None, runner=Runner(None, outcomes))

    assert merged() == [1, 2]
    with pytest.raises(DataError, match="with other weights than there is now"):
        MergedOutcomes(tmp_path / "out", parts).begin({"weights": "v"})
    paths[1].write_text("other")
    with pytest.raises(DataError, match="b has changed since shard 2/2 read it"):
        merged()
    MergedOutcomes(tmp_path / "out", parts).finish()
    assert not (tmp_path / "out.shards").exists()
