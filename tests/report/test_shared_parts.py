"""Data and splits, settings with their sources, starting weights."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report.made_runs import HOSTILE, classification_run, finetuning_run, pretraining_run, scan_entries
from voco_cli.data.index.datalist import Datalist, Entry, SplitRule
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.document.blocks import Facts, Sentence, Table
from voco_cli.report.run_record import read_run
from voco_cli.report.shared_parts import data_part, difference_table, settings_part, starting_weights, value_words


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
    assert "Its weights were trained on 3 scans in the pre-training (made)." in sentences


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
    assert sentences[1] == "The run has no weights yet that say what they were trained on."
    (run / "weights" / "seen.json").write_text("{")
    write_datalist(Datalist(), run / "data.json")
    _, sentences, _ = blocks(run)
    assert sentences[0] == "data.json lists no scan."
    assert "cannot be read as a manifest of training scans" in sentences[-1]


def test_very_many_skipped_files_are_cut_and_counted(tmp_path: Path) -> None:
    skipped = [(f"/scans/{n}.nii", "damaged") for n in range(250)]
    tables, _, _ = blocks(pretraining_run(tmp_path / "run", skipped=skipped))
    table = tables["250 files were skipped, the first 200"]
    assert len(table.rows) == 200
    assert table.folded


def rows(table: object) -> dict[str, list[str]]:
    assert isinstance(table, Table)
    return {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in table.rows}


def test_what_was_set_stands_first_with_its_source(tmp_path: Path) -> None:
    record = read_run(pretraining_run(tmp_path / "run", "seed=3", "train.lr=0.0001"), "run")
    set_here, defaults = settings_part(record).blocks
    found = rows(set_here)
    assert found["seed"][:3] == ["3", "0", "--set"]
    assert found["seed"][3] == "seed of every random draw"
    assert found["model.backbone"][:3] == ["unet", "swinunetr", "recipe debug"]
    assert found["crops.size"][:3] == ["[24, 24, 24]", "[96, 96, 96]", "--set"]
    assert isinstance(set_here, Table)
    marked = [row.cells[0].text for row in set_here.rows if row.marked]
    assert "seed" in marked
    # The recipe sets it to what it is anyway.
    assert found["preprocess.window_hu"][:2] == ["[-175.0, 250.0]", "[-175.0, 250.0]"]
    assert "preprocess.window_hu" not in marked
    assert [row.cells[0].text for row in set_here.rows][: len(marked)] == marked
    assert set(found) & set(rows(defaults)) == set()
    assert set(found) | set(rows(defaults)) == set(record.settings)
    assert rows(defaults)["train.accumulate"][0] == "1"


def test_settings_of_another_version_are_shown(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    held = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(held.replace("  seed: 0", f"  seed: 0\n  novel: {{key: {HOSTILE!r}}}"))
    table = settings_part(read_run(run, "run")).blocks[0]
    assert rows(table)["novel.key"] == [HOSTILE, "\N{EN DASH}", "default", ""]


def test_differences_between_runs(tmp_path: Path) -> None:
    runs = [read_run(pretraining_run(tmp_path / name, f"seed={n}"), name) for n, name in enumerate("ab")]
    table = difference_table(runs)
    assert rows(table) == {"seed": ["0", "1"]}
    assert isinstance(table, Table)
    assert [column.heading for column in table.columns] == ["setting", "a", "b"]
    same = difference_table([runs[0], runs[0]])
    assert same == Sentence("The settings of these runs are the same.")


def test_values_as_a_settings_file_has_them() -> None:
    assert [value_words(one) for one in (None, True, 1.0, "a b", "", [1, 2])] == [
        "null",
        "true",
        "1.0",
        "a b",
        '""',
        "[1, 2]",
    ]


def test_fresh_weights(tmp_path: Path) -> None:
    found = starting_weights(read_run(pretraining_run(tmp_path / "run"), "run"))
    assert found == Sentence("It started from fresh weights.")


def test_loaded_weights(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run", "model.weights=runs/pretrain")
    assert starting_weights(read_run(run, "run")) == Facts((("started from", "runs/pretrain"),))
    (run / "weights_report.json").write_text(json.dumps({"encoder_share": 0.875, "notes": ["a note"]}))
    assert starting_weights(read_run(run, "run")) == Facts(
        (
            ("started from", "runs/pretrain"),
            ("loaded of the encoder", "87.5% of its parameters"),
            ("note", "a note"),
        )
    )
