from __future__ import annotations

import pytest

from voco_cli.errors import UsageError
from voco_cli.training import dataloader
from voco_cli.training.dataloader import BatchNumbers, BatchPlan


def test_an_epoch_meets_every_case_once_and_the_next_in_another_order() -> None:
    plan = BatchPlan(num_cases=12, batch_size=3, seed=5)
    epochs = [[case for number in range(4 * e, 4 * e + 4) for case in plan.batch(number)] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2]


def test_what_does_not_fill_a_batch_is_dropped_and_another_time_not() -> None:
    plan = BatchPlan(num_cases=10, batch_size=3, seed=0)
    epochs = [{case for number in range(3 * e, 3 * e + 3) for case in plan.batch(number)} for e in range(10)]
    assert all(len(epoch) == 9 for epoch in epochs)
    assert set.union(*epochs) == set(range(10))


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_out_what_one_process_would_see(num_processes: int) -> None:
    plans = [BatchPlan(24, 2, 7, process, num_processes) for process in range(num_processes)]
    alone = BatchPlan(24, 2 * num_processes, 7)
    for number in range(2 * alone.batches_per_epoch):
        together = [case for plan in plans for case in plan.batch(number)]
        assert together == alone.batch(number)
        assert len(set(together)) == 2 * num_processes


def test_a_batch_depends_on_its_number_and_the_seed_alone() -> None:
    ahead = list(BatchNumbers(BatchPlan(9, 2, 1), 0, 20))
    assert list(BatchNumbers(BatchPlan(9, 2, 1), 13, 20)) == ahead[13:]
    assert ahead[13] == [(13, case) for case in BatchPlan(9, 2, 1).batch(13)]
    assert list(BatchNumbers(BatchPlan(9, 2, 2), 0, 20)) != ahead
    assert len(BatchNumbers(BatchPlan(9, 2, 1), 13, 20)) == 7


def test_fewer_cases_than_a_step_needs() -> None:
    with pytest.raises(UsageError, match=r"needs 8 different scans .* but only 7 are there"):
        BatchPlan(7, 4, 0, num_processes=2)
    BatchPlan(8, 4, 0, num_processes=2)


def test_an_epoch_is_shuffled_once_however_many_batches_it_has() -> None:
    dataloader._shuffled.cache_clear()
    plan = BatchPlan(num_cases=50, batch_size=2, seed=1)
    seen = [index for number in range(50) for index in plan.batch(number)]
    assert sorted(seen) == sorted(2 * list(range(50)))
    assert dataloader._shuffled.cache_info().misses == 2
