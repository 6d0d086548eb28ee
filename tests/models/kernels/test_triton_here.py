"""Whether kernels can run, and what is said where they cannot."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from voco_cli.models.kernels import triton_here


def why_not(
    monkeypatch: pytest.MonkeyPatch, triton: object, cuda: bool, capability: tuple[int, int] = (9, 0)
) -> str | None:
    def fails(_: torch.Tensor) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, **_: zeros(*size))
    monkeypatch.setattr(triton_here, "triton", triton)
    monkeypatch.setattr(triton_here, "_try_out", {(1,): fails})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return triton_here.missing.__wrapped__()


def test_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not(monkeypatch, None, True) == "Triton is not installed"
    assert why_not(monkeypatch, SimpleNamespace(__version__="3.2.1"), True) == "Triton 3.2.1 is too old"
    new = SimpleNamespace(__version__="3.10.0")
    assert why_not(monkeypatch, new, True) == "Triton fails: Failed to find C compiler."
    assert why_not(monkeypatch, new, True, (7, 5)) == "the card is older than the kernels (compute capability 8.0)"
    assert why_not(monkeypatch, new, False) is None


def test_a_compiler_takes_the_answer_as_known() -> None:
    def chosen(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if triton_here.is_available() else x - 1

    explained = torch._dynamo.explain(chosen)(torch.zeros(2))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
