"""The doctor on healthy, small and broken machines."""

from __future__ import annotations

import json
import os
import sys
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

import pytest

from voco_cli import operating_system
from voco_cli.config import Settings
from voco_cli.errors import UsageError
from voco_cli.models.kernels import triton_here
from voco_cli.resources import doctor, machine
from voco_cli.resources.doctor import examine, load_here, load_in_subprocess
from voco_cli.resources.machine import Check, run_checks

Usage = namedtuple("Usage", "total used free")


def found(data: Path | None = None) -> dict[str, Check]:
    """In this process, where a test can break things."""
    return {check.name: check for check in examine(data, load_here)}


def statuses(checks: dict[str, Check]) -> set[str]:
    return {check.status for check in checks.values()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; no other settings than the defaults."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "no driver")
    return tmp_path


def test_a_healthy_machine(folder: Path) -> None:
    checks = found()
    assert "problem" not in statuses(checks)
    assert "torch" in checks["libraries"].values
    assert checks["memory"].values["total_bytes"] == operating_system.total_host_bytes()
    assert str(folder / ".voco-cache") in checks["cache folder"].found
    speed = checks["cache throughput"].values
    assert speed["shape"] == [384, 384, 96]
    assert speed["read_mb_per_s"] == pytest.approx(speed["read_volumes_per_s"] * speed["volume_bytes"] / 1e6)
    assert list(folder.iterdir()) == []
    json.dumps([asdict(check) for check in checks.values()])


def test_a_library_that_is_missing_is_a_line_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "blosc2", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    checks = found()
    assert (checks["torch"].status, checks["blosc2"].status, checks["pyarrow"].status) == ("problem", "problem", "ok")
    assert "cannot be imported (ModuleNotFoundError" in checks["torch"].found
    assert checks["torch"].advice == "pip install --force-reinstall torch"
    assert "monai" in checks["libraries"].values
    assert "torch" not in checks["libraries"].values
    assert "not installed; needed for tables of embeddings" in checks["pyarrow"].found
    assert checks["GPU"].status == "warning"
    assert "could not be checked" in checks["GPU"].found
    assert checks["memory"].status in ("ok", "warning")


def test_a_library_that_breaks_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise OSError('libx.so: cannot open\\nmore')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    check = found()["huggingface_hub"]
    assert (check.status, check.found) == ("warning", "cannot be imported (OSError: libx.so: cannot open)")


def test_libraries_are_loaded_in_a_process_of_their_own() -> None:
    apart, here = load_in_subprocess(), load_here()
    assert list(apart) == list(here) == ["libraries", "extras", "processor", "GPU"]
    assert apart["libraries"] == here["libraries"]
    assert [check.name for check in apart["GPU"]] == [check.name for check in here["GPU"]]


def test_a_library_that_ends_the_process_ends_no_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    checks = {check.name: check for check in examine()}
    assert checks["libraries"].status == "problem"
    assert "SIGILL" in checks["libraries"].found
    assert "memory" in checks
    assert "GPU" not in checks


@pytest.mark.parametrize(("free", "status"), [(0.9e9, "problem"), (3e9, "warning"), (5e9, "ok")])
def test_memory(monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr(operating_system, "free_host_bytes", lambda: int(free))
    monkeypatch.setattr(operating_system, "total_host_bytes", lambda: int(8e9))
    check = machine.memory()
    assert check.status == status
    assert check.found == f"{free / 1e9:.1f} GB free of 8.0 GB"


@pytest.mark.parametrize(("free", "status"), [(0.1e9, "problem"), (3e9, "warning"), (50e9, "ok")])
def test_room_on_a_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(10**12, 0, int(free)))
    check = doctor.room("run folder", folder / "runs" / "a")
    assert (check.status, check.values["free_bytes"]) == (status, int(free))
    assert status != "problem" or check.advice == "free some space, or choose another disk: --set run.dir=FOLDER"


def test_a_folder_that_may_not_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path) != folder)
    checks = found()
    assert checks["cache folder"].status == "problem"
    assert checks["cache folder"].found == f"{folder / '.voco-cache'}: {folder} may not be written to"
    assert checks["cache folder"].advice == "choose another folder: --set cache.dir=FOLDER"
    assert "cache throughput" not in checks


