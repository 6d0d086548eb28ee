"""The tables of tensors against MONAI's own networks."""

from __future__ import annotations

import pytest

from voco_cli.config.schema import Model
from voco_cli.models.backbone import INDEX, Architecture
from voco_cli.models.build import build_encoder
from voco_cli.models.swinunetr import SwinArchitecture
from voco_cli.models.unet import UNetArchitecture
from voco_cli.models.weights.architecture import build_shapes
from voco_cli.models.weights.load import load_into
from voco_cli.models.weights.read import parse_weights
from voco_cli.models.weights.write import own_tensors

ARCHITECTURES = (
    SwinArchitecture((12,), 1, 5, use_v2=True),
    SwinArchitecture((24,), 24, None, use_v2=False),
    UNetArchitecture((2, 4, 8, 16, 32), 1, None),
    UNetArchitecture((3, 5, 7), 3, 2, residual=True),
    UNetArchitecture((2, 4, 8, 8), 1, 3, residual=True, up_bias=True, supervised=2),
)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_names_shapes_and_order_are_monais(architecture: Architecture) -> None:
    own = own_tensors(build_shapes(architecture))
    assert list(architecture.shapes()) == [(name, tuple(tensor.shape)) for name, tensor in own.items()]
    meta = architecture.meta_tensors()
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in meta.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in own.items()
    }
    assert [name for name in own if name.endswith(INDEX)] == [
        name for name, tensor in own.items() if not tensor.is_floating_point()
    ]


@pytest.mark.parametrize("model", [Model(feature_size=12), Model(backbone="unet", feature_size=2)], ids=str)
def test_weights_held_against_the_tables_get_the_report_of_the_network(model: Model) -> None:
    tensors = dict(build_encoder(model).state_dict())
    tensors["odd.weight"] = next(iter(tensors.values()))
    weights = parse_weights(tensors, {}, "made")
    assert weights.architecture is not None
    in_network = load_into(build_shapes(weights.architecture), weights, min_loaded=0.0)
    assert load_into(weights.architecture.meta_tensors(), weights, min_loaded=0.0) == in_network
    assert in_network.unexpected == ("odd.weight",)
