"""The encoder's way through Triton's kernels is one graph to torch.compile; on a CPU, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models.kernels.on_triton import INTERPRETED, bounds_of_loops, needs_triton
from voco_cli.models.fast_swin import encoder_levels, pooled
from voco_cli.models.kernels import triton_here
from voco_cli.models.swin import SwinEncoder

__all__ = ["bounds_of_loops"]
pytestmark = [needs_triton, pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter")]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_here, "on_gpu", lambda tensor: True)


class Seen(Exception):
    """The compiler has handed its graph over; computing it in the interpreter would take a quarter of an hour."""


def test_a_compiler_sees_one_graph() -> None:
    encoder = SwinEncoder(1, 12, "current")
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., None]:
        def stop(*arguments: torch.Tensor) -> None:
            raise Seen

        graphs.append(graph)
        return stop

    def embed(crops: torch.Tensor) -> torch.Tensor:
        return pooled(encoder_levels(encoder, crops))

    with pytest.raises(Seen):
        torch.compile(embed, backend=keep, fullgraph=True)(torch.rand(1, 64, 32, 32, 1))
    (graph,) = graphs
    called = [str(node.target) for node in graph.graph.nodes]
    assert sum("window_attention" in target for target in called) == 8
