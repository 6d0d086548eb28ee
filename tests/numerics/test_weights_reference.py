"""Files written by the authors' save calls, and names and shapes of all that they published."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR
from torch import Tensor

from voco_cli.data.collections.published import published_files, tensor_digest
from voco_cli.models.backbone import NetworkPart
from voco_cli.models.swin import SwinEncoder
from voco_cli.models.weights import Weights, load_into, own_tensors, patch_merging_of, read_weights
from voco_cli.models.weights.architecture import build_shapes
from voco_cli.models.weights.load import LoadStatus
from voco_cli.models.weights.read import parse_weights

# file -> kind, prefix of the encoder's names by branch, loaded, missing and unexpected tensors in SwinUNETR, step
FILES = {
    "cvpr_model_current_epoch.pt": (
        "cvpr-pretraining",
        {"student": "student.", "teacher": "teacher."},
        (145, 22, 6),
        100,
    ),
    "cvpr_final_model.pth": (
        "cvpr-pretraining",
        {"student": "student.", "teacher": "teacher."},
        (145, 22, 6),
        None,
    ),
    "tpami_model_step20000_ddp.pt": ("tpami-pretraining", {"student": "backbone."}, (145, 22, 6), 20000),
    "tpami_final_model.pt": ("tpami-pretraining", {"student": "backbone."}, (145, 22, 6), None),
    "ssl_head_layout.pt": ("swinunetr-encoder", {"student": ""}, (145, 22, 0), None),
    "finetune_model.pt": ("swinunetr", {"student": ""}, (167, 0, 0), 49),
    "finetune_model_final.pt": ("swinunetr", {"student": ""}, (167, 0, 0), 49),
}
CASES = [(name, branch) for name, facts in FILES.items() for branch in facts[1]]
TRUE_PREFIX = {"ssl_head_layout.pt": "backbone."}
"""The reference made this file out of the TPAMI one; its numbers bear the names that they had there."""


def reference_value(name: str, shape: tuple[int, ...]) -> Tensor:
    """Parameter of the reference checkpoints: ((7i + crc32(name)) mod 251 - 125) / 1024."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return torch.from_numpy((((7 * i + zlib.crc32(name.encode())) % 251 - 125) / 1024).astype(np.float32)).reshape(
        shape
    )


@pytest.mark.parametrize(("name", "branch"), CASES)
def test_every_value_of_the_authors_files_arrives(reference: Path, name: str, branch: Any) -> None:
    kind, prefixes, counts, step = FILES[name]
    weights = read_weights(reference / "checkpoints" / f"{name}.gz", branch=branch)
    network = SwinUNETR(in_channels=1, out_channels=14, feature_size=12, use_v2=True)
    report = load_into(network, weights)
    assert (weights.kind, weights.step, weights.patch_merging) == (kind, step, "legacy")
    assert (len(report.loaded), len(report.missing), len(report.unexpected)) == counts
    assert report.mismatched == ()
    assert report.encoder_share == 1.0
    assert patch_merging_of(network) == report.patch_merging == "legacy"
    parameters = dict(network.named_parameters())
    checked = 0
    for parameter_name in set(report.loaded) & set(parameters):
        full = TRUE_PREFIX.get(name, prefixes[branch]) + parameter_name
        expected = reference_value(full, tuple(parameters[parameter_name].shape))
        assert torch.equal(parameters[parameter_name].detach(), expected), parameter_name
        checked += 1
    # 137 floating tensors of the encoder; the other 8 of the 145 are index buffers
    assert checked == counts[0] - 8


def test_unpacked_files_are_read_as_well(reference: Path, tmp_path: Path) -> None:
    for name in ("cvpr_model_current_epoch.pt", "finetune_model.pt"):
        packed = reference / "checkpoints" / f"{name}.gz"
        (tmp_path / name).write_bytes(gzip.decompress(packed.read_bytes()))
        weights, same = read_weights(tmp_path / name), read_weights(packed)
        assert weights.tensors.keys() == same.tensors.keys()
        assert all(torch.equal(tensor, same.tensors[key]) for key, tensor in weights.tensors.items())


def test_heads_of_the_authors_files(reference: Path) -> None:
    for name, prefix in (("cvpr_final_model.pth", ""), ("tpami_final_model.pt", "")):
        for branch in ("student", "teacher"):
            weights = read_weights(reference / "checkpoints" / f"{name}.gz", branch=branch)  # type: ignore[arg-type]
            assert len(weights.heads) == 6
            for head, tensor in weights.heads.items():
                assert torch.equal(tensor, reference_value(f"{branch}.{prefix}{head}", tuple(tensor.shape))), head


