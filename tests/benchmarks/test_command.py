"""The one entry, through a case that takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.command import FORMAT, _is_fine, main
from benchmarks.machine import cpu_model, slug
from benchmarks.registry import CASES, Options
from voco_cli.operating_system import usable_cores


def test_list_names_all_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [case.name for case in CASES]


def test_a_case_is_measured_and_written(tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["losses", "--quick", "--rounds", "2", "--out", str(tmp_path)]) == 0
    folder = tmp_path / slug(cpu_model(), usable_cores())
    first, second = sorted(folder.iterdir(), key=lambda path: len(path.name))
    assert second.name == f"{first.stem}-2.json"
    found = json.loads(first.read_text())
    assert found["format"] == FORMAT
    assert found["date"].startswith(first.stem)
    assert found["quick"] is True
    assert found["threads"] == 1
    assert set(found["machine"]) == {"cpu", "cores", "memory_gb", "system", "libc", "python", "packages"}
    assert found["machine"]["packages"]["torch"]
    case = found["cases"]["losses"]
    assert not case["failed"]
    ratio, gradients = case["rows"]
    assert len(ratio["reference_s"]) == len(ratio["ours_s"]) == 2
    assert ratio["equal"]
    assert ratio["target"] == 12
    assert gradients["value"] < 1e-10


def test_a_case_that_fails_is_said_and_the_others_are_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["preprocessing", "--scan", str(tmp_path / "none.nii.gz"), "--out", str(tmp_path)]) == 1
    assert "preprocessing FAILED" in capfd.readouterr().out
    (result,) = tmp_path.rglob("*.json")
    assert json.loads(result.read_text())["cases"]["preprocessing"]["failed"] is True


def test_what_is_fine() -> None:
    assert _is_fine([{"met": True, "equal": True}, {"kind": "note"}], Options())
    assert not _is_fine([{"met": False, "equal": True}], Options())
    assert _is_fine([{"met": False, "equal": True}], Options(quick=True))
    assert not _is_fine([{"met": True, "equal": False}], Options(quick=True))


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["speed"])
    assert "there is no case speed; there are preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "intel-xeon-platinum-8375c-4-cores"),
        ("AMD EPYC 9R14 96-Core Processor", "amd-epyc-9r14-96-core-4-cores"),
    ],
)
def test_a_machine_is_called_by_its_processor(model: str, expected: str) -> None:
    assert slug(model, 4) == expected
