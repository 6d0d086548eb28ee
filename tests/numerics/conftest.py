"""The folder of reference numbers, computed with the authors' code; not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder named by VOCO_REFERENCE; these tests are skipped, and say so, in CI and where it is absent."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.skip("REFERENCE NUMBERS NOT CHECKED: never in CI")
    folder = Path(os.environ.get("VOCO_REFERENCE", REPOSITORY.parent / "shared" / "reference" / "official"))
    if not folder.is_dir():
        pytest.skip(f"REFERENCE NUMBERS NOT CHECKED: {folder} is absent (set VOCO_REFERENCE)")
    return folder
