"""No variable of the caller's environment reaches these tests, and they write to a folder of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("VOCO_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
