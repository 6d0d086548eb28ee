"""Simulated steps against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.command import _parse
from benchmarks.scaling import Costs, link_of, ring_s, simulate

COSTS = Costs(
    step_s=0.1,
    gradient_bytes=80e6,
    norms=10,
    norm_bytes=8e3,
    load_s=0.04,
    volume_bytes=5e6,
    volumes=2,
    overlap=0.5,
    loaders=2,
    gpus_per_node=8,
    inner_latency_s=1e-5,
    inner_bytes_per_s=1e11,
    outer_latency_s=1e-4,
    outer_bytes_per_s=1e9,
    disk_bytes_per_s=1e10,
)


def test_an_all_reduce_in_a_ring() -> None:
    """Four processes: six messages of a quarter, 25 MB at 1 GB/s and 1 ms each."""
    assert ring_s(4, 100e6, 1e-3, 1e9) == pytest.approx(6 * (1e-3 + 0.025))
    assert ring_s(1, 100e6, 1e-3, 1e9) == 0.0


def test_a_link_is_found_in_what_two_processes_took() -> None:
    seconds = {size: ring_s(2, size, 3e-5, 4e9) for size in (1 << 10, 1 << 26)}
    assert link_of(seconds) == pytest.approx((3e-5, 4e9))


def test_one_gpu_waits_for_nobody() -> None:
    found = simulate(COSTS, 1)
    assert found.needs_s == pytest.approx({"compute": 0.1, "loader": 0.04, "collective": 0.0, "disk": 0.001})
    assert found.limit == "compute"
    assert found.step_s == pytest.approx(0.1)


def test_eight_gpus_of_a_node_hide_their_gradients() -> None:
    """Gradient: 14 x (10 us + 10 MB / 100 GB/s) = 1.54 ms, hidden; each norm: 14 x (10 us + 1 kB / 100 GB/s)."""
    found = simulate(COSTS, 8)
    assert found.needs_s["collective"] == pytest.approx(10 * 14 * (1e-5 + 1e-8))
    assert found.step_s == pytest.approx(0.1014014)
    assert found.needs_s["disk"] == pytest.approx(0.008)
    assert found.limit == "compute"


def test_sixty_four_gpus_wait_for_the_network() -> None:
    """Gradient: 126 x (0.1 ms + 1.25 MB / 1 GB/s) = 170.1 ms, 50 of them hidden; norms: 10 x 126 x 0.100125 ms."""
    found = simulate(COSTS, 64)
    assert found.needs_s["collective"] == pytest.approx(0.1201 + 0.1261575)
    assert found.limit == "collective"
    assert found.step_s == pytest.approx(0.3462575)


def test_what_feeds_the_gpus_may_be_slower() -> None:
    late = simulate(replace(COSTS, load_s=0.5), 8)
    assert late.limit == "loader"
    assert late.step_s == pytest.approx(0.5)
    slow = simulate(replace(COSTS, disk_bytes_per_s=1e8), 8)
    assert slow.limit == "disk"
    assert slow.step_s == pytest.approx(0.8)


def test_without_loader_processes_steps_wait_for_every_volume() -> None:
    found = simulate(replace(COSTS, loaders=0), 1)
    assert found.limit == "loader"
    assert found.step_s == pytest.approx(0.18)


def test_costs_are_given_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert _parse(["scaling", "--given", "step_s=0.2", "--given", "loaders=4"]).given == [
        ("step_s", 0.2),
        ("loaders", 4.0),
    ]
    with pytest.raises(SystemExit):
        _parse(["scaling", "--given", "steps=2"])
    assert "steps=2 is not NAME=NUMBER" in capsys.readouterr().err
