"""The words and tables of a study, on figures that are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from voco_cli.study.analysis import METRICS, LabelEfficiency, ScoredRun, label_efficiency
from voco_cli.study.record import ArmRecord, StudyRecord, StudyRun
from voco_cli.workflows.study_outcome import (
    StudyOutcome,
    conclusion,
    outcome_object,
    statements,
    study_headings,
    study_markdown,
    study_rows,
)


def found(gains: dict[str, float], sizes: tuple[int, ...] = (5,), seeds: int = 3) -> LabelEfficiency:
    """Arms that are better than ``none`` by so much in all of 20 cases and both classes, by 0.001 more each seed."""
    case = np.linspace(0.5, 0.7, 20)[:, None] + np.array([[0.0, 0.1]])
    runs = [
        ScoredRun(arm, n, s, made_table(case + 0.01 * n + (gain + 0.001 * s if gain else 0)))
        for s in range(seeds)
        for n in sizes
        for arm, gain in {"none": 0.0, **gains}.items()
    ]
    return label_efficiency(runs, METRICS["segmentation"], resamples=200)


def record(**settings: Any) -> StudyRecord:
    run = StudyRun("none", 5, 0, "none/n005-seed0", status="done")
    fixed = {
        "task.kind": "segmentation",
        "task.freeze_encoder": False,
        "task.choose": "last",
        "evaluate.resamples": 200,
        **settings,
    }
    return StudyRecord("btcv", fixed, {"none": ArmRecord(None, None)}, {run.folder: run}, "public split btcv")


def test_a_row_for_each_size_and_arm() -> None:
    study = found({"voco": 0.02}, (5, 10))
    rows = [dict(zip(study_headings(study), row, strict=True)) for row in study_rows(study)]
    assert [(row["labelled cases"], row["weights"]) for row in rows] == [
        *(("5", "none"), ("5", "voco"), ("10", "none"), ("10", "voco"))
    ]
    assert rows[0]["Dice ± sd over seeds [95 %]"].startswith("0.700 ± 0.000 [")
    assert rows[0]["difference to none [95 %]"] == "-"
    assert rows[1]["Dice ± sd over seeds [95 %]"].startswith("0.721 ± 0.001 [")
    assert rows[1]["difference to none [95 %]"] == "+0.021 [+0.020, +0.022]"
    assert rows[1]["[these runs]"] == "[+0.021, +0.021]"
    assert (rows[1]["cases better"], rows[1]["seeds better"], rows[1]["effect"]) == ("20 of 20", "3 of 3", "+1.00")
    # 2 / 2^20 for each of two sizes
    assert (rows[1]["p"], rows[1]["p (Holm)"], rows[1]["shown"]) == ("<0.001", "<0.001", "higher")


def test_what_follows() -> None:
    (higher,) = found({"voco": 0.02}).gains
    assert conclusion(higher, "none") == "5 labelled cases: voco is higher than none (+0.021 [+0.020, +0.022])."
    nothing = replace(higher, low=-0.001)
    assert conclusion(nothing, "none") == (
        "5 labelled cases: no difference shown between voco and none (+0.021 [-0.001, +0.022])."
    )
    assert conclusion(replace(higher, p_holm=0.06), "none") == (
        "5 labelled cases: no difference shown between voco and none (+0.021 [+0.020, +0.022], "
        "p (Holm) 0.060 of 20 patients)."
    )
    (alone,) = found({"voco": 0.02}, (1,), seeds=1).gains
    assert conclusion(alone, "none") == (
        "1 labelled case: voco minus none is +0.020 with one seed, which says nothing of other seeds."
    )


@pytest.mark.parametrize(("seeds", "share"), [(2, "50%"), (3, "25%"), (5, "6%"), (6, None)])
def test_few_seeds_are_said_to_be_few(seeds: int, share: str | None) -> None:
    text = " ".join(statements(record(), StudyOutcome(found({"voco": 0.02}, seeds=seeds), "test")))
    if share is None:
        assert "agree by chance" not in text
    else:
        assert f"With {seeds} seeds the interval is too narrow" in text
        assert f"all seeds agree by chance in {share} of studies" in text


def test_how_weights_were_chosen_is_said() -> None:
    study = found({"voco": 0.02})
    first = statements(record(), StudyOutcome(study, "test"))[0]
    assert first.startswith(
        "Measured on the 20 test cases of 20 patients (public split btcv), in each scan's own space"
    )
    assert first.endswith("labels of validation cases chose nothing.")
    best = record(**{"task.choose": "best"})
    assert statements(best, StudyOutcome(study, "test"))[0].endswith("whose labels were used beyond those counted.")
    assert statements(best, StudyOutcome(study, "validation"))[0].endswith("too high a figure.")


def test_a_frozen_encoder_is_said_to_move_in_the_arm_without_weights() -> None:
    frozen, study = record(**{"task.freeze_encoder": True}), found({"voco": 0.02, "other": 0.01})
    said = [line for line in statements(frozen, StudyOutcome(study, "test")) if "freeze_encoder" in line]
    assert said == [
        "The encoder of voco, other stays as it is loaded (task.freeze_encoder), and none trains its own, which would "
        "stay random: the differences are of both, the weights and what moves."
    ]
    assert said[0] in study_markdown(frozen, StudyOutcome(study, "test"), study)
    assert not any("freeze_encoder" in line for line in statements(record(), StudyOutcome(study, "test")))


def test_what_is_not_part_of_it_and_what_was_seen_is_said() -> None:
    failed = StudyRun("none", 5, 1, "none/n005-seed1", status="failed", reason="The loss is not finite.")
    study = record()
    study.update(failed)
    study.update(StudyRun("none", 5, 2, "none/n005-seed2"))
    lines = statements(
        study, StudyOutcome(None, excluded=(("voco, 5", "other cases"),), leakage=(("voco", "Data leakage: 2."),))
    )
    assert lines == [
        "Failed: none, 5 labelled cases, seed 1: The loss is not finite.",
        "Left out: voco, 5: other cases.",
        "voco: Data leakage: 2.",
        "1 of 3 runs are not finished: this is an early look.",
    ]


def test_the_page_for_a_paper() -> None:
    study = found({"voco": 0.02, "other": 0.01}, (5, 10))
    page = study_markdown(record(), StudyOutcome(study, "test"), study)
    assert "| 10 | other | 3 | 0.761 ± 0.001 [" in page
    assert "## By class, with the most labelled cases (voco with 10; other with 10)" in page
    assert "| voco | spleen | 0.800 | 0.821 | +0.021 [+0.020, +0.022] | <0.001 | higher |" in page
    assert "| labelled cases | weights | seed 0 | seed 1 | seed 2 |" in page
    assert "| 5 | voco | 0.720 | 0.721 | 0.722 |" in page


def test_json_has_no_nan() -> None:
    study = found({"voco": 0.02}, seeds=1)
    held = outcome_object(record(), StudyOutcome(study, "test"))
    assert held["differences"][0]["low"] is None
    assert held["differences"][0]["shown"] == "one seed only"
    assert held["scores"][0]["sd"] is None
