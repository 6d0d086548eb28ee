"""What the experiments of arms and seeds share: what is finished is not repeated, and tables from made results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.arms import Experiment, compare_arms, comparison_cells, of_cases, of_structures
from voco_cli.evaluate.segmentation.metrics import METRICS, Structure
from voco_cli.evaluate.segmentation.table import ResultTable


def made_table(dice_NC: list[list[float]], names: tuple[str, ...] = ("liver", "tumour")) -> ResultTable:
    """Results of which only the Dice matters; cases alternate between two sites."""
    dice = np.array(dice_NC)
    count = len(dice)
    values = np.repeat(dice[:, :, None], len(METRICS), axis=2)
    return ResultTable(
        cases=tuple(f"{('north', 'south')[n % 2]}_{n}" for n in range(count)),
        patients=tuple(str(n) for n in range(count)),
        structures=tuple(Structure(name, (value,)) for value, name in enumerate(names, start=1)),
        values_NCM=values,
        states=(("both",) * len(names),) * count,
        volumes_NC2=np.ones((count, len(names), 2)),
    )


def test_what_is_finished_is_not_repeated(tmp_path: Path) -> None:
    done: list[str] = []
    Experiment(tmp_path, {"steps": 2}).once("first", done.append, "one")
    again = Experiment(tmp_path, {"steps": 2})
    again.once("first", done.append, "two")
    again.once("second", done.append, "three")
    assert done == ["one", "three"]
    assert set(again.cpu_s) == {"first", "second"}


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError

    experiment, done = Experiment(tmp_path, {}), []
    with pytest.raises(RuntimeError):
        experiment.once("run", fail)
    Experiment(tmp_path, {}).once("run", done.append, 1)
    assert done == [1]


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    Experiment(tmp_path, {"patch": (8, 8, 8)}).once("run", lambda: None)
    Experiment(tmp_path, {"patch": (8, 8, 8)})
    with pytest.raises(ValueError, match="other sizes"):
        Experiment(tmp_path, {"patch": (8, 8, 16)})


def test_a_command_that_fails_says_why_and_is_kept(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, {})
    with pytest.raises(RuntimeError, match="nowhere is not a run folder"):
        experiment.voco("evaluate", "nowhere")
    assert (tmp_path / "commands.log").read_text().startswith("$ voco evaluate nowhere\n")


def test_arms_are_compared_with_the_first_by_seed_and_case() -> None:
    real = [made_table([[0.9, 0.2], [0.9, 0.4]]), made_table([[0.9, 0.4], [0.9, 0.6]])]
    both = [made_table([[0.9, 0.3], [0.9, 0.3]]), made_table([[0.9, 0.7], [0.9, 0.7]])]
    tumours = {
        arm: [of_structures(one, ["tumour"]) for one in of_seed]
        for arm, of_seed in {"real": real, "both": both}.items()
    }
    cells = comparison_cells(compare_arms(tumours))
    assert cells["real"] == ["0.400 ± 0.141", "-", "-", "-"]  # (0.3 + 0.5) / 2, 0.1 * sqrt(2)
    mean, difference, seeds, cases = cells["both"]
    assert mean == "0.500 ± 0.283"
    assert difference.startswith("+0.100 [")  # seeds: 0 and +0.2; cases: +0.2 and 0
    assert (seeds, cases) == ("1 of 2", "1 of 2")


def test_cases_of_a_site() -> None:
    table = made_table([[0.1, 0.1], [0.2, 0.2], [0.5, 0.5]])
    assert of_cases(table, "north").of_metric("dice").tolist() == [[0.1, 0.1], [0.5, 0.5]]
    assert of_cases(table, "south").cases == ("south_1",)
