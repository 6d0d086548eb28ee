"""Reading weights: every layout, no code run, one sentence for what cannot be read."""

import gzip
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voco_cli.config.objective_schema import VocoOptions
from voco_cli.config.schema import Model
from voco_cli.errors import DataError, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import Kind, read_weights, write_encoder, write_model
from voco_cli.models.weights.safe_unpickle import read_torch_file
from voco_cli.objectives.voco.model import Projector, VolumeContrast

TINY = Model(backbone="unet", feature_size=2)


@pytest.fixture(scope="module")
def swin() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_encoder(Model(feature_size=12)).state_dict()


def head() -> dict[str, Tensor]:
    return {f"layer{i}.0.{leaf}": torch.zeros(2) for i in (1, 2, 3) for leaf in ("weight", "bias")}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def layouts(swin: dict[str, Tensor]) -> dict[str, tuple[Any, Kind, int]]:
    """Name -> content, kind, tensors of heads."""
    twins = {
        **prefixed("student.", swin),
        **prefixed("student.proj_head.", head()),
        **prefixed("teacher.", swin),
        **prefixed("teacher.proj_head.", head()),
    }
    shared = {**prefixed("backbone.", swin), **prefixed("student.", head()), **prefixed("teacher.", head())}
    vit = {name.replace("swinViT", "swin_vit"): tensor for name, tensor in swin.items()}
    return {
        "cvpr flat": (twins, Kind.CVPR_PRETRAINING, 6),
        "cvpr nested": ({"global_step": 100, "state_dict": twins}, Kind.CVPR_PRETRAINING, 6),
        "tpami flat": (shared, Kind.TPAMI_PRETRAINING, 6),
        "tpami ddp": ({"global_step": 7, "state_dict": prefixed("module.", shared)}, Kind.TPAMI_PRETRAINING, 6),
        "encoder": (swin, Kind.SWINUNETR_ENCODER, 0),
        "old spelling": (prefixed("module.", vit), Kind.SWINUNETR_ENCODER, 0),
        "in net": ({"net": prefixed("module.backbone.", swin), "epoch": 3}, Kind.SWINUNETR_ENCODER, 0),
        "in network_weights": ({"network_weights": swin}, Kind.SWINUNETR_ENCODER, 0),
        "in student": ({"student": swin, "teacher": swin}, Kind.SWINUNETR_ENCODER, 0),
    }


LAYOUTS = (
    "cvpr flat", "cvpr nested", "tpami flat", "tpami ddp", "encoder", "old spelling", "in net", "in network_weights",
    "in student",
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_encoder(swin: dict[str, Tensor], layout: str, tmp_path: Path) -> None:
    content, kind, heads = layouts(swin)[layout]
    torch.save(content, tmp_path / "file.pt")
    weights = read_weights(tmp_path / "file.pt")
    assert weights.kind is kind
    assert len(weights.tensors) == 145
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in swin.items())
    assert len(weights.heads) == heads
    assert weights.patch_merging == "legacy"
    assert weights.step == {"cvpr nested": 100, "tpami ddp": 7, "in net": 3}.get(layout)
    assert weights.settings is None


