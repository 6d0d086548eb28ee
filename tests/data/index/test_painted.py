from __future__ import annotations

import json
from pathlib import Path

import pytest

from voco_cli.data.index.painted import PaintedCopy, painted_copies
from voco_cli.data.index.patients import patients_of

RECORD = {"format": "voco-painted/1", "patient": "P7", "original": "/data/P7/ct.nii.gz"}


def test_a_record_tells_original_and_patient(tmp_path: Path) -> None:
    image, other = tmp_path / "imagesTr" / "ct_1.nii.gz", tmp_path / "imagesTr" / "ct_2.nii.gz"
    record = tmp_path / "ct_1.json"
    record.write_text(json.dumps(RECORD))
    copy = PaintedCopy(Path("/data/P7/ct.nii.gz"), "P7", (record, tmp_path / "ct_1.png"))
    assert painted_copies([image, other]) == {image: copy}
    assert patients_of([image])[image] == "P7"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({**RECORD, "format": "voco-data/1"}),
        json.dumps({**RECORD, "patient": ""}),
        json.dumps({**RECORD, "original": "\0"}),
    ],
)
def test_what_is_no_record_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "scan_a.json").write_text(text)
    image = tmp_path / "imagesTr" / "scan_a.nii.gz"
    assert painted_copies([image]) == {}
    assert patients_of([image])[image] == "scan_a"
