"""Real MR scans, where they are at hand: does the shipped preset learn what it should in a third of its steps?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voco_cli.config import load_settings
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.segmentation.table import summarise
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.evaluate import measure, measured_split, open_run
from voco_cli.workflows.finetune import run_finetuning

HIPPOCAMPUS = Path(os.environ.get("VOCO_SHARED", Path(__file__).parents[2].parent / "shared")) / "data" / "hippocampus"
STEPS = 500


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the scans are not here")
def test_the_hippocampus_preset_reaches_its_dice_on_patients_that_it_has_not_seen(tmp_path: Path) -> None:
    """Dice of at least 0.865 over both classes on 40 patients, who chose nothing; and validation is reproduced."""
    overrides = (
        "task.split=seeded",
        "task.test_patients=40",
        "task.validation_patients=10",
        f"train.steps={STEPS}",
        "run.device=cpu",
        "run.threads=1",
        "data.workers=1",
    )
    flags = {"data.root": HIPPOCAMPUS, "run.dir": tmp_path / "run"}
    result = run_finetuning(load_settings(None, None, overrides, flags, task="msd_hippocampus"), Callback())
    assert result.evaluated_split == "test"
    assert result.evaluation is not None
    table = read_results(result.evaluation).table
    assert len(set(table.patients)) == 40
    assert summarise(table).overall["dice"].mean >= 0.865

    run = open_run(tmp_path / "run")
    again = measure(run, *measured_split(run, "validation"))
    validated = summarise(read_results(again.folder).table).overall["dice"].mean
    assert f"({validated:.4f} on 10 validation cases)" in result.how_chosen
