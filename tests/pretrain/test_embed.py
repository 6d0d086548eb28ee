"""Embeddings of scans: rows, places and files, against numbers found another way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.pretrain.made_run import (
    BASES,
    MadeRun,
    cut,
    literal_features,
    literal_projection,
    made_run,
    stored_volume,
)
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import write_encoder
from voco_cli.pretrain.embed import (
    Embedder,
    ScanEmbeddings,
    about,
    check_embedding_path,
    embed_entries,
    embed_scan,
    open_embedder,
    write_embeddings,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return made_run(tmp_path_factory.mktemp("made"))


def entry(path: Path, patient: str = "someone") -> Entry:
    return Entry(image=path, patient=patient)


def test_base_crops_are_embedded_one_by_one(made: MadeRun) -> None:
    found = embed_scan(open_embedder(made.run), entry(made.scans[0]))
    volume = stored_volume(made.scans[0], made.settings)
    features = literal_features(made, [cut(volume, start) for start in BASES])
    # Two channels at the first level: five levels of 2, 4, 8, 16 and 32 side by side.
    assert found.rows_ND.shape == (4, 62)
    np.testing.assert_allclose(found.rows_ND, features, atol=1e-5)
    assert (found.scan, found.patient) == (made.scans[0], "someone")
    assert (found.crop_N.tolist(), found.base_N.tolist()) == ([1, 2, 3, 4], [1, 2, 3, 4])
    assert found.centres_vox_N3.tolist() == [[x + 11.5, y + 11.5, z + 11.5] for x, y, z in BASES]


def test_an_encoder_of_known_weights_gives_the_features_that_follow(made: MadeRun, tmp_path: Path) -> None:
    encoder = build_encoder(made.settings.model)
    expected = []
    for name, parameter in encoder.named_parameters():
        # Without weights a block gives the bias of its last norm, wherever and whatever it sees.
        torch.nn.init.zeros_(parameter)
        if name.endswith("norm2.bias"):
            torch.nn.init.constant_(parameter, 0.25 * (1 + len(expected)))
            expected += [0.25 * (1 + len(expected))] * len(parameter)
    run = shutil.copytree(made.run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")  # the encoder needs none
    write_encoder(run / "weights", encoder, {"step": 7, "model": made.settings.model.model_dump(mode="json")})
    embedder = open_embedder(run)
    assert (embedder.step, embedder.width) == (7, 62)
    rows = embed_scan(embedder, entry(made.scans[0])).rows_ND
    np.testing.assert_array_equal(rows, np.tile(np.float32(expected), (4, 1)))


def test_projections_are_of_the_crops_of_a_scan_together(made: MadeRun) -> None:
    embedder = open_embedder(made.run, projected=True)
    volume = stored_volume(made.scans[0], made.settings)
    bases = [cut(volume, start) for start in BASES]
    found = embed_scan(embedder, entry(made.scans[0]))
    np.testing.assert_allclose(found.rows_ND, literal_projection(made, literal_features(made, bases)), atol=1e-4)
    drawn = embed_scan(embedder, entry(made.scans[0]), 3)
    starts = (drawn.centres_vox_N3 - 11.5).astype(int).tolist()
    together = [*(cut(volume, (x, y, z)) for x, y, z in starts), *bases]
    expected = literal_projection(made, literal_features(made, together))[:3]
    np.testing.assert_allclose(drawn.rows_ND, expected, atol=1e-4)


def test_random_crops_say_which_base_crop_they_overlap_most(made: MadeRun) -> None:
    found = embed_scan(open_embedder(made.run), entry(made.scans[0]), 5)
    assert found.crop_N.tolist() == [1, 2, 3, 4, 5]
    for base, (x, y, _) in zip(found.base_N, found.centres_vox_N3, strict=True):
        assert base == 1 + 2 * (x > 23.5) + (y > 23.5)  # by the side of the middle that the centre lies on
    volume = stored_volume(made.scans[0], made.settings)
    crops = [cut(volume, tuple((centre - 11.5).astype(int))) for centre in found.centres_vox_N3]
    np.testing.assert_allclose(found.rows_ND, literal_features(made, crops), atol=1e-5)


def test_centres_in_mm_are_places_in_the_patient(made: MadeRun) -> None:
    """A volume whose voxels are the scan's own x, y and z cannot tell a wrong order of axes; this one is turned."""
    scan = read_scan(made.scans[0])
    found = embed_scan(open_embedder(made.run), entry(made.scans[0]))
    from voco_cli.data.cache.preprocess import preprocess

    record = preprocess(scan, made.settings.preprocess).record
    own_vox = record.to_source(found.centres_vox_N3.astype(float))
    lps = np.asarray(scan.origin_xyz_mm) + (own_vox * scan.spacing_xyz_mm) @ np.asarray(scan.direction).T
    np.testing.assert_allclose(found.centres_mm_N3, lps * [-1, -1, 1], atol=1e-3)
    right, left = found.centres_mm_N3[2], found.centres_mm_N3[0]
    assert right[0] - left[0] == pytest.approx(24 * record.spacing_mm[0], rel=1e-5)  # x grows to the right


