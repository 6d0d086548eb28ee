"""The verdict and the table of step 0, the end and chance."""

import json
from pathlib import Path

from tests.report.made_runs import LEARNED, METRICS, VERDICT, pretraining_run
from voco_cli.data.index.datalist import Datalist
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.document.blocks import Sentence, Table
from voco_cli.report.pretraining import learning_of, learning_part
from voco_cli.report.run_record import read_run


def test_the_verdict_of_the_weights(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run"), "run"))
    assert (learning.status, learning.sentence, learning.tone) == ("learned", VERDICT["sentence"], "good")
    assert learning.result == "learned: rank 1.50 to 0.50, correlation 0.75"
    # Two by two base crops.
    assert learning.chance == {"rank": 1.5, "cross_rank": 1.5, "top1": 0.25, "correlation": 0.0}


def test_the_table(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run"), "run"))
    (table,) = learning_part(learning, with_verdict=False).blocks
    assert isinstance(table, Table)
    assert [column.heading for column in table.columns] == ["figure", "step 0", "step 10", "chance", "better"]
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    assert rows[0] == ["rank of the true base crop", "1.5", "0.5", "1.5", "lower"]
    assert rows[1][1:4] == ["0.25", "0.625", "0.25"]
    assert rows[-1] == ["mean cosine of two base crops of a scan", "0.5", "0.125", "-", "lower"]
    first, _ = learning_part(learning, with_verdict=True).blocks
    assert first == Sentence(VERDICT["sentence"], "good")


def test_weights_without_a_verdict(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", verdict=None), "run"))
    assert learning.status == ""
    assert learning.sentence == "No verdict was written; the figures are those of the last validation, at step 10."
    assert learning.result == "rank 1.50 to 0.50, correlation 0.75"


def test_a_verdict_older_than_the_last_validation_is_none(tmp_path: Path) -> None:
    later = {"step": 15, "split": "validation", **LEARNED}
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", metrics=[*METRICS, later]), "run"))
    assert learning.sentence == "No verdict was written; the figures are those of the last validation, at step 15."


def test_weights_alone_tell_their_figures(tmp_path: Path) -> None:
    learning = learning_of(read_run(pretraining_run(tmp_path / "run", metrics=[]), "run"))
    assert (learning.start["rank"], learning.end["rank"], learning.end_step) == (1.5, 0.5, 10)
    assert learning.status == "learned"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=METRICS[:1])
    (run / "weights" / "encoder.json").unlink()
    only_start = learning_of(read_run(run, "run"))
    assert only_start.sentence == "Only step 0 was validated so far, which says nothing of learning."
    (run / "metrics.jsonl").unlink()
    none_yet = learning_of(read_run(run, "run"))
    assert none_yet.sentence == "No validation has been written yet, so nothing is known of its learning."
    assert none_yet.result == "no held-out figures"
    record = read_run(run, "run")
    assert record.datalist is not None
    write_datalist(Datalist(training=record.datalist.training), run / "data.json")
    nobody = learning_of(read_run(run, "run"))
    assert nobody.sentence.startswith("No scans were held out")
    assert learning_part(nobody, with_verdict=False).blocks == [Sentence(nobody.sentence)]


def test_figures_of_another_kind_are_shown_by_their_own_name(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=[])
    (run / "weights" / "encoder.json").write_text(json.dumps({"step": 10, "figures": {"novel": 1, "odd": "x"}}))
    learning = learning_of(read_run(run, "run"))
    assert learning.end == {"novel": 1.0}


def test_figures_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", metrics=[])
    about = json.loads((run / "weights" / "encoder.json").read_text())
    odd = {"rank": float("nan"), "top1": 10**400, "correlation": True, "base_cosine": 0.125}
    (run / "weights" / "encoder.json").write_text(json.dumps({**about, "figures": odd}))
    learning = learning_of(read_run(run, "run"))
    assert learning.end == {"base_cosine": 0.125}
    assert learning.result == "learned"


def test_rounding_below_zero_is_zero(tmp_path: Path) -> None:
    metrics = [{"step": 0, "split": "validation", "teacher_distance": -1.825e-9}]
    (_, table) = learning_part(
        learning_of(read_run(pretraining_run(tmp_path / "run", metrics=metrics, verdict=None), "run")),
        with_verdict=True,
    ).blocks
    assert isinstance(table, Table)
    assert [cell.text for cell in table.rows[0].cells][:3] == ["distance of student and teacher", "0", "0"]
