"""Settings with their sources, and the differences between runs."""

from pathlib import Path

from tests.report.made_runs import HOSTILE, pretraining_run
from voco_cli.document.blocks import Sentence, Table
from voco_cli.report.run_record import read_run
from voco_cli.report.shared_parts import difference_table, settings_part, value_words


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
