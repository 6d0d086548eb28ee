"""A new backbone is one module and its entry in the registry; the rest of the package takes it from there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.models import toy_backbone
from tests.pretrain.tiny_run import tiny_run, write_data
from voco_cli.config import load_settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.finetune.labelled_task import encoder_level
from voco_cli.models.backbone import NetworkPart, all_backbones, backbone_of
from voco_cli.models.build import build_segmenter
from voco_cli.models.fast_swin import WIDEST_ON_GPU
from voco_cli.models.weights import read_weights
from voco_cli.models.weights.tensor_names import part_of

TWO_STEPS = ("train.steps=2", "train.validate_every=2", "train.checkpoint_every=2", "model.backbone=toy")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "toy", toy_backbone.RULES)


def test_a_registered_backbone_is_pretrained_and_finetuned_from_its_weights(tmp_path: Path) -> None:
    tiny_run(write_data(tmp_path / "scans", 2, 2), tmp_path / "pretrained", *TWO_STEPS)
    described = json.loads((tmp_path / "pretrained" / "weights" / "encoder.json").read_text())
    assert described["loads_into"] == "tests.models.toy_backbone.ToySegmenter"
    assert set(described["names"]) == {"fine.weight", "fine.bias", "coarse.weight", "coarse.bias"}

    start = f"model.weights={tmp_path / 'pretrained'}"
    tuned = tiny_finetune(make_data(tmp_path / "task"), tmp_path / "tuned", *TWO_STEPS, start, "task.layer_decay=0.5")
    report = json.loads((tmp_path / "tuned" / "weights_report.json").read_text())
    assert report["encoder_share"] == 1.0
    assert report["missing"] == ["answer.weight", "answer.bias"]
    assert tuned.evaluation is not None
    weights = read_weights(tmp_path / "tuned")
    assert {part_of(name) for name in weights.tensors} == {NetworkPart.ENCODER, NetworkPart.DECODER}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("crops.size=23x23x23", "crops reach the network as 23x23x23, not multiples of 2 voxels (toy)"),
        ("model.feature_size=3", "model.feature_size 3 is not a multiple of 2 (toy)"),
        ("model.backbone=toys", "input should be 'swinunetr', 'unet', 'resenc' or 'toy' (got 'toys')"),
    ],
)
def test_its_rules_are_held_in_the_words_of_the_others(setting: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings("debug", None, ("model.backbone=toy", "crops.input_size=null", setting))
    assert said in caught.value.message


def test_levels_of_its_encoder_are_known() -> None:
    names = ("fine.weight", "encoder.coarse.bias", "answer.weight")
    assert [encoder_level(name, toy_backbone.RULES.deepest(5)) for name in names] == [0, 1, None]


def test_every_tensor_belongs_to_its_own_backbone_alone() -> None:
    for name, rules in BACKBONES.items():
        network = build_segmenter(Model(backbone=name, feature_size=rules.width_multiple), 1, 2)
        for tensor in network.state_dict():
            claims = [
                other
                for other in all_backbones()
                if any(re.match(pattern, tensor) for pattern in other.patterns.parts.values())
            ]
            assert claims == [backbone_of(name)], tensor


def test_memory_counts_on_kernels_where_they_run() -> None:
    assert backbone_of("swinunetr").memory.widest_by_kernels == WIDEST_ON_GPU
