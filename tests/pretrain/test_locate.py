"""What a network says of the place of crops, against the literal way; and what `voco locate` draws of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.pretrain.made_run import BASES, MadeRun, cut, literal_logits, made_run, stored_volume
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, UsageError
from voco_cli.pretrain.inference import open_encoder, open_pretrained
from voco_cli.pretrain.locate import locate, location_record
from voco_cli.training.checkpoint import list_checkpoints


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return made_run(tmp_path_factory.mktemp("made"))


def test_logits_and_ranks_are_those_of_the_literal_way(made: MadeRun) -> None:
    found = locate(open_pretrained(made.run), read_scan(made.scans[0]), [(18, 12), (30, 30, 12)])
    volume = stored_volume(made.scans[0], made.settings)
    bases = [cut(volume, start) for start in BASES]
    expected = literal_logits(made, [cut(volume, (6, 0, 0)), cut(volume, (18, 18, 0))], bases)
    np.testing.assert_allclose(found.logits_SK, expected, atol=2e-5)
    # [6, 30) x [0, 24) overlaps the first base crop by 18 of 24 voxels of x, and the third by 6.
    assert found.scene.labels_SK[0].tolist() == [0.75, 0, 0.25, 0]
    assert found.scene.labels_SK[1].tolist() == [0.0625, 0.1875, 0.1875, 0.5625]
    first, second = found.answers
    assert (first.centre, first.true) == ((18, 12, 12), 0)
    assert (second.centre, second.true) == ((30, 30, 12), 3)
    for answer, logits in zip(found.answers, expected, strict=True):
        assert answer.likely == int(np.argmax(logits))
        assert answer.logit == pytest.approx(logits.max(), abs=2e-5)
        if logits[answer.true] > 0:
            assert answer.rank == (logits > logits[answer.true]).sum()
    assert found.chance_rank == 1.5


def test_against_another_scan_its_base_crops_are_asked(made: MadeRun) -> None:
    scans = [read_scan(path) for path in made.scans]
    found = locate(open_pretrained(made.run), scans[0], [(18, 12)], against=scans[1])
    own, other = (stored_volume(path, made.settings) for path in made.scans)
    sets = [[cut(volume, start) for start in BASES] for volume in (other, own)]
    np.testing.assert_allclose(found.logits_SK, literal_logits(made, [cut(own, (6, 0, 0))], *sets), atol=2e-5)
    assert found.target is not None
    assert (found.scene.name, found.asked.name) == (made.scans[0].name, made.scans[1].name)


def test_drawn_crops_are_those_of_the_label_preview(made: MadeRun) -> None:
    from voco_cli.figures.crops import preview_scan

    scan, settings = read_scan(made.scans[0]), made.settings
    found = locate(open_pretrained(made.run), scan, num_crops=2)
    preview = preview_scan(scan, settings)
    np.testing.assert_array_equal(found.scene.starts_S3, preview.crops.starts_N3[:2])
    np.testing.assert_array_equal(found.scene.labels_SK, preview.crops.labels_SK)


def test_the_record_holds_the_whole_answer(made: MadeRun) -> None:
    found = locate(open_pretrained(made.run), read_scan(made.scans[0]), [(18, 12)])
    record = json.loads(json.dumps(location_record(found)))
    (crop,) = record["crops"]
    assert (crop["name"], crop["centre"], crop["true"]) == ("r1", [18, 12, 12], 1)
    assert crop["labels"] == [0.75, 0, 0.25, 0]
    assert crop["logits"] == pytest.approx(found.logits_SK[0].tolist())
    assert crop["logit"] == max(crop["logits"])
    assert record["bases"][2] == {"number": 3, "start": [24, 0, 0]}
    assert (record["step"], record["chance_rank"], record["mean_rank"]) == (4, 1.5, crop["rank"])


def test_the_last_checkpoint_is_the_encoder_that_is_taken_away_and_the_best_is_by_its_rank(
    made: MadeRun, tmp_path: Path
) -> None:
    last, alone = open_pretrained(made.run), open_encoder(made.run)
    assert (last.step, alone.step) == (4, 4)
    for name, tensor in alone.encoder.state_dict().items():
        assert tensor.equal(last.model.encoder.state_dict()[name])
    run = shutil.copytree(made.run, tmp_path / "run")
    (only,) = list_checkpoints(run / "checkpoints")
    later = shutil.copytree(only.path, only.path.with_name("step-000008"))
    told = json.loads((later / "checkpoint.json").read_text())
    (later / "checkpoint.json").write_text(json.dumps({**told, "step": 8, "score": told["score"] + 1}))
    assert open_pretrained(run).step == 8
    assert open_pretrained(run, which="best").step == 4


def test_a_run_without_checkpoints_can_be_embedded_with_and_not_located_with(made: MadeRun, tmp_path: Path) -> None:
    run = shutil.copytree(made.run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(DataError, match="has no checkpoint, and the projector is nowhere else") as caught:
        open_pretrained(run)
    assert caught.value.hint is not None
    assert "voco embed" in caught.value.hint
    assert open_encoder(run).step == 4
    shutil.rmtree(run / "weights")
    with pytest.raises(DataError, match="has no weights yet"):
        open_encoder(run)


def test_damaged_and_foreign_checkpoints_are_told(made: MadeRun, tmp_path: Path) -> None:
    run = shutil.copytree(made.run, tmp_path / "run")
    file = run / "checkpoints" / "step-000004" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.safetensors cannot be used"):
        open_pretrained(run)
    saved = (run / "settings.yaml").read_text()
    shutil.copy(made.run / "checkpoints" / "step-000004" / "model.safetensors", file)
    (run / "settings.yaml").write_text(saved.replace("feature_size: 2", "feature_size: 4"))
    with pytest.raises(DataError, match="tensors of another network"):
        open_pretrained(run)


def test_fine_tuning_runs_are_refused_with_where_they_came_from(made: MadeRun, tmp_path: Path) -> None:
    run = shutil.copytree(made.run, tmp_path / "run")
    saved = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(
        saved.replace("preset: null", "preset: btcv").replace("weights: null", "weights: runs/pretrain")
    )
    for opened in (open_pretrained, open_encoder):
        with pytest.raises(UsageError, match="is a fine-tuning run") as caught:
            opened(run)
        assert caught.value.hint == "it started from runs/pretrain"
