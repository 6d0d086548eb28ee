"""Which cases are shown, and what is said where a file is gone."""

from pathlib import Path

import numpy as np

from tests.evaluate.made_results import made_table
from tests.report.made_runs import finetuning_run
from voco_cli.config import read_saved
from voco_cli.data.io.reader import read_scan
from voco_cli.document.blocks import Block, Sentence, SlicesRow
from voco_cli.report.case_pictures import case_pictures, telling_cases, window_of
from voco_cli.report.finetuning import read_evaluations
from voco_cli.report.run_record import read_run


def shown(run: Path) -> list[Block]:
    (found,) = read_evaluations(run).measured
    return case_pictures(read_run(run, "run"), read_saved(run / "settings.yaml"), found)


def test_worst_median_and_best() -> None:
    made = made_table([[0.5, 0.7], [0.9, 0.7], [0.2, 0.4], [0.6, 0.8], [np.nan, np.nan]])
    found = [(title, case, round(mean, 6)) for title, case, mean in telling_cases(made)]
    # Means 0.6, 0.8, 0.3, 0.7: the lower of the two in the middle is 0.6.
    assert found == [("Best case", "case1", 0.8), ("Median case", "case0", 0.6), ("Worst case", "case2", 0.3)]
    assert [title for title, _, _ in telling_cases(made_table([[0.1, 0.1], [0.2, 0.2]]))] == ["Best case", "Worst case"]
    assert [title for title, _, _ in telling_cases(made_table([[0.1, 0.1]]))] == ["The only case"]
    assert telling_cases(made_table([[np.nan, np.nan]])) == []


def test_slices_with_label_and_prediction(tmp_path: Path) -> None:
    (row,) = shown(finetuning_run(tmp_path / "run", scans=True))
    assert isinstance(row, SlicesRow)
    assert [one.case for one in row.cases] == ["case1", "case0", "case2"]
    assert [entry.name for entry in row.legend] == ["liver", "spleen"]
    best = row.cases[0]
    # Structures fill slices 3 to 8 of 12, fewer than there is room for, so that all are shown.
    assert [one.index for one in best.slices] == list(range(12))
    assert best.shown == 6
    assert (best.has_label, best.has_prediction) == (True, True)
    assert best.sides == ("R", "L", "A", "P")
    assert best.note == "mean Dice 0.800; window \N{MINUS SIGN}175 to 250"
    assert all(one.image.startswith("data:image/webp;base64,") for one in best.slices)


def test_files_that_are_gone_are_told(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run", scans=True)
    (run / "scans" / "case0.nii.gz").unlink()
    (run / "predictions" / "test" / "case1.nii.gz").unlink()
    row, sentence = shown(run)
    assert isinstance(row, SlicesRow)
    assert [one.case for one in row.cases] == ["case1", "case2"]
    assert row.cases[0].note.endswith("its prediction was removed")
    assert row.cases[0].slices[0].prediction is None
    assert isinstance(sentence, Sentence)
    assert sentence.text.startswith("Median case, case0 (mean Dice 0.600), cannot be shown.")


def test_predictions_may_lie_on_another_disk(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run", scans=True)
    (run / "predictions").rename(tmp_path / "elsewhere")
    (run / "predictions").symlink_to(tmp_path / "elsewhere")
    (row,) = shown(run)
    assert isinstance(row, SlicesRow)
    assert all(one.has_prediction for one in row.cases)


def test_a_window_of_percentiles(tmp_path: Path) -> None:
    run = finetuning_run(
        tmp_path / "run", "preprocess.intensity=percentiles", "preprocess.percentiles=[0,100]", scans=True
    )
    settings = read_saved(run / "settings.yaml")
    # Background -100; boxes 40 and 80.
    assert window_of(read_scan(run / "scans" / "case0.nii.gz"), settings) == (-100.0, 80.0)