def test_a_bad_scan_is_told_and_ends_nothing(made: MadeRun, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    told: list[tuple[str, str]] = []
    done: list[int] = []
    scans = [entry(made.scans[0]), entry(bad), entry(tmp_path / "gone.nii.gz"), entry(made.scans[1])]
    found = list(
        embed_entries(
            open_embedder(made.run),
            scans,
            None,
            lambda one, reason: told.append((one.image.name, reason)),
            lambda: done.append(1),
        )
    )
    assert [one.scan for one in found] == made.scans
    assert [name for name, _ in told] == ["bad.nii.gz", "gone.nii.gz"]
    assert all(name in reason for name, reason in told)
    assert len(done) == 4


def embedding(name: str, rows: int) -> ScanEmbeddings:
    numbers = np.arange(rows, dtype=np.int32) + 1
    places = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    features = np.random.default_rng(rows).random((rows, 4), dtype=np.float32)
    patient = "MEIER^ANNA" if name in ("a.nii.gz", "c") else "KHAN^ALI"
    return ScanEmbeddings(Path(name), patient, numbers, numbers[::-1], places, -places, features)


SCANS = [embedding("a.nii.gz", 2), embedding("\u65e5\u672c [x]'.nii.gz", 3), embedding("c", 1)]
ABOUT = {"run": "runs/x", "step": 3}


def test_npz_round_trip_without_pickle(tmp_path: Path) -> None:
    assert write_embeddings(tmp_path / "e.npz", SCANS, 4, ABOUT) == (3, 6)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as read:
        assert read["scan"].tolist() == ["a.nii.gz"] * 2 + ["\u65e5\u672c [x]'.nii.gz"] * 3 + ["c"]
        assert read["patient"].tolist() == [*["p001"] * 2, *["p002"] * 3, "p001"]
        assert {name: read[name].dtype.kind for name in ("scan", "patient", "about")} == dict.fromkeys(
            ("scan", "patient", "about"), "U"
        )
        assert (read["crop"].tolist(), read["base"].tolist()) == ([1, 2, 1, 2, 3, 1], [2, 1, 3, 2, 1, 1])
        for name in ("centre_vox", "centre_mm", "embedding"):
            attribute = {"embedding": "rows_ND"}.get(name, name.replace("centre", "centres") + "_N3")
            expected = np.concatenate([getattr(scan, attribute) for scan in SCANS])
            np.testing.assert_array_equal(read[name], expected)
            assert read[name].dtype == np.float32
        assert json.loads(str(read["about"])) == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_embeddings(tmp_path / "e.parquet", SCANS, 4, ABOUT) == (3, 6)
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["scan", "patient", "crop", "base", "centre_vox", "centre_mm", "embedding"]
    rows = table.to_pydict()
    assert rows["scan"][2] == "\u65e5\u672c [x]'.nii.gz"
    assert rows["base"] == [2, 1, 3, 2, 1, 1]
    assert rows["patient"] == [*["p001"] * 2, *["p002"] * 3, "p001"]
    assert b"MEIER" not in (tmp_path / "e.parquet").read_bytes()
    for name, attribute in (("centre_vox", "centres_vox_N3"), ("embedding", "rows_ND")):
        expected = np.concatenate([getattr(scan, attribute) for scan in SCANS])
        np.testing.assert_array_equal(np.array(rows[name], dtype=np.float32), expected)
    assert json.loads(table.schema.metadata[b"voco"]) == ABOUT


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_what_is_not_finished_is_not_there(tmp_path: Path, suffix: str) -> None:
    def stopped_after_one() -> Iterator[ScanEmbeddings]:
        yield SCANS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(tmp_path / f"e{suffix}", stopped_after_one(), 4, ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("e.csv", "e", "e.npz.gz"):
        with pytest.raises(UsageError, match="does not end like a file of embeddings"):
            check_embedding_path(tmp_path / name)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_embedding_path(tmp_path / "folder.npz")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    check_embedding_path(tmp_path / "e.npz")
    with pytest.raises(UsageError, match="needs the package pyarrow, which is not installed") as caught:
        check_embedding_path(tmp_path / "e.parquet")
    assert 'pip install "voco-cli[parquet]"' in (caught.value.hint or "")


def test_the_file_says_what_its_rows_are(made: MadeRun) -> None:
    settings = made.settings
    embedder = Embedder(made.run, settings, 4, False, 62, lambda stored: torch.cat(list(stored)))
    told = about(embedder, None)
    assert (told["rows"], told["crop_size"], told["grid"], told["step"]) == ("base crops", [24, 24, 24], [2, 2, 1], 4)
    assert told["embedding"] == "encoder, pooled levels"
    other = about(replace(embedder, projected=True), 8)
    assert (other["rows"], other["embedding"]) == ("random crops", "projector, crops of a scan together")
