"""CT scans whose numbers may not be in HU: which are noted, and which are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.io.make_files import write_nifti
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.intensity import DOUBTED, doubt_some, header_doubt, is_doubted, with_doubt
from voco_cli.data.io.reader import read_header

HU = np.linspace(-1000, 400, 6 * 5 * 4).reshape(6, 5, 4).astype(np.int16)


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