def test_patch_merging_can_be_overruled(swin: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(swin, tmp_path / "mine.pt")
    assert read_weights(tmp_path / "mine.pt", patch_merging="current").patch_merging == "current"


def test_a_branch_that_is_not_there(swin: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(swin, tmp_path / "one.pt")
    with pytest.raises(UsageError, match=r"one\.pt holds one network only, and no teacher"):
        read_weights(tmp_path / "one.pt", branch="teacher")
    torch.save(prefixed("teacher.", swin), tmp_path / "teacher.pt")
    with pytest.raises(UsageError, match=r"holds a teacher, but no student"):
        read_weights(tmp_path / "teacher.pt")


def run_folder(folder: Path) -> VolumeContrast:
    """A run as the engine leaves it, with a student and a teacher that differ."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    voco = VolumeContrast(lambda: build_encoder(TINY), lambda n: Projector(n, (4,), 4), VocoOptions())
    about = {"step": 20, "model": TINY.model_dump(mode="json"), "preprocess": {"window_hu": [-175, 250]}}
    write_encoder(folder / "weights", voco.encoder, about)
    checkpoint = folder / "checkpoints" / "step-000020"
    checkpoint.mkdir(parents=True)
    save_file({name: t.contiguous() for name, t in voco.state_dict().items()}, checkpoint / "model.safetensors")
    (checkpoint / "checkpoint.json").write_text(json.dumps({"format": "voco-checkpoint/1", "step": 20}))
    (folder / "settings.yaml").write_text("settings:\n  model: {backbone: unet, patch_merging: current}\n")
    return voco


def test_a_run_folder(tmp_path: Path) -> None:
    voco = run_folder(tmp_path)
    for source in (tmp_path, tmp_path / "weights", tmp_path / "weights" / "encoder.safetensors"):
        weights = read_weights(source)
        assert weights.kind is Kind.VOCO_ENCODER
        assert weights.step == 20
        assert weights.patch_merging is None
        assert weights.settings is not None
        assert weights.settings["preprocess"] == {"window_hu": [-175, 250]}
        own = voco.encoder.state_dict()
        assert set(weights.tensors) == set(own)
        assert all(torch.equal(weights.tensors[name], own[name]) for name in own)


def test_branches_of_a_run(tmp_path: Path) -> None:
    voco = run_folder(tmp_path)
    assert voco.teacher_encoder is not None
    student = read_weights(tmp_path / "checkpoints" / "step-000020")
    teacher = read_weights(tmp_path, branch="teacher")
    assert student.kind is teacher.kind is Kind.VOCO_CHECKPOINT
    assert student.step == teacher.step == 20
    for weights, encoder, projector in (
        (student, voco.encoder, voco.projector),
        (teacher, voco.teacher_encoder, voco.teacher_projector),
    ):
        assert torch.equal(
            weights.tensors["bottleneck.conv1.conv.weight"], encoder.state_dict()["bottleneck.conv1.conv.weight"]
        )
        assert projector is not None
        assert torch.equal(weights.heads["projector.0.weight"], projector.state_dict()["0.weight"])
    name = "bottleneck.conv1.conv.weight"
    assert not torch.equal(student.tensors[name], teacher.tensors[name])


def test_an_unfinished_run_is_read_from_its_last_checkpoint(tmp_path: Path) -> None:
    run_folder(tmp_path)
    for file in (tmp_path / "weights").iterdir():
        file.unlink()
    assert "step-000020" in read_weights(tmp_path).origin


def test_a_whole_network_comes_before_its_encoder(tmp_path: Path) -> None:
    run_folder(tmp_path)
    write_model(tmp_path / "weights", build_encoder(TINY), {"model": {"backbone": "unet"}})
    assert read_weights(tmp_path).kind is Kind.VOCO_MODEL


def test_the_header_is_enough_and_so_is_the_json_of_older_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = Model(feature_size=12, patch_merging="current")
    encoder = build_encoder(model)
    write_encoder(tmp_path, encoder, {"step": 5, "model": model.model_dump(mode="json")})
    alone = (tmp_path / "encoder.safetensors").rename(tmp_path / "alone.safetensors")
    assert read_weights(alone).patch_merging == "current"
    assert read_weights(alone).step == 5
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors", {"format": "voco-encoder/1"})
    assert read_weights(tmp_path / "encoder.safetensors").patch_merging == "current"


def test_a_gzipped_file(swin: dict[str, Tensor], tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(swin, stream)
    (tmp_path / "file.pt.gz").write_bytes(gzip.compress(stream.getvalue(), 1, mtime=0))
    assert len(read_weights(tmp_path / "file.pt.gz").tensors) == 145


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy_format", [False, True])
def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, legacy_format: bool) -> None:
    trap, sprung = tmp_path / "trap.pt", tmp_path / "sprung"
    torch.save(
        {"state_dict": {"swinViT.norm.weight": torch.zeros(1)}, "args": Trap(sprung)},
        trap,
        _use_new_zipfile_serialization=not legacy_format,
    )
    with pytest.raises(UsageError, match=r"trap\.pt names code that is not run here: posix\.system") as raised:
        read_weights(trap)
    assert raised.value.hint is not None
    assert "--trust-pickle" in raised.value.hint
    assert "DANGEROUS" in raised.value.hint
    assert not sprung.exists()
    read_weights(trap, trust_pickle=True)
    assert sprung.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpy.core.multiarray.frombuffer"])
def test_names_beside_the_allowed_ones_are_refused(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    write_torch_zip(tmp_path / "file.pt", f"\x80\x02c{module}\n{function}\n.".encode("latin1"))
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        read_torch_file(tmp_path / "file.pt")


def write_torch_zip(path: Path, pickled: bytes) -> None:
    """A file as torch.save lays it out, with a pickle of our own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file/data.pkl", pickled)
        archive.writestr("file/version", "3\n")
        archive.writestr("file/byteorder", sys.byteorder)


def test_an_optimizer_object_is_held_but_not_made(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.25, amsgrad=True)
    parameter.sum().backward()
    optimizer.step()
    tensors = {"swinViT.norm.weight": parameter.detach()}
    torch.save(
        {"state_dict": OrderedDict(tensors), "optimizer": optimizer, "more": defaultdict(dict)}, tmp_path / "a.pt"
    )
    content = read_torch_file(tmp_path / "a.pt")
    assert type(content["optimizer"]).__name__ == "InertObject"
    assert content["optimizer"].param_groups[0]["lr"] == 0.25
    assert torch.equal(content["state_dict"]["swinViT.norm.weight"], parameter.detach())
    assert content["more"] == {}


@pytest.mark.parametrize("numpy_major", [1, 2])
@pytest.mark.parametrize("value", [np.float64(0.78815), np.float32(0.5), np.int64(-3)])
def test_numpy_scalars_of_both_numpys(tmp_path: Path, value: Any, numpy_major: int) -> None:
    torch.save({"best_acc": value}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        pickled = archive.read("a/data.pkl")
    if numpy_major == 1:
        pickled = pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    write_torch_zip(tmp_path / "b.pt", pickled)
    assert read_torch_file(tmp_path / "b.pt") == {"best_acc": value.item()}


def test_numpy_scalars_that_hold_objects_are_refused(tmp_path: Path) -> None:
    inner = pickle.dumps("anything")
    pickled = (
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\x00\x00\x00O\x85R"
        + b"X" + struct.pack("<I", len(inner)) + inner.decode("latin1").encode() + b"\x86R."
    )  # fmt: skip
    write_torch_zip(tmp_path / "file.pt", pickled)
    with pytest.raises(DataError, match=r"file\.pt is no file of weights, or is damaged"):
        read_torch_file(tmp_path / "file.pt")


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x80\x02}q\x00.", b"PK\x03\x04broken", b"\x1f\x8bno"])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    for name in ("file.pt", "file.pt.gz", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name.replace(".", r"\.")) as raised:
            read_weights(tmp_path / name)
        assert "\n" not in raised.value.message


def test_a_truncated_file(swin: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(swin, tmp_path / "file.pt")
    whole = (tmp_path / "file.pt").read_bytes()
    (tmp_path / "file.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"file\.pt is cut off or damaged: the list at the end of the file is missing"):
        read_weights(tmp_path / "file.pt")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pt does not exist"):
        read_weights(tmp_path / "nowhere.pt")
    with pytest.raises(DataError, match="is a folder without weights"):
        read_weights(tmp_path)
    torch.save({"epoch": 3, "note": "no tensors"}, tmp_path / "empty.pt")
    with pytest.raises(DataError, match=r"empty\.pt holds no tensors"):
        read_weights(tmp_path / "empty.pt")


def test_hub_addresses(swin: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "folder").mkdir()
    torch.save(swin, tmp_path / "folder" / "head.pt")
    asked = []

    def stand_in(repository: str, name: str, revision: str | None = None) -> str:
        asked.append((repository, name, revision))
        if not (tmp_path / name).exists():
            raise hub.errors.LocalEntryNotFoundError("no such file and no connection.")
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "hf_hub_download", stand_in)
    weights = read_weights("hf://someone/weights/folder/head.pt")
    assert len(weights.tensors) == 145
    assert weights.origin == "hf://someone/weights/folder/head.pt"
    read_weights("hf://someone/weights@v2/folder/head.pt")
    assert asked == [("someone/weights", "folder/head.pt", None), ("someone/weights", "folder/head.pt", "v2")]
    with pytest.raises(DataError, match=r"hf://someone/weights/other\.pt could not be fetched \(no such file"):
        read_weights("hf://someone/weights/other.pt")
    with pytest.raises(UsageError, match="is no address of a file"):
        read_weights("hf://someone/weights")


def test_hub_addresses_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="needs the package huggingface_hub") as raised:
        read_weights("hf://someone/weights/head.pt")
    assert raised.value.hint == 'pip install "voco-cli[hub]"'
