"""`--shard` and `voco merge`: the bytes of the whole command, or one sentence on what is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import typer

from tests.command import voco
from tests.data.cache.made_scans import body_hu, write_nifti
from tests.data.dask_cluster import dask_cluster
from tests.data.io.make_files import write_dicom
from tests.finetune.made_finetuned import finetuned_run, write_case
from tests.pretrain.made_run import made_run
from tests.tasks.made_run import make_run
from voco_cli.cli.app import app
from voco_cli.errors import UsageError
from voco_cli.workflows.shards import COMMON_FLAGS, FLAGS, merge_target

SHAPE = (20, 18, 14)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Scans with label maps beside them, a DICOM series, a damaged file and two of the same content."""
    folder = tmp_path / "scans"
    for below in ("imagesTr", "labelsTr"):
        (folder / below).mkdir(parents=True)
    for number in range(7):
        file = f"case_{number:03d}.nii.gz"
        write_nifti(folder / "imagesTr" / file, body_hu(SHAPE, seed=max(number, 1)), np.diag([2.0, 2.0, 3.0, 1.0]))
        write_nifti(
            folder / "labelsTr" / file,
            np.tri(20, 18)[..., None].repeat(14, 2).astype(np.uint8),
            np.diag([2.0, 2, 3, 1]),
        )
    write_dicom(folder / "patient" / "chest", depths_mm=tuple(range(0, 40, 4)))
    (folder / "imagesTr" / "short.nii.gz").write_bytes((folder / "imagesTr" / "case_001.nii.gz").read_bytes()[:500])
    return folder


def files_below(path: Path) -> dict[str, bytes]:
    paths = [path] if path.is_file() else [one for one in sorted(path.rglob("*")) if one.is_file()]
    return {str(one.relative_to(path)): one.read_bytes() for one in paths}


def whole_and_merged(cwd: Path, words: Sequence[str], output: str, code: int = 0, within: str | None = None) -> None:
    """Run a command whole, then in three shards, and compare what lies in its output, or in a folder around it."""
    compared = within or output
    if within is not None:
        shutil.copytree(cwd / within, cwd / "before")
    shown = voco(*words, cwd=cwd)
    assert shown.returncode == code, shown.stderr
    (cwd / compared).rename(cwd / "whole")
    if within is not None:
        (cwd / "before").rename(cwd / within)
    for number in (2, 1, 3):
        shown = voco(*words, "--shard", f"{number}/3", cwd=cwd)
        assert shown.returncode == 0, shown.stderr
        assert f"next: voco merge {output}, when all 3 are done" in shown.stdout
    merged = voco("merge", output, cwd=cwd)
    assert merged.returncode == code, merged.stderr
    assert files_below(cwd / compared) == files_below(cwd / "whole")
    assert not (cwd / f"{output}.shards").exists()


@pytest.mark.parametrize("check", ["headers", "full"])
def test_index(scans: Path, tmp_path: Path, check: str) -> None:
    whole_and_merged(tmp_path, ["index", "scans", "--check", check, "--workers", "1", "-o", "data.json"], "data.json")


def listed(scans: Path, cwd: Path) -> None:
    assert voco("index", str(scans / "imagesTr"), "--modality", "CT", "-o", "data.json", cwd=cwd).returncode == 0
    (scans / "imagesTr" / "case_002.nii.gz").write_bytes(b"damaged meanwhile")


def test_cache_build_and_verify(scans: Path, tmp_path: Path) -> None:
    listed(scans, tmp_path)
    words = ["data.json", "--recipe", "debug", "--dir", "store", "--workers", "1"]
    whole_and_merged(tmp_path, ["cache", "build", *words], "store", code=1)
    for number in (1, 2):
        assert voco("cache", "verify", *words, "--shard", f"{number}/2", cwd=tmp_path).returncode == 0
    verified = voco("merge", "store", "--json", cwd=tmp_path)
    assert verified.returncode == 1
    assert json.loads(verified.stdout)["checked"] == 6
    assert [Path(one).name for one in json.loads(verified.stdout)["missing"]] == ["case_002.nii.gz"]


