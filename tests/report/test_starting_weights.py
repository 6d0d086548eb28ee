"""What a run started from."""

import json
from pathlib import Path

from tests.report.made_runs import finetuning_run, pretraining_run
from voco_cli.document.blocks import Facts, Sentence
from voco_cli.report.run_record import read_run
from voco_cli.report.shared_parts import starting_weights


def test_fresh_weights(tmp_path: Path) -> None:
    found = starting_weights(read_run(pretraining_run(tmp_path / "run"), "run"))
    assert found == Sentence("It started from fresh weights.")


def test_loaded_weights(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run", "model.weights=runs/pretrain")
    assert starting_weights(read_run(run, "run")) == Facts((("started from", "runs/pretrain"),))
    (run / "weights_report.json").write_text(json.dumps({"encoder_share": 0.875, "notes": ["a note"]}))
    assert starting_weights(read_run(run, "run")) == Facts(
        (
            ("started from", "runs/pretrain"),
            ("loaded of the encoder", "87.5% of its parameters"),
            ("note", "a note"),
        )
    )
