"""The tables of tensors against MONAI's own networks."""

from __future__ import annotations

import pytest

from voco_cli.networks.tensor_shapes import INDEX
from voco_cli.networks.weights.architecture import Architecture
from voco_cli.networks.weights.write import own_tensors

ARCHITECTURES = (
    Architecture("swinunetr", (12,), 1, 5, use_v2=True),
    Architecture("swinunetr", (24,), 24, None, use_v2=False),
    Architecture("unet", (2, 4, 8, 16, 32), 1, None),
    Architecture("unet", (3, 5, 7), 3, 2, residual=True),
    Architecture("unet", (2, 4, 8, 8), 1, 3, residual=True, up_bias=True, supervised=2),
)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_names_shapes_and_order_are_monais(architecture: Architecture) -> None:
    own = own_tensors(architecture.build_shapes())
    assert list(architecture.shapes()) == [(name, tuple(tensor.shape)) for name, tensor in own.items()]
    assert [name for name in own if name.endswith(INDEX)] == [
        name for name, tensor in own.items() if not tensor.is_floating_point()
    ]