def test_a_file_system_that_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    check = doctor.room("cache folder", folder / "cache")
    assert check.status == "problem"
    assert check.found.endswith("cannot be written to (Read-only file system)")


def test_data(folder: Path) -> None:
    data = folder / "data.json"
    assert found(data)["data"].status == "problem"
    scan = folder / "a.nii"
    scan.touch()
    data.write_text(json.dumps({"training": [{"image": "a.nii"}]}))
    check = found(data)["data"]
    assert (check.status, check.values) == ("warning", {"training": 1, "validation": 0, "test": 0})
    scan.unlink()
    check = found(data)["data"]
    assert check.status == "problem"
    assert "lists 1 file that is missing" in check.found


def test_settings_that_the_environment_spoils(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_TRAIN__STPES", "3")
    checks = found()
    assert checks["settings"].status == "problem"
    assert "train.stpes is not a setting" in checks["settings"].found
    assert checks["run folder"].status == "ok" or checks["run folder"].status == "warning"


def test_more_threads_than_a_container_allows_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setattr(machine, "core_quota", lambda: 3.6)
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    check = machine.cores()
    assert check.status == "warning"
    assert check.advice == "--set run.threads=3"
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert machine.cores().status == "ok"


@pytest.mark.parametrize(("limit", "status"), [(64, "problem"), (512, "warning"), (4096, "ok"), (-1, "ok")])
def test_open_files(monkeypatch: pytest.MonkeyPatch, limit: int, status: str) -> None:
    monkeypatch.setattr(machine, "open_file_limits", lambda: (limit, limit))
    assert machine.open_files().status == status


def test_shared_memory_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cvpr: 2 volumes of (2 + 16) crops of 96^3 bytes, 4 batches ahead and 2 in use of each of 3 processes."""
    settings = Settings()
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"workers": 3})})
    monkeypatch.setattr(machine, "SHARED", tmp_path)
    needed = 3 * 6 * 2 * 18 * 96**3
    for free, status in ((needed, "ok"), (needed - 1, "warning")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: Usage(0, 0, free))
        check = machine.shared_memory(settings)
        assert (check.status, check.values["needed_bytes"]) == (status, needed)


def test_a_gpu_that_this_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert next(machine.gpus()).found == "none; torch was built without CUDA"
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "nvidiactl")
    check = next(machine.gpus())
    assert (check.status, check.found) == ("warning", "an NVIDIA driver is here, but torch was built without CUDA")


def test_gpus_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    properties = namedtuple("properties", "name major minor")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties(f"card {index}", 7 + index, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (int(70e9), int(80e9)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "device", lambda index: pytest.MonkeyPatch.context())
    first, second = machine.gpus()
    assert first.found.startswith("card 0, 70.0 GB free of 80.0 GB, CUDA 12.8")
    assert (first.status, second.name, second.values["capability"]) == ("warning", "GPU 1", "8.0")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for missing, status, end in (
        ("Triton is not installed", "warning", "bf16; Triton is not installed"),
        (None, "ok", "bf16"),
    ):
        monkeypatch.setattr(triton_here, "missing", lambda index, missing=missing: missing)
        check = next(machine.gpus())
        assert (check.status, check.values["kernels"]) == (status, missing is None)
        assert check.found.endswith(end)


def test_whatever_a_check_raises_is_a_line() -> None:
    def wrong() -> Check:
        raise UsageError("not so", "but so")

    def broken() -> Check:
        raise SystemError("odd")

    assert list(run_checks("a", wrong, failing="problem")) == [Check("a", "problem", "not so", "but so")]
    assert list(run_checks("b", broken)) == [Check("b", "warning", "could not be checked (SystemError: odd)")]
