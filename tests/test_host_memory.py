"""What a container leaves, read off files as both versions of control groups write them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from voco_cli import operating_system
from voco_cli.operating_system import GroupMemory, control_groups, free_host_bytes, total_host_bytes


def write_group(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def test_version_2_counts_the_group_and_those_around_it(tmp_path: Path) -> None:
    stat = "anon 900\ninactive_file 200"
    write_group(tmp_path, max="max", current="1200", stat=stat)
    write_group(tmp_path / "job", max="5000", current="1200", stat=stat)
    write_group(tmp_path / "job" / "step", max="3000", current="1200", stat=stat)
    (tmp_path / "of").write_text("0::/job/step\n")
    assert control_groups(tmp_path, tmp_path / "of") == [GroupMemory(3000, 2000), GroupMemory(5000, 4000)]


def test_version_1_says_no_limit_with_a_large_number(tmp_path: Path) -> None:
    stat = "cache 1\ntotal_inactive_file 300"
    top = tmp_path / "memory"
    write_group(top, limit_in_bytes="9223372036854771712", usage_in_bytes="1000", stat=stat)
    write_group(top / "job", limit_in_bytes="4000", usage_in_bytes="1000", stat=stat)
    (tmp_path / "of").write_text("9:name=systemd:/\n4:cpu,memory:/job\n0::/\n")
    assert control_groups(tmp_path, tmp_path / "of") == [GroupMemory(4000, 3300)]


def test_in_a_container_the_top_folder_is_its_own(tmp_path: Path) -> None:
    write_group(tmp_path, max="3000", current="3200", stat="inactive_file 0")
    (tmp_path / "of").write_text("0::/as/the/host/calls/it\n")
    assert control_groups(tmp_path, tmp_path / "of") == [GroupMemory(3000, -200)]


def test_without_control_groups_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert control_groups(tmp_path, tmp_path / "none") == []
    monkeypatch.setattr(operating_system, "control_groups", list)
    assert total_host_bytes() == psutil.virtual_memory().total
    monkeypatch.setattr(operating_system, "control_groups", lambda: [GroupMemory(5000, 4000), GroupMemory(9000, -1)])
    assert (total_host_bytes(), free_host_bytes()) == (5000, 0)