def shapes(table: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
    """Tensors without memory."""
    index = "relative_position_index"
    return {
        f"{prefix}{name}": torch.empty(
            shape, dtype=torch.int64 if name.endswith(index) else torch.float32, device="meta"
        )
        for name, shape in table.items()
    }


def published(keys: dict[str, Any]) -> dict[str, tuple[dict[str, Tensor], int]]:
    """Layout of each published file -> its tensors and how many parameters the reference counts in the encoder."""
    backbone, decoder, heads = keys["backbone"], keys["swinunetr_v2_decoder"], keys["tpami_heads"]
    files = {}
    for size, tensors in backbone.items():
        encoder = sum(int(np.prod(s)) for n, s in tensors.items() if not n.endswith("relative_position_index"))
        files[f"SSL_head {size}"] = shapes(tensors), encoder
        files[f"VoComni {size}"] = {**shapes(tensors), **shapes(decoder[size])}, encoder
        files[f"TPAMI checkpoint {size}"] = (
            {**shapes(tensors, "module.backbone."), **shapes(heads[size], "module.")},
            encoder,
        )
        spelled = {name.replace("swinViT", "swin_vit"): shape for name, shape in tensors.items()}
        files[f"VoCo_10k spelling {size}"] = {**shapes(spelled, "module."), **shapes(decoder[size], "module.")}, encoder
    student = {**backbone["48"], **keys["cvpr_proj_head"]}
    files["CVPR checkpoint 48"] = (
        {**shapes(student, "student."), **shapes(student, "teacher.")},
        files["SSL_head 48"][1],
    )
    return files


def test_every_encoder_tensor_of_every_published_file_maps(reference: Path) -> None:
    keys = json.loads((reference / "full_size_keys.json").read_text())
    required = set(keys["encoder_keys_that_must_load"])
    assert len(required) == 145
    for name, (tensors, parameters) in published(keys).items():
        weights = parse_weights({"state_dict": tensors}, {}, name)
        architecture = weights.architecture
        assert architecture is not None
        assert architecture.feature_size == int(name.split()[-1])
        assert architecture.out_channels == (21 if name.startswith(("VoComni", "VoCo_10k")) else None)
        report = load_into(build_shapes(architecture), weights)
        assert required <= set(report.loaded), name
        counted = sum(
            report.count(part, LoadStatus.LOADED)[1] for part in (NetworkPart.TRANSFORMER, NetworkPart.ENCODER)
        )
        assert counted == parameters, name
        assert report.mismatched == ()
        with torch.device("meta"):
            assert required == set(own_tensors(_encoder(architecture.feature_size, weights))), name


def _encoder(feature_size: int, weights: Weights) -> SwinEncoder:
    from voco_cli.models.weights.architecture import _CountsOnCpu

    assert weights.patch_merging == "legacy"
    with _CountsOnCpu():
        return SwinEncoder(1, feature_size, weights.patch_merging)


def test_parameters_of_the_published_networks(reference: Path) -> None:
    keys = json.loads((reference / "full_size_keys.json").read_text())
    counts = keys["counts"]
    for size in ("48", "96", "192"):
        tensors = {**shapes(keys["backbone"][size]), **shapes(keys["swinunetr_v2_decoder"][size])}
        architecture = parse_weights(tensors, {}, size).architecture
        assert architecture is not None
        own = own_tensors(build_shapes(architecture))
        total = sum(tensor.numel() for tensor in own.values() if tensor.is_floating_point())
        assert [len(own), total] == counts[f"swinunetr_v2_fs{size}_out21"]


def test_the_published_nnunet_file_maps(reference: Path) -> None:
    keys = json.loads((reference / "full_size_keys.json").read_text())
    weights = parse_weights({"network_weights": shapes(keys["nnunet_plainconvunet_out21"])}, {}, "VoComni_nnunet.pt")
    architecture = weights.architecture
    assert architecture is not None
    assert weights.kind == "nnunet"
    assert architecture.filters == (32, 64, 128, 256, 320, 320)
    assert architecture.out_channels == 21
    network = build_shapes(architecture)
    assert isinstance(network, DynUNet)
    report = load_into(network, weights)
    # 6 levels x 2 convolutions x (kernel, norm's weight and bias); 5 x (2 x 3 + 2) and the output's 2
    assert report.count(NetworkPart.ENCODER, LoadStatus.LOADED)[0] == 36
    assert report.count(NetworkPart.DECODER, LoadStatus.LOADED)[0] == 5 * 8 + 2 + 4 * 2
    assert report.missing == report.mismatched == report.unexpected == ()


def test_digests_of_published_files_are_those_of_their_tensors(reference: Path) -> None:
    keys = json.loads((reference / "full_size_keys.json").read_text())
    found = {file.name: file.tensors for file in published_files()}
    for size, letter in (("48", "B"), ("96", "L"), ("192", "H")):
        encoder, decoder = keys["backbone"][size], keys["swinunetr_v2_decoder"][size]
        assert found[f"VoCo_{letter}_SSL_head.pt"] == tensor_digest(encoder)
        assert found[f"VoComni_{letter}.pt"] == tensor_digest({**encoder, **decoder})
