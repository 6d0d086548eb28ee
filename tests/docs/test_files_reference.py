"""docs/reference/files.md names what runs write."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.docs.pages import ROOT
from tests.pretrain.tiny_run import tiny_run, write_data

PAGE = ROOT / "docs" / "reference" / "files.md"


def test_every_name_in_metrics_and_every_file_of_a_run_is_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = ("train.steps=2", "train.validate_every=2", "train.batch_size=2", "objective.voco.inter_weight=0.5")
    tiny_run(write_data(tmp_path / "scans"), run, *steps)
    text = PAGE.read_text()
    told = set(re.findall(r"`([^`\n]+)`", text))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {name for line in lines for name in line} - told == set()
    layout = text[text.index("## The run folder") : text.index("## metrics.jsonl")]
    names = {path.name for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")}
    named = {name for name in names if not name.startswith(("step-", "events."))}
    assert {name for name in named if name not in layout} == set()
