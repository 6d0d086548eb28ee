"""Counts of a list, what was skipped, what is gone, and what the weights have seen."""

from pathlib import Path

from tests.report.made_runs import classification_run, pretraining_run, scan_entries
from voco_cli.data.index.datalist import Datalist, Entry, SplitRule
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.document.blocks import Facts, Sentence, Table
from voco_cli.report.run_record import read_run
from voco_cli.report.shared_parts import data_part


def blocks(run: Path) -> tuple[dict[str, Table], list[str], list[Facts]]:
    """Tables by caption, sentences, facts."""
    found = data_part(read_run(run, "run")).blocks
    tables = {one.caption: one for one in found if isinstance(one, Table)}
    sentences = [one.text for one in found if isinstance(one, Sentence)]
    return tables, sentences, [one for one in found if isinstance(one, Facts)]


def texts(table: Table) -> list[list[str]]:
    return [
        [cell.text.replace("\N{MULTIPLICATION SIGN}", "x").replace("\N{NO-BREAK SPACE}", " ") for cell in row.cells]
        for row in table.rows
    ]


def test_counts_and_skipped(tmp_path: Path) -> None:
    tables, sentences, _ = blocks(pretraining_run(tmp_path / "run"))
    assert texts(tables["Scans of each split"]) == [["training", "3", "3", "0"], ["validation", "1", "1", "0"]]
    assert texts(tables["1 file was skipped"]) == [["/scans/odd.nii.gz", "damaged: it ends early"]]
    assert "No patient is in more than one split." in sentences
    assert "4 of 4 scans are not any more where the run found them: s0, s1, s2 and 1 more." in sentences
    assert "Its weights have seen 3 scans in the pre-training (made)." in sentences


def test_a_path_that_no_disk_takes_is_a_scan_that_is_gone(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    write_datalist(
        Datalist(name="made", modality="CT", training=scan_entries(tmp_path / ("x" * 300), 1)), run / "data.json"
    )
    assert "1 of 1 scans are not any more where the run found them: s0." in blocks(run)[1]


def test_sizes_and_the_rule_of_the_split(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    sizes = [((10, 20, 30), (1.0, 1.0, 2.0)), ((20, 20, 40), (2.0, 1.0, 3.0)), ((30, 20, 80), (3.0, 1.0, 4.0))]
    entries = [
        Entry(image=tmp_path / f"{n}.nii", patient=str(n), shape=shape, spacing_mm=spacing, orientation="RAS")
        for n, (shape, spacing) in enumerate(sizes)
    ]
    rule = SplitRule(seed=5, validation=0.1, test=0.25)
    write_datalist(Datalist(name="sized", modality="CT", training=tuple(entries), split=rule), run / "data.json")
    tables, sentences, (facts,) = blocks(run)
    assert texts(tables["Least, median and greatest along x, y and z"]) == [
        ["size, voxels", "10 x 20 x 30", "20 x 20 x 40", "30 x 20 x 80"],
        ["spacing, mm", "1 x 1 x 2", "2 x 1 x 3", "3 x 1 x 4"],
        ["extent, mm", "10 x 20 x 60", "40 x 20 x 120", "90 x 20 x 320"],
    ]
    assert ("split", "by patient, seed 5: 10% for validation, 25% for testing") in facts.pairs
    assert "Orientations: 3 RAS." in sentences


def test_a_patient_in_two_splits_is_told(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    twin = Entry(image=tmp_path / "twin.nii", patient="p1")
    listed = Datalist(training=tuple(scan_entries(tmp_path, 2)), validation=(twin,))
    write_datalist(listed, run / "data.json")
    assert "1 patients are in more than one split, by their scans: s1, twin." in blocks(run)[1]


def test_categories_are_counted(tmp_path: Path) -> None:
    tables, _, _ = blocks(classification_run(tmp_path / "run", truth=(0, 0, 0, 1), second=(0.1, 0.2, 0.3, 0.4)))
    table = tables["Scans of each split"]
    assert [column.heading for column in table.columns][-2:] == ["normal", "pneumonia"]
    assert texts(table) == [["training", "2", "2", "0", "0", "0"], ["test", "4", "4", "4", "3", "1"]]


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run", skipped=())
    (run / "data.json").unlink()
    (run / "weights" / "seen.json").unlink()
    _, sentences, _ = blocks(run)
    assert sentences[0].startswith("What it was trained on is not known.")
    assert sentences[1] == "The run has no weights yet that say what they have seen."
    (run / "weights" / "seen.json").write_text("{")
    write_datalist(Datalist(), run / "data.json")
    _, sentences, _ = blocks(run)
    assert sentences[0] == "data.json lists no scan."
    assert "cannot be read as a list of scans that were seen" in sentences[-1]


def test_very_many_skipped_files_are_cut_and_counted(tmp_path: Path) -> None:
    skipped = [(f"/scans/{n}.nii", "damaged") for n in range(250)]
    tables, _, _ = blocks(pretraining_run(tmp_path / "run", skipped=skipped))
    table = tables["250 files were skipped, the first 200"]
    assert len(table.rows) == 200
    assert table.folded
