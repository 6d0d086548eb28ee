import math

import pytest

from tests.evaluate.made_results import measurement
from voco_cli.errors import UsageError
from voco_cli.evaluate.segmentation.metrics import (
    RULES,
    Measurement,
    State,
    absent_structure,
    apply_rule,
    empty_rule,
)

DIAGONAL = 300.0
NAN, INF = math.nan, math.inf


def one_of(state: State) -> Measurement:
    if state == "absent":
        return absent_structure(DIAGONAL)
    if state == "both":
        return measurement(state, (1, 1), (0.9, 0.8, 0.7, 3.0, 1.0), DIAGONAL)
    return measurement(state, (1, 0), (0.0, 0.0, 0.0, INF, INF), DIAGONAL)


@pytest.mark.parametrize(
    ("rule", "absent", "missed", "false_positive"),
    [
        ("count", (NAN, NAN), (0, NAN), (0, NAN)),
        ("perfect", (1, 0), (0, NAN), (0, NAN)),
        ("penalty", (NAN, NAN), (0, DIAGONAL), (0, DIAGONAL)),
        ("brats", (1, 0), (0, DIAGONAL), (0, DIAGONAL)),
        ("released", (NAN, NAN), (0, NAN), (NAN, NAN)),
    ],
)
def test_every_rule(
    rule: str, absent: tuple[float, float], missed: tuple[float, float], false_positive: tuple[float, float]
) -> None:
    states: dict[State, tuple[float, float]] = {"absent": absent, "missed": missed, "false_positive": false_positive}
    for state, (share, distance) in states.items():
        values = apply_rule(one_of(state), RULES[rule])
        assert [values[name] for name in ("dice", "iou", "nsd")] == pytest.approx([share] * 3, nan_ok=True)
        assert [values[name] for name in ("hd95_mm", "asd_mm")] == pytest.approx([distance] * 2, nan_ok=True)
    assert apply_rule(one_of("both"), RULES[rule])["dice"] == 0.9


def test_every_rule_says_itself_in_its_own_words() -> None:
    assert len({rule.sentence() for rule in RULES.values()}) == len(RULES)
    assert "false positives left out (they are free)" in RULES["released"].sentence()


def test_no_such_rule() -> None:
    with pytest.raises(UsageError, match="--empty drop") as caught:
        empty_rule("drop")
    assert caught.value.hint is not None
    assert "count" in caught.value.hint
