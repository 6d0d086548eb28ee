"""What a start of a pre-training asks the file system for, with the manifest of its cache, and what it does not see."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.file_operations import below, counted_operations
from tests.pretrain.tiny_run import tiny_run, write_data
from tests.training.made_job import weights
from tests.training.processes import run_together
from voco_cli.errors import DataError
from voco_cli.training.run_dir import RunFolder

FEW = ("train.steps=2", "train.checkpoint_every=2", "train.validate_every=2")
ARRAY = ".b2nd"


class ReachedError(Exception):
    """Everything is ready to train."""


def operations_of_a_start(data: Path, run: Path, *override: str) -> Counter[tuple[str, str]]:
    trainer = patch("voco_cli.workflows.pretrain.Trainer.run", side_effect=ReachedError)
    with trainer, counted_operations() as found, pytest.raises(ReachedError):
        tiny_run(data, run, *FEW, *override)
    return found


def test_a_start_and_a_resume_ask_twice_for_the_state_of_a_scan_and_open_none(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 4, 1)
    scans = data.parent
    first = operations_of_a_start(data, tmp_path / "first")
    assert below(first, scans, ".nii.gz")["open"] > 5
    starts = [operations_of_a_start(data, tmp_path / "second")]
    RunFolder(tmp_path / "second").write_state("running", 0)  # as a kill in the first step leaves it
    starts.append(operations_of_a_start(data, tmp_path / "second"))
    for found in starts:
        # Is it there, as the list says? Is it as it was when its volume was made?
        assert below(found, scans, ".nii.gz") == {"state": 2 * 5}
        assert found["open", str(data)] == 1
        assert below(found, scans, ".sqlite") == {"open": 1}
        assert below(found, scans, ARRAY) == {}


def test_of_two_processes_one_touches_list_scans_and_manifest(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 4, 1)
    operations_of_a_start(data, tmp_path / "run", "train.batch_size=1")

    def start(process: int) -> None:
        found = operations_of_a_start(data, tmp_path / "pair", "train.batch_size=1")
        expected = {"state": 2 * 5} if process == 0 else {}
        assert below(found, data.parent, ".nii.gz") == expected
        assert (found["open", str(data)], below(found, data.parent, ".sqlite")["open"]) == (
            (1, 1) if process == 0 else (0, 0)
        )

    run_together(start)


def test_a_volume_that_does_not_open_is_found_when_it_is_read_and_recheck_mends_it(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 2, 0)
    tiny_run(data, tmp_path / "whole", *FEW)
    cut = sorted((data.parent / ".voco-cache" / "volumes").rglob(f"*{ARRAY}"))[0]
    content = cut.read_bytes()
    cut.write_bytes(content[:100])
    with pytest.raises(DataError, match="is damaged") as refused:
        tiny_run(data, tmp_path / "run", *FEW, "data.workers=1")
    assert refused.value.hint == "`--recheck` on voco pretrain or finetune makes again what is gone or does not open"
    tiny_run(data, tmp_path / "run", *FEW, recheck=True)
    assert cut.read_bytes() == content
    assert weights(tmp_path / "run", 2) == weights(tmp_path / "whole", 2)
