"""What maps to [0, 1]: the window for CT, percentiles for what is none, and what the user has chosen before all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.data.io.make_files import write_dicom, write_nifti
from voco_cli.config import Resolved, load_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.intensity import (
    DOUBTED,
    FOREGROUND,
    INTENSITY,
    Suited,
    doubt_some,
    header_doubt,
    is_chosen,
    is_doubted,
    judge_by_values,
    said_modality,
    suit_intensity,
    suit_scans,
    with_doubt,
)
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import UsageError

HU = np.linspace(-1000, 400, 6 * 5 * 4).reshape(6, 5, 4).astype(np.int16)
MR = HU + 1000
LIST = Path("data.json")


def debug(*override: str) -> Resolved:
    return load_settings("debug", overrides=override)


def entries(*modalities: str) -> list[Entry]:
    return [
        Entry(image=Path(f"{number}.nii.gz"), patient=str(number), modality=one)
        for number, one in enumerate(modalities)
    ]


def unasked(entries: Sequence[Entry]) -> NoReturn:
    raise AssertionError("no scan needs to be read")


def suited(resolved: Resolved, *modalities: str, values: bool | None = None) -> Suited:
    """Settings for scans of these modalities; ``values`` is what those of the unknown ones say."""
    judge = (lambda unknown: values) if "unknown" in modalities or "mixed" in modalities else unasked
    return suit_intensity(resolved, entries(*modalities), [LIST], judge)


def test_ct_goes_through_the_window_of_the_recipe_without_a_word() -> None:
    resolved = debug()
    assert resolved.settings.preprocess.intensity == "window"
    assert suited(resolved, "CT", "CT") == Suited(resolved)


@pytest.mark.parametrize("modality", ["MR", "PT"])
def test_what_is_no_ct_is_scaled_by_its_percentiles_and_source_and_note_say_so(modality: str) -> None:
    found = suited(debug(), modality, modality)
    preprocess, sources = found.resolved.settings.preprocess, found.resolved.sources
    assert (preprocess.intensity, preprocess.foreground_above) == ("percentiles", None)
    assert sources[INTENSITY] == sources[FOREGROUND] == f"modality of data.json ({modality})"
    assert found.notes == (
        f"{modality} is not in HU: each scan is scaled by its own percentiles 0.5 to 99.5, not by the window of a CT "
        "(--set preprocess.intensity=window takes the window).",
    )
    assert found.warnings == ()


def test_mr_and_pet_together_are_no_ct() -> None:
    found = suited(debug(), "MR", "PT")
    assert found.resolved.sources[INTENSITY] == "modality of data.json (no CT)"
    assert found.notes[0].startswith("What is no CT is scaled by its own percentiles")


@pytest.mark.parametrize(
    ("modalities", "values", "counted"),
    [
        (("CT", "MR", "CT"), None, "2 CT, 1 MR"),
        (("CT", "unknown"), False, "1 CT, 1 unknown"),
        (("MR", "unknown"), True, "1 MR, 1 unknown"),
    ],
)
def test_a_mix_needs_a_choice(modalities: tuple[str, ...], values: bool | None, counted: str) -> None:
    with pytest.raises(UsageError) as refused:
        suited(debug(), *modalities, values=values)
    assert f"({counted})" in refused.value.message
    assert refused.value.hint is not None
    assert "`voco index data.json --modality CT -o data_CT.json`" in refused.value.hint
    assert "`--set preprocess.intensity=percentiles`" in refused.value.hint


@pytest.mark.parametrize("said", ["unknown", "mixed"])
def test_where_nothing_says_the_modality_the_values_do(said: str) -> None:
    resolved = debug()
    as_ct = suited(resolved, said, said, values=True)
    assert as_ct.resolved is resolved
    assert "the modality of 2 scans" in as_ct.notes[0]
    assert "this is CT in HU" in as_ct.notes[0]
    beside_ct = suited(resolved, "CT", said, values=True)
    assert beside_ct.resolved is resolved
    assert "the modality of one scan" in beside_ct.notes[0]
    other = suited(resolved, said, values=False)
    assert other.resolved.settings.preprocess.intensity == "percentiles"
    assert other.resolved.sources[INTENSITY] == "modality of data.json (no CT)"
    assert "this is no CT in HU" in other.notes[0]
    assert suited(resolved, said, values=None) == Suited(resolved)  # no scan can be read: whoever uses it will say so


@pytest.mark.parametrize("choice", [f"{INTENSITY}=window", "preprocess.window_hu=[-100,300]"])
def test_a_choice_of_ones_own_holds_with_a_warning(choice: str) -> None:
    resolved = debug(choice)
    found = suited(resolved, "MR", "CT")
    assert found.resolved is resolved
    assert found.notes == ()
    (warning,) = found.warnings
    assert warning.startswith("data.json is MR, and goes through the window ")
    assert suited(resolved, "CT").warnings == ()


def test_percentiles_that_were_chosen_suit_everything() -> None:
    resolved = debug(f"{INTENSITY}=percentiles")
    assert suited(resolved, "CT", "MR") == Suited(resolved)
    assert is_chosen(resolved)
    assert not is_chosen(debug())


def test_a_box_of_ones_own_is_kept() -> None:
    found = suited(debug(f"{FOREGROUND}=0.1"), "MR")
    assert found.resolved.settings.preprocess.foreground_above == 0.1
    assert found.resolved.sources[FOREGROUND] == "--set"


def test_a_choice_in_a_settings_file_is_one_and_that_of_a_recipe_is_none(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("preprocess: {window_hu: [-100, 300]}\n")
    assert is_chosen(load_settings("debug", tmp_path / "own.yaml"))
    assert not is_chosen(load_settings("cvpr"))
    assert not is_chosen(load_settings(task="btcv"))


def scan(folder: Path, name: str, data: np.ndarray) -> Scan:
    return read_scan(write_nifti(folder / f"{name}.nii.gz", data))


def test_scans_in_memory_are_judged_by_list_tags_names_and_values_in_turn(tmp_path: Path) -> None:
    ct, mr, named = (scan(tmp_path, name, data) for name, data in (("a", HU), ("b", MR), ("sub-01_T1w", MR)))
    resolved = debug()
    assert suit_scans(resolved, [ct]) == Suited(resolved)
    by_values = suit_scans(resolved, [mr])
    assert by_values.resolved.sources[INTENSITY] == "modality of b.nii.gz (no CT)"
    assert by_values.notes[0].startswith("b.nii.gz says nowhere what it is, and its lowest value 0 is no air in HU.")
    by_name = suit_scans(resolved, [named])
    assert by_name.resolved.sources[INTENSITY] == "modality of sub-01_T1w.nii.gz (MR)"
    assert by_name.notes[0].startswith("sub-01_T1w.nii.gz is MR.")
    by_list = suit_scans(resolved, [ct], "MR")
    assert by_list.resolved.settings.preprocess.intensity == "percentiles"
    doubted = suit_scans(resolved, [mr], "CT")
    assert doubted.resolved is resolved
    assert doubted.warnings == (
        "b.nii.gz: its lowest value is 0, and air in a CT is near -1000 HU, so the window may not suit it.",
    )
    with pytest.raises(UsageError, match="one is CT and one is none"):
        suit_scans(resolved, [ct, mr])


def test_scans_in_memory_too_obey_what_was_chosen(tmp_path: Path) -> None:
    mr, resolved = scan(tmp_path, "sub-01_T1w", MR), debug(f"{INTENSITY}=window")
    found = suit_scans(resolved, [mr])
    assert found.resolved is resolved
    assert found.warnings[0].startswith("sub-01_T1w.nii.gz is MR, and goes through the window")


def test_commands_without_settings_name_none(tmp_path: Path) -> None:
    found = suit_scans(debug(), [scan(tmp_path, "b", MR)], settable=False)
    assert "--set" not in found.notes[0]


def test_the_values_of_three_scans_vote(tmp_path: Path) -> None:
    for name, data in (("ct", HU), ("mr", MR)):
        write_nifti(tmp_path / f"{name}.nii.gz", data)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")

    def vote(*names: str) -> bool | None:
        listed = [Entry(image=tmp_path / f"{name}.nii.gz", patient=name) for name in names]
        return judge_by_values(listed)

    assert vote("ct", "ct", "mr") is True
    assert vote("ct", "mr", "mr") is False
    assert vote("broken", "ct") is True
    assert vote("broken") is None
    # Of nine the first, fourth and seventh are read.
    assert vote("mr", "ct", "ct", "mr", "ct", "ct", "ct", "ct", "ct") is False


def test_the_tag_of_a_slice_or_of_the_first_in_a_folder_says_the_modality(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", modality="MR")
    assert said_modality(tmp_path / "series") == "MR"
    assert said_modality(min((tmp_path / "series").iterdir())) == "MR"
    write_nifti(tmp_path / "sub-01_T1w.nii.gz")
    assert said_modality(tmp_path / "sub-01_T1w.nii.gz") == "MR"
    assert said_modality(tmp_path / "series" / "none.nii.gz") == "unknown"


def entry(path: Path, modality: str = "CT", notes: tuple[str, ...] = ()) -> Entry:
    return Entry(image=path, patient=path.name, modality=modality, notes=notes)


@pytest.mark.parametrize(("dtype", "is_odd"), [("uint16", True), ("uint8", True), ("int16", False), ("float32", False)])
def test_a_header_gives_away_numbers_without_a_sign(dtype: str, is_odd: bool, tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz")
    header = replace(read_header(tmp_path / "a.nii.gz"), dtype=dtype)
    doubt = header_doubt(header)
    assert (doubt is not None) == is_odd
    assert doubt is None or "stored without a sign" in doubt


def test_only_a_ct_is_doubted_and_only_once() -> None:
    noted = with_doubt(entry(Path("a"), notes=("x",)), "why")
    assert noted.notes == ("x", f"{DOUBTED}why")
    assert is_doubted(noted)
    assert with_doubt(noted, "another why") is noted
    for modality in ("MR", "PT", "unknown"):
        assert with_doubt(entry(Path("a"), modality), "why").notes == ()
    assert with_doubt(entry(Path("a")), None).notes == ()


def test_a_few_are_read_and_those_without_air_in_hu_noted(tmp_path: Path) -> None:
    for name, data in {"hu": HU, "shifted": HU + 1024, "far_below": HU * 2 - 1000, "mr": HU + 1024}.items():
        write_nifti(tmp_path / f"{name}.nii.gz", data)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    entries = [entry(tmp_path / f"{name}.nii.gz") for name in ("hu", "shifted", "far_below")]
    steps: list[int] = []
    checked = doubt_some([*entries, entry(tmp_path / "mr.nii.gz", "MR")], steps.append)
    assert [is_doubted(one) for one in checked] == [False, True, True, False]
    assert checked[1].notes == (f"{DOUBTED}its lowest value is 24, and air in a CT is near -1000 HU",)
    assert "lie below -1200" in checked[2].notes[0]
    assert steps == [1, 1, 1]
    assert doubt_some([entry(tmp_path / "broken.nii.gz")], steps.append)[0].notes == ()


def test_three_of_many_are_read_spread_over_the_list(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", HU + 1024)
    names = [tmp_path / f"{number}.nii.gz" for number in range(9)]
    for name in names:
        name.symlink_to(tmp_path / "a.nii.gz")
    steps: list[int] = []
    checked = doubt_some([entry(name) for name in names], steps.append)
    assert [number for number, one in enumerate(checked) if is_doubted(one)] == [0, 3, 6]
    assert sum(steps) == 3
