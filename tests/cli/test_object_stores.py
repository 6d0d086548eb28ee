"""The way from a bucket to an encoder, through the command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.command import voco
from tests.data.cache.made_scans import make_entries
from tests.stores import Traffic
from voco_cli.atomic_files import write_atomic
from voco_cli.object_stores import location, objects_below

SHORT = ("--recipe", "debug", "--set", "train.steps=4", "--set", "data.workers=1")


@pytest.mark.slow
def test_pretraining_from_a_bucket_is_that_from_a_disk(tmp_path: Path, s3: Traffic) -> None:
    """Also where reads are cut in the middle; scans and cache are in the bucket."""
    (tmp_path / "ct").mkdir()
    make_entries(tmp_path / "ct", 3, (64, 64, 32))
    for file in sorted((tmp_path / "ct").iterdir()):
        write_atomic(location(f"s3://scans/ct/{file.name}"), file.read_bytes())
    stores = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    stores["VOCO_DATA__SCRATCH_DIR"] = str(tmp_path / "scratch")
    s3.cut_reads = 2
    for place, name, cache in (("ct", "disk", "cache"), ("s3://scans/ct", "bucket", "s3://scans/cache")):
        listed, run = f"{name}.json", f"runs/{name}"
        words = ("pretrain", listed, *SHORT, "--set", f"cache.dir={cache}", "-o", run)
        for call in (("index", place, "-o", listed, "--modality", "CT"), words):
            ended = voco(*call, cwd=tmp_path, **stores)
            assert ended.returncode == 0, ended.stderr
            assert stores["AWS_SECRET_ACCESS_KEY"] not in ended.stdout + ended.stderr
    weights = [tmp_path / "runs" / name / "weights" / "encoder.safetensors" for name in ("disk", "bucket")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert s3.cut_reads == 0
    assert len(objects_below(location("s3://scans/cache/volumes"))) == 3
    kept = [file.read_text(errors="replace") for file in (tmp_path / "runs" / "bucket").rglob("*.*") if file.is_file()]
    assert not any(stores["AWS_SECRET_ACCESS_KEY"] in text for text in kept)
