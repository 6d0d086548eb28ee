"""What is counted of a draw and clocked of a step is what is said, and every objective goes all the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import objectives
from benchmarks.objectives import QUICK, SUM, UNLABELLED, Steps, WatchedVolume, made, rows, touched
from benchmarks.registry import Options
from benchmarks.rows import Figure, Ratio
from voco_cli.config.schema import Cache
from voco_cli.data.cache.volume import compress


@pytest.mark.parametrize(
    ("start", "size", "expected"),
    [(0, 48, 1), (47, 2, 2), (40, 96, 4), (90, 6, 1), (90, 10, 2), (100, 5, 1)],
)
def test_blocks_begin_anew_in_each_chunk(start: int, size: int, expected: int) -> None:
    """Chunks of 100 in blocks of 48: they begin at 0, 48, 96, 100, 148."""
    assert touched(start, size, 100, 48) == expected


def written(path: Path, shape: tuple[int, int, int]) -> WatchedVolume:
    cache = Cache(chunk_vox=(16, 16, 16), block_vox=(8, 8, 8))
    path.write_bytes(compress(np.ones(shape, np.uint8), cache).to_cframe())
    return WatchedVolume(path)


def test_decoded_are_the_whole_blocks_that_regions_touch(tmp_path: Path) -> None:
    volume = written(tmp_path / "one.b2nd", (32, 32, 32))
    volume.read((0, 0, 0), (8, 8, 8))
    assert volume.decoded_bytes() == 8**3
    volume.read((4, 8, 15), (8, 8, 2))
    assert volume.decoded_bytes() == 8**3 + 2 * 1 * 2 * 8**3


def test_a_step_is_networks_optimizer_and_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read at 10, before and after the forward pass, at its gradient, before and after the optimizer."""
    objective, settings = made(("rotation",), QUICK)
    steps = Steps(objective, settings, written(tmp_path / "one.b2nd", (64, 64, 64)).path)
    before = [one.detach().clone() for one in objective.encoder.parameters()]
    clock = iter([10.0, 11.0, 13.0, 20.0, 26.0, 29.0])
    monkeypatch.setattr(objectives, "process_time", lambda: next(clock))
    assert steps.take() == (19.0, (13.0 - 11.0) + (26.0 - 20.0), 3.0)
    assert any((one != other).any() for one, other in zip(before, objective.encoder.parameters(), strict=True))
    assert all(one.grad is None for one in objective.parameters())


def test_every_objective_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "warm", lambda: True)  # the allocator of the tests stays as it is
    monkeypatch.setattr(objectives, "DRAWS", 1)
    monkeypatch.setattr(objectives, "VOLUME_VOX", (96, 96, 96))
    *figures, summed = rows(Options(rounds=1, quick=True))
    assert isinstance(summed, Ratio)
    assert summed.name == "steps of voco and mae, against one of their sum"
    assert summed.target == 1
    assert len(summed.reference_s) == len(summed.ours_s) == 1
    found = {row.name: row.value for row in figures if isinstance(row, Figure)}
    assert len(found) == len(figures) == len(UNLABELLED) * 5
    for name in UNLABELLED:
        # VoCo reads its 16 base crops alone: the two random ones lie in them. They are whole blocks.
        assert found[f"{name}: asked of the cache"] == pytest.approx(16 / 18 if name == "voco" else 1)
        assert found[f"{name}: decoded, in whole blocks"] >= found[f"{name}: asked of the cache"]
        assert 0 < found[f"{name}: outside encoder, decoder, optimizer"] < 100 - found[f"{name}: optimizer"]
    assert found["voco: decoded, in whole blocks"] == pytest.approx(16 / 18)
    assert set(SUM) < set(UNLABELLED)
