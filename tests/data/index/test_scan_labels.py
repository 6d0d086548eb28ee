"""Labels of whole scans from a table: what they say of which scan, and what is told of those that do not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.test_index import app
from tests.data.index.build_lists import OPTIONS, index
from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.index.case_table import read_scan_labels, with_scan_labels
from voco_cli.data.index.class_map import ClassMap
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.errors import UsageError

TABLE = "Case,tumour,effusion\na,1,0\nb.nii.gz,no,\nc,,yes\n"


def scans(root: Path, *places: str) -> Path:
    for number, place in enumerate(places):
        write_nifti(root / f"{place}.nii.gz", numbers(start=number))
    return root


def labels_of(datalist: Datalist) -> dict[str, dict[str, bool]]:
    return {entry.name: entry.scan_labels for _, entry in datalist.entries()}


def test_missing_cells_are_unknown_and_files_name_scans_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    datalist = index(
        scans(tmp_path / "s", "a", "b", "c", "d"), options=replace(OPTIONS, scan_labels=tmp_path / "t.csv")
    )
    assert labels_of(datalist) == {
        "a": {"tumour": True, "effusion": False},
        "b": {"tumour": False},
        "c": {"effusion": True},
        "d": {},
    }
    assert datalist.scan_classes == ("tumour", "effusion")
    assert datalist.class_notes == ()
    write_datalist(datalist, tmp_path / "data.json")
    assert read_datalist(tmp_path / "data.json") == datalist
    again = index(tmp_path / "data.json")
    assert (labels_of(again), again.scan_classes) == (labels_of(datalist), datalist.scan_classes)


def test_scans_of_one_name_are_called_as_the_index_calls_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case;tumour\nx_p1;1\ny_p1;0\np1.nii.gz;1\n")
    datalist = index(scans(tmp_path / "s", "x/p1", "y/p1"), options=replace(OPTIONS, scan_labels=tmp_path / "t.csv"))
    assert labels_of(datalist) == {"x_p1": {"tumour": True}, "y_p1": {"tumour": False}}
    assert datalist.class_notes == (f"{tmp_path}/t.csv has 1 case that names no single scan here: p1.nii.gz.",)


def entries(**scan_labels: dict[str, bool]) -> list[Entry]:
    return [Entry(image=Path(f"{n}.nii.gz"), patient=n, scan_labels=said) for n, said in scan_labels.items()]


def test_what_is_said_twice_and_not_alike_is_unknown_and_told(tmp_path: Path) -> None:
    """In a list and in the table, in two rows of one scan, and in two columns that a map calls alike."""
    (tmp_path / "t.csv").write_text("case,tumour,mass,effusion\na,1,,1\nb,1,0,0\nb.nii.gz,,,1\nc,1,1,\n")
    found = entries(a={"tumour": False}, b={}, c={})
    same = ClassMap(synonyms={"tumour": ("mass",)}, leave_out=("pleura",))
    labelled, classes, told = with_scan_labels(found, read_scan_labels(tmp_path / "t.csv"), same)
    assert [entry.scan_labels for entry in labelled] == [{"effusion": True}, {}, {"tumour": True}]
    assert classes == ("tumour", "effusion")
    assert told == ["Scan labels say yes and no of tumour in a, tumour in b, effusion in b, which count as unknown."]


def test_a_map_may_be_of_scan_labels_alone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "m.yaml").write_text("synonyms: {lesion: t/tumour}\nleave_out: [effusion]")
    options = replace(OPTIONS, scan_labels=tmp_path / "t.csv", class_map=tmp_path / "m.yaml")
    datalist = index(scans(tmp_path / "s", "a", "b", "c"), options=options)
    assert labels_of(datalist) == {"a": {"lesion": True}, "b": {"lesion": False}, "c": {}}
    write_datalist(datalist, tmp_path / "data.json")
    for map_text, source, table in (
        ("synonyms: {mass: t/tumour}", tmp_path / "s", tmp_path / "t.csv"),
        ("synonyms: {mass: lesion}", tmp_path / "data.json", None),
    ):
        (tmp_path / "m.yaml").write_text(map_text)
        again = index(source, options=replace(options, scan_labels=table))
        assert again.scan_classes[0] == "mass"
    (tmp_path / "m.yaml").write_text("leave_out: [spleen]")
    with pytest.raises(UsageError, match=r"m.yaml names no class of these label maps"):
        index(tmp_path / "s", options=options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,tumour\na,1", "t.csv has no column case; its columns are name, tumour."),
        ("case,patient\na,1", "t.csv has no scan labels."),
        ("case,tumour\na,maybe", "t.csv says 'maybe' of tumour in a, which is no answer."),
        ("case,tumour\na,1\na,0", "t.csv:3: the case a stands twice."),
        ("case,tumour,tumour\na,1,0", "t.csv has the column 'tumour' twice."),
        ("case,tumour\na,1,0", "t.csv:2: the row has 3 cells, and the table 2 columns."),
        ("case,tumour,mass\na,NaN,\nb,,unknown", "t.csv says nothing of any scan: all its cells are empty or unknown."),
        ("case,tumour\nz,1\ny,0", "t.csv names none of the scans (z, y)."),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError) as caught:
        with_scan_labels(entries(a={}), read_scan_labels(tmp_path / "t.csv"), ClassMap())
    assert caught.value.message.removeprefix(f"{tmp_path}/") == said


def test_empty_cells_behind_the_last_column_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case,tumour\na,1,,\nb,,\n")
    assert read_scan_labels(tmp_path / "t.csv").answers == {"a": {"tumour": True}, "b": {}}


def test_the_command_shows_how_many_scans_a_label_is_known_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{TABLE}z,1,1\n")
    root, data = scans(tmp_path / "s", "a", "b", "c", "d"), tmp_path / "data.json"
    shown = CliRunner().invoke(
        app, [str(root), "-o", str(data), "--modality", "CT", "--scan-labels", str(tmp_path / "t.csv")]
    )
    assert shown.exit_code == 0, shown.output
    rows = [" ".join(line.replace("│", " ").split()) for line in shown.stdout.splitlines()]
    assert "tumour 1 1 2" in rows
    assert "effusion 1 1 2" in rows
    assert "t.csv has 1 case that names no single scan here: z." in " ".join(shown.output.split())
