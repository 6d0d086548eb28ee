import math
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluate.made_results import made_table
from voco_cli.evaluate.comparison import pairing_faults
from voco_cli.evaluate.segmentation.compare import compare_tables
from voco_cli.evaluate.segmentation.table import ResultTable

NAN = math.nan
BEFORE = [[0.5, 0.6], [0.6, 0.7], [0.7, 0.8], [0.8, 0.9], [0.6, 0.6]]


def shuffled(table: ResultTable, order: list[int]) -> ResultTable:
    return replace(
        table,
        cases=tuple(table.cases[n] for n in order),
        patients=tuple(table.patients[n] for n in order),
        values_NCM=table.values_NCM[order],
        volumes_NC2=table.volumes_NC2[order],
    )


def test_differences_by_hand() -> None:
    after = np.add(BEFORE, [[0.01, 0.1], [0.02, -0.1], [0.03, 0.1], [0.04, -0.1], [0.05, 0.0]])
    comparison = compare_tables(["a", "b"], [made_table(BEFORE), made_table(after)])
    liver, spleen, overall = comparison.of_metric("dice")
    assert (liver.part, liver.run, liver.cases, liver.patients) == ("liver", "b", 5, 5)
    assert liver.difference == pytest.approx(0.03)
    assert (liver.first, liver.value) == (pytest.approx(0.64), pytest.approx(0.67))
    assert 0.01 <= liver.low < 0.03 < liver.high <= 0.05
    assert (liver.p, liver.p_holm, liver.effect) == (pytest.approx(2 / 32), pytest.approx(4 / 32), 1)
    assert (spleen.difference, spleen.p, spleen.p_holm, spleen.effect) == (pytest.approx(0), 1, 1, pytest.approx(0))
    assert overall.part is None
    assert overall.difference == pytest.approx(0.015)
    assert overall.p == overall.p_holm
    assert [one.case for one in comparison.changes["dice"][:4]] == ["case0", "case1", "case2", "case3"]
    assert comparison.changes["dice"][0].change == pytest.approx(0.1)
    assert comparison.changes["dice"][0].structure == "spleen"


def test_order_of_cases_and_classes_does_not_matter() -> None:
    first, second = made_table(BEFORE), made_table(np.array(BEFORE) ** 2)
    turned = shuffled(second, [3, 1, 4, 0, 2])
    turned = replace(
        turned,
        structures=turned.structures[::-1],
        values_NCM=turned.values_NCM[:, ::-1],
        states=tuple(row[::-1] for row in turned.states),
    )
    assert pairing_faults(["a", "b"], [first, turned]) == []
    straight, other = (compare_tables(["a", "b"], [first, table]) for table in (second, turned))
    assert straight.differences == other.differences


def test_scans_of_one_patient_are_one_observation() -> None:
    patients = ["p", "p", "p", "q", "q"]
    before, after = made_table(BEFORE, patients), made_table(np.array(BEFORE) + 0.1, patients)
    liver = compare_tables(["a", "b"], [before, after]).of_metric("dice")[0]
    assert (liver.cases, liver.patients, liver.p) == (5, 2, pytest.approx(0.5))  # 2 patients: p = 2/4


def test_values_that_only_one_run_has_are_counted_and_left_out() -> None:
    after = np.array(BEFORE) + 0.1
    after[0, 0] = NAN
    comparison = compare_tables(["a", "b"], [made_table(BEFORE), made_table(after)])
    liver, _, overall = comparison.of_metric("hd95_mm")
    assert (liver.cases, liver.unpaired) == (4, 1)
    assert liver.difference == pytest.approx(0.1)
    assert liver.first == pytest.approx(0.675)
    # The case's mean is then over the spleen alone, in both runs.
    assert overall.difference == pytest.approx(0.1)
    np.testing.assert_allclose(comparison.case_means["hd95_mm"][:, 0], [0.6, 0.7])


def test_three_runs_share_one_family_of_tests() -> None:
    tables = [made_table(np.array(BEFORE) + step) for step in (0, 0.1, 0.2)]
    found = compare_tables(["a", "b", "c"], tables).of_metric("dice")
    assert [(one.run, one.part) for one in found] == [
        ("b", "liver"),
        ("b", "spleen"),
        ("b", None),
        ("c", "liver"),
        ("c", "spleen"),
        ("c", None),
    ]
    assert [one.p_holm for one in found] == pytest.approx([0.25, 0.25, 2 / 32, 0.25, 0.25, 2 / 32])  # 4 tests of 2/32


def test_what_differs_is_named() -> None:
    first = made_table(BEFORE)
    fewer = shuffled(first, [0, 1, 2])
    assert pairing_faults(["a", "b"], [first, fewer]) == ["b has no cases case3, case4"]
    assert pairing_faults(["a", "b"], [fewer, first]) == ["a has no cases case3, case4"]
    other_classes = made_table(BEFORE, names=("liver", "aorta"))
    assert pairing_faults(["a", "b"], [first, other_classes]) == ["b and a differ in classes: aorta, spleen"]
    assert pairing_faults(["a", "b"], [first, made_table(BEFORE, ["p", "q", "r", "s", "x"])]) == []  # names may differ
    grouped = made_table(BEFORE, ["p0", "p1", "p2", "p3", "p1"])
    words = "b puts other cases together as one patient's than a: cases case1, case4"
    assert pairing_faults(["a", "b"], [first, grouped]) == [words]
    assert pairing_faults(["b", "a"], [grouped, shuffled(grouped, [4, 3, 2, 1, 0])]) == []
    volumes = first.volumes_NC2.copy()
    volumes[2, 1, 0] = 1.1
    faults = pairing_faults(["a", "b"], [first, replace(first, volumes_NC2=volumes)])
    assert faults == ["b was measured against other labels than a in case case2"]