def test_predict(scans: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    whole_and_merged(
        tmp_path, ["predict", "run", "scans", "-o", "predictions", "--device", "cpu"], "predictions", code=3
    )


def measurable(cwd: Path) -> None:
    """A run with six cases to test on, one of them damaged since, and two folders of label maps."""
    test = [write_case(cwd / "scans", f"case{n}", shift=n % 3, liver=n != 2) for n in range(6)]
    finetuned_run(cwd / "run", test=test)
    (cwd / "labels").mkdir()
    (cwd / "predictions").mkdir()
    for number, entry in enumerate(test):
        assert entry.label is not None
        shutil.copy(entry.label, cwd / "labels" / f"{number}.nii.gz")
        shutil.copy(str(test[(number + 1) % 6].label), cwd / "predictions" / f"{number}.nii.gz")
    test[4].image.write_bytes(b"damaged meanwhile")
    (cwd / "predictions" / "3.nii.gz").write_bytes(b"damaged")


OF_FOLDERS = ["evaluate", "--predictions", "predictions", "--labels", "labels", "--by-size", "5", "--resamples", "100"]
OF_RUN = ["evaluate", "run", "--device", "cpu", "--resamples", "100"]


EMBED = ["embed", "run", "data/imagesTr", "--device", "cpu", "-o"]


def embeddable(cwd: Path) -> None:
    """A pre-trained run, and scans of which one is damaged within."""
    made = made_run(cwd)
    folder = made.scans[0].parent
    blank = np.full((24, 24, 24), -1000, np.int16)  # air alone: no foreground
    write_nifti(folder / "blank.nii.gz", blank, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_evaluate(tmp_path: Path) -> None:
    measurable(tmp_path)
    whole_and_merged(tmp_path, OF_FOLDERS, "evaluation", code=3)
    measured = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert (measured["cases"], [one["case"] for one in measured["failed"]]) == (5, ["3"])


def test_evaluate_of_a_run(tmp_path: Path) -> None:
    measurable(tmp_path)
    whole_and_merged(tmp_path, OF_RUN, "run/evaluation/test", code=3, within="run")
    measured = json.loads((tmp_path / "run" / "evaluation" / "test" / "summary.json").read_text())
    assert (measured["cases"], [one["case"] for one in measured["failed"]]) == (5, ["case4"])


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_embed(tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    embeddable(tmp_path)
    whole_and_merged(tmp_path, [*EMBED, f"e.{ending}"], f"e.{ending}")


def test_a_shard_of_embeddings_goes_on(tmp_path: Path) -> None:
    embeddable(tmp_path)
    words = [*EMBED, "e.npz", "--projected", "--crops", "2", "--shard", "1/1"]
    assert voco(*words, cwd=tmp_path).returncode == 0
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "e.npz.shards" / "kept").iterdir()}
    gone, *others = kept
    gone.unlink()
    assert "made of" in voco("merge", "e.npz", cwd=tmp_path).stderr
    assert voco(*words, cwd=tmp_path).returncode == 0
    assert {path.stat().st_mtime_ns for path in others} == {kept[path] for path in others}
    assert "5 scans embedded in 10 rows" in voco("merge", "e.npz", cwd=tmp_path).stdout
    assert [path.name for path in tmp_path.iterdir() if "e.npz" in path.name] == ["e.npz"]


def test_labels_that_changed_after_their_shard_are_not_merged(tmp_path: Path) -> None:
    measurable(tmp_path)
    for number in (1, 2):
        assert voco(*OF_FOLDERS, "--shard", f"{number}/2", cwd=tmp_path).returncode == 0
    shutil.copy(tmp_path / "labels" / "2.nii.gz", tmp_path / "labels" / "1.nii.gz")
    (tmp_path / "labels" / "1.nii.gz").touch()
    refused = voco("merge", "evaluation", cwd=tmp_path)
    assert refused.returncode == 3
    assert f"{tmp_path}/labels/1.nii.gz has changed since shard" in refused.stderr
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.slow
def test_a_dask_cluster_leaves_the_same_bytes(scans: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'voco-cli[cluster]'")
    make_run(tmp_path / "run")
    commands: dict[str, tuple[list[str], int]] = {
        "data.json": (["index", "scans", "--check", "full", "-o", "data.json"], 0),
        "store": (["cache", "build", "data.json", "--recipe", "debug", "--dir", "store"], 0),
        "predictions": (["predict", "run", "scans", "-o", "predictions", "--device", "cpu"], 3),
    }
    here_and_there(tmp_path, commands)


def here_and_there(cwd: Path, commands: Mapping[str, tuple[list[str], int]]) -> None:
    """Run commands by processes of this machine, then on a cluster, and compare what lies where they write."""
    with dask_cluster(cwd) as address:
        for outputs, (words, code) in commands.items():
            shown = voco(*words, cwd=cwd)
            assert shown.returncode == code, shown.stderr
            here = [files_below(cwd / output) for output in outputs.split()]
            for output in outputs.split():
                (cwd / output).rename(cwd / f"{output}.here")
            shown = voco(*words, "--scheduler", address, cwd=cwd)
            assert shown.returncode == code, shown.stderr
            assert [files_below(cwd / output) for output in outputs.split()] == here
            assert not (cwd / f"{outputs}.shards").exists()


@pytest.mark.slow
def test_figures_and_embeddings_of_a_dask_cluster_are_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'voco-cli[cluster]'")
    measurable(tmp_path)
    (tmp_path / "pre").mkdir()
    embeddable(tmp_path / "pre")
    embed = ["embed", "pre/run", "pre/data/imagesTr", "--device", "cpu"]
    here_and_there(
        tmp_path,
        {
            "evaluation": (OF_FOLDERS, 3),
            "run/evaluation run/predictions": (OF_RUN, 3),
            "e.npz": ([*embed, "-o", "e.npz"], 0),
        },
    )


def test_a_shard_of_predictions_goes_on(scans: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    words = ["predict", "run", "scans/imagesTr", "-o", "predictions", "--shard", "1/1"]
    assert voco(*words, cwd=tmp_path).returncode == 0
    first = tmp_path / "predictions" / "case_001.nii.gz"
    before = {path.name: path.stat().st_mtime_ns for path in first.parent.iterdir()}
    first.unlink()
    assert "shard 1/1" in voco("merge", "predictions", cwd=tmp_path).stderr.lower()
    assert voco(*words, cwd=tmp_path).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in first.parent.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {first.name}


def test_what_is_missing_is_named_with_the_command_that_makes_it(scans: Path, tmp_path: Path) -> None:
    words = ["index", "scans", "-o", "data.json", "--name", "two words"]
    none = voco("merge", "data.json", cwd=tmp_path)
    assert (none.returncode, none.stderr.splitlines()[0]) == (
        2,
        "error: data.json has no shards: there are none in data.json.shards.",
    )
    for number in (1, 3, 4):
        voco(*words, "--shard", f"{number}/4", cwd=tmp_path)
    parts = tmp_path / "data.json.shards"
    (parts / "3-of-4.json").write_bytes((parts / "3-of-4.json").read_bytes()[:-9])
    shown = voco("merge", "data.json", cwd=tmp_path)
    assert shown.returncode == 3
    said = " ".join(shown.stderr.split())
    assert "data.json cannot be merged: shard 2/4 is missing, shard 3/4 is damaged." in said
    again = "voco index --output data.json --name 'two words' scans --shard"
    assert f"hint: run {again} 2/4; {again} 3/4" in said
    assert not (tmp_path / "data.json").exists()


def test_foreign_parts_and_other_numbers_are_refused(scans: Path, tmp_path: Path) -> None:
    words = ["index", "scans", "-o", "data.json"]
    for number in (1, 2, 3):
        voco(*words, *(["--seed", "1"] if number == 3 else []), "--shard", f"{number}/3", cwd=tmp_path)
    said = " ".join(voco("merge", "data.json", cwd=tmp_path).stderr.split())
    assert "shard 3/3 is of another command (voco index --output data.json --seed 1 scans)" in said
    voco(*words, "--shard", "3/3", cwd=tmp_path)
    voco(*words, "--shard", "1/2", cwd=tmp_path)
    assert "data.json.shards has shards of 2 and of 3." in voco("merge", "data.json", cwd=tmp_path).stderr
    (tmp_path / "data.json.shards" / "1-of-2.json").unlink()
    write_nifti(scans / "imagesTr" / "new.nii.gz", body_hu(SHAPE, seed=9), np.eye(4))
    grown = " ".join(voco("merge", "data.json", cwd=tmp_path).stderr.split())
    assert "were run with other files in the inputs than there is now." in grown
    (tmp_path / "data.json.shards").rename(tmp_path / "other.json.shards")
    assert "are of a command that writes" in voco("merge", "other.json", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("index scans", "data.json"),
        ("index -o out/x.json --check full scans more", "out/x.json"),
        ("cache build lists/data.json --labels --dir store", "store"),
        ("cache verify --recipe debug --set cache.dir=there data.json", "there"),
        ("predict --flips run scans --output=predictions", "predictions"),
        ("evaluate --predictions p --labels l --require-all", "evaluation"),
        ("embed --bases run scans -o e.npz", "e.npz"),
        ("evaluate --output there --labels l --predictions p", "there"),
    ],
)
def test_the_output_is_told_from_the_words(words: str, target: str) -> None:
    assert merge_target(words.split()) == Path(target)


def test_the_cache_is_beside_its_list_by_default(tmp_path: Path) -> None:
    assert merge_target(["cache", "build", str(tmp_path / "data.json")]) == tmp_path / ".voco-cache"
    with pytest.raises(UsageError, match=r"voco pretrain data\.json has no --shard"):
        merge_target(["pretrain", "data.json"])


def test_flags_and_commands_are_those_of_the_command_line() -> None:
    root = typer.main.get_command(app)
    sharded: dict[str, set[str]] = {}

    def look(command: object, name: str) -> None:
        for child, below in getattr(command, "commands", {}).items():
            look(below, f"{name} {child}".strip())
        parameters = getattr(command, "params", [])
        if any(one.name == "shard" for one in parameters):
            of_command = (one for one in parameters if getattr(one, "is_flag", False) and one.name != "help")
            sharded[name] = {word for one in of_command for word in (*one.opts, *one.secondary_opts)}

    look(root, "")
    assert sharded == {name: {*COMMON_FLAGS, *flags} for name, flags in FLAGS.items()}
