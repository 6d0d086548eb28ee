"""Do the other objectives learn? Two minutes of one thread each, against the trivial solution.

The gates are half the smallest margin of three seeds; docs/concepts/objectives.md states the margins.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.learning.test_learning import phantoms, train

__all__ = ["phantoms"]

DEEPER = (
    "crops.size=32x32x16",
    "crops.random_per_volume=1",
    "model.levels=4",
    "train.batch_size=4",
    "train.lr=0.003",
    "health.crops_per_case=4",
)
CONTRAST = ("crops.random_per_volume=2", "train.batch_size=8", "train.steps=150")
GENESIS = (*DEEPER, "train.steps=700")
FUSION = (
    *DEEPER,
    "objective.fusion.decoder=segmentation",
    "objective.fusion.levels=2",
    "objective.fusion.boxes=4,10",
    "objective.fusion.box_size=0.3,0.6",
    "train.steps=450",
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "overrides", "figure", "gate"),
    [
        ("contrast", CONTRAST, "accuracy", 0.062),
        ("genesis", GENESIS, "ratio", -0.096),
        ("fusion", FUSION, "dice", 0.10),
    ],
    ids=["contrast", "genesis", "fusion"],
)
def test_beats_the_trivial_solution(
    phantoms: Path,
    tmp_path: Path,
    name: str,
    seed: int,
    overrides: tuple[str, ...],
    figure: str,
    gate: float,
) -> None:
    """By more than the gate, which is negative where less is better."""
    alone = ("objective.voco.weight=0", f"objective.{name}.weight=1", "run.threads=1", "data.workers=0")
    result = train(phantoms, tmp_path / "run", seed, *alone, *overrides, "train.validate_every=1000")
    print(f"\n{name}, seed {seed}: {result.start} -> {result.end}")
    trivial = result.infos[figure].chance
    assert trivial is not None
    margin = result.end[figure] - trivial
    assert margin >= gate if gate > 0 else margin <= gate
    assert result.verdict is not None
    assert result.verdict.status != "collapsed"
