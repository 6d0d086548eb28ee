"""`voco embed` through the app: what is found, what is written, what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.pretrain.made_run import MadeRun, made_run
from voco_cli.cli.app import app
from voco_cli.errors import DataError, UsageError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return made_run(tmp_path_factory.mktemp("made"))


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as read:
        return dict(read)


def test_folders_lists_and_files_are_read_alike(made: MadeRun, tmp_path: Path) -> None:
    folder = made.scans[0].parent
    assert (
        "5 scans embedded in 20 rows of 62 numbers, 0 failed."
        in run(made.run, folder, "-o", tmp_path / "all.npz").stdout
    )
    run(made.run, made.run / "data.json", "-o", tmp_path / "listed.npz", "--bases")
    run(made.run, *made.scans, "-o", tmp_path / "two.npz")
    every, listed, two = (arrays(tmp_path / f"{name}.npz") for name in ("all", "listed", "two"))
    assert sorted(set(every["scan"])) == sorted(set(listed["scan"])) == sorted(map(str, folder.iterdir()))
    assert set(zip(every["patient"], every["scan"], strict=True)) == {
        (f"p{n:03d}", str(path)) for n, path in enumerate(sorted(folder.iterdir()), start=1)
    }  # five patients, numbered as they come
    for path in made.scans:
        rows = [file["embedding"][file["scan"] == str(path)] for file in (every, listed, two)]
        np.testing.assert_array_equal(rows[0], rows[1])
        np.testing.assert_array_equal(rows[0], rows[2])


def test_crops_and_projections(made: MadeRun, tmp_path: Path) -> None:
    run(made.run, made.scans[0], "-o", tmp_path / "e.npz", "--crops", 3, "--projected")
    read = arrays(tmp_path / "e.npz")
    assert read["embedding"].shape == (3, 16)
    assert json.loads(str(read["about"]))["embedding"].startswith("projector")


def test_a_bad_scan_is_named_and_counted(made: MadeRun, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(made.scans[0], tmp_path / "scans")
    (tmp_path / "scans" / "bad[1].nii.gz").write_bytes(made.scans[1].read_bytes()[:2000])
    (tmp_path / "scans" / "notes.txt").write_text("no scan")
    result = run(made.run, tmp_path / "scans", "-o", tmp_path / "e.npz")
    assert "1 scans embedded in 4 rows of 62 numbers, 1 failed." in result.stdout
    assert "bad[1].nii.gz" in result.stderr
    assert "note: passed over" in result.stderr
    record = json.loads(run(made.run, tmp_path / "scans", "-o", tmp_path / "e.npz", "--json").stdout)
    assert (record["scans"], record["rows"], record["width"]) == (1, 4, 62)
    assert [Path(one["scan"]).name for one in record["failed"]] == ["bad[1].nii.gz"]
    assert [Path(one["path"]).name for one in record["passed_over"]] == ["notes.txt"]


def test_where_none_worked_nothing_is_written(made: MadeRun, tmp_path: Path) -> None:
    blank = tmp_path / "blank.npy"
    np.save(blank, np.full((24, 48, 48), -1000, dtype=np.int16))  # air alone: no foreground
    listed = tmp_path / "data.json"
    listed.write_text(json.dumps({"training": [{"image": str(blank), "patient": "p"}]}))
    with pytest.raises(DataError, match="None of 1 scans could be embedded") as caught:
        run(made.run, listed, "-o", tmp_path / "e.npz")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "e.npz").exists()
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    with pytest.raises(DataError, match="Nothing can be embedded"):
        run(made.run, tmp_path / "bad.nii.gz", "-o", tmp_path / "e.npz")


def test_wrong_use_is_one_sentence(made: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = made.scans[0]
    with pytest.raises(UsageError, match=r"e\.csv does not end like a file of embeddings"):
        run(made.run, scan, "-o", tmp_path / "e.csv")
    with pytest.raises(UsageError, match="--bases and --crops exclude each other"):
        run(made.run, scan, "-o", tmp_path / "e.npz", "--bases", "--crops", 2)
    with pytest.raises(UsageError, match="is not a run folder"):
        run(tmp_path, scan, "-o", tmp_path / "e.npz")
    with pytest.raises(DataError, match=r"absent\.nii\.gz does not exist"):
        run(made.run, tmp_path / "absent.nii.gz", "-o", tmp_path / "e.npz")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="needs the package pyarrow"):
        run(made.run, scan, "-o", tmp_path / "e.parquet")
    assert list(tmp_path.iterdir()) == []
