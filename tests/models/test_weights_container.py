"""Files that are not what they should be: named for what they are, in bounded memory, before anything is decoded."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from voco_cli.errors import DataError, UsageError
from voco_cli.models.unet import UNetArchitecture
from voco_cli.models.weights import container, load_into, read_weights
from voco_cli.models.weights.architecture import build_shapes
from voco_cli.models.weights.container import Container, container_of

UNET = UNetArchitecture((2, 4, 8), 1, 2)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in UNET.build().state_dict().items()}


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as refused:
        read_weights(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    return refused.value


OTHER_THINGS = {
    b"": "is empty",
    b"\0" * 4096: "begins with nothing but zeros",
    b"<!DOCTYPE html><html><body>Sign in</body>": "is a web page, not weights",
    b"\xef\xbb\xbf\n  <HTML lang=en>": "is a web page, not weights",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "is a web page, not weights",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n": "is a pointer of Git LFS",
    b'{"error": "Repository not found"}': "is text (JSON), not weights",
}


@pytest.mark.parametrize("name", ["file.pt", "file.safetensors", "file.pt.gz", "file.ckpt", "noending"])
@pytest.mark.parametrize("content", OTHER_THINGS)
def test_what_was_saved_in_place_of_weights_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert OTHER_THINGS[content] in refusal(tmp_path / name).message


def test_a_pointer_of_git_lfs_says_how_to_get_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "git lfs pull" in str(refusal(tmp_path / "a.pt").hint)


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_half_a_download_is_told_as_cut_off(state: dict[str, torch.Tensor], kept: float, tmp_path: Path) -> None:
    save_file(state, tmp_path / "whole.safetensors")
    torch.save(state, tmp_path / "whole.pt")
    (tmp_path / "whole.pt.gz").write_bytes(gzip.compress((tmp_path / "whole.pt").read_bytes(), 1, mtime=0))
    for name in ("whole.safetensors", "whole.pt", "whole.pt.gz"):
        raw = (tmp_path / name).read_bytes()
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(raw[: int(kept * len(raw))])
        assert "is cut off" in refusal(cut).message
    raw = (tmp_path / "whole.safetensors").read_bytes()
    cut = tmp_path / "most.safetensors"
    cut.write_bytes(raw[:-5])
    assert f"{len(raw) - 5:,} of {len(raw):,} bytes are there" in refusal(cut).message


def test_files_are_known_by_their_bytes_and_not_by_their_names(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "really_safetensors.pt")
    torch.save(state, tmp_path / "really_torch.safetensors")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    kinds = {path.name: container_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "really_safetensors.pt": Container.SAFETENSORS,
        "really_torch.safetensors": Container.TORCH_ZIP,
        "legacy.bin": Container.PICKLE,
    }
    for path in tmp_path.iterdir():
        assert torch.equal(read_weights(path).tensors["input_block.norm1.weight"], state["input_block.norm1.weight"])


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (struct.pack("<Q", 2**60) + b"{}", "does not begin with a header"),
        (struct.pack("<Q", 90_000_000) + b"{}", "ends within its header"),
        (struct.pack("<Q", 2) + b"[]", "does not begin with a header"),
        (struct.pack("<Q", 9) + b'{"a": 7} ', "its header cannot be read"),
    ],
)
def test_a_forged_header_is_refused(header: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(header)
    assert said in refusal(tmp_path / "a.safetensors").message


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_a_header_that_lies_of_its_tensors_is_refused(entry: dict[str, object], tmp_path: Path) -> None:
    header = json.dumps({"input_block.conv1.conv.weight": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    refusal(tmp_path / "a.safetensors")


def test_a_bomb_of_gzip_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "ALWAYS_UNPACKED_BYTES", 64 * 2**20)
    with gzip.open(tmp_path / "bomb.pt.gz", "wb", compresslevel=1) as stream:
        for _ in range(400):
            stream.write(bytes(2**20))
    tracemalloc.start()
    error = refusal(tmp_path / "bomb.pt.gz")
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "unpacks to more than 20 times its size" in error.message
    assert most_bytes < 160 * 2**20  # 64 MiB, and what the memory grows by on its way there


def test_a_network_of_zeros_is_no_bomb(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, stream)
    (tmp_path / "zeros.pt.gz").write_bytes(gzip.compress(stream.getvalue(), mtime=0))
    assert len(read_weights(tmp_path / "zeros.pt.gz").tensors) == len(set(state)) - sum(
        "skip_layers" in n for n in state
    )


def test_zips_that_torch_does_not_write(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "file.pt")
    with zipfile.ZipFile(tmp_path / "file.pt") as archive:
        parts = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "is packed, as torch.save never does" in refusal(tmp_path / "packed.pt").message
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    assert "is an archive of numpy arrays" in refusal(tmp_path / "arrays.npz").message
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "script.pt")
    assert "is a TorchScript program" in refusal(tmp_path / "script.pt").message


def test_a_few_bytes_that_claim_terabytes_are_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**6, 10**6)  # strides of 0: one number, said a million million times
    torch.save({"input_block.conv1.conv.weight": huge}, tmp_path / "huge.pt")
    assert "claims tensors of 4,000.0 GB" in refusal(tmp_path / "huge.pt").message


def test_whatever_is_damaged_ends_in_one_sentence(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Bytes are changed where files describe themselves: the result is read, or refused, and never anything else."""
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "a.safetensors")
    draw = random.Random(0)
    said = []
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for _ in range(60):
            raw = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                raw[draw.randrange(min(len(raw), 4000))] = draw.randrange(256)
            if draw.random() < 0.2:
                del raw[draw.randrange(len(raw)) :]
            path.write_bytes(raw)
            said.append(outcome_of(path))
    refused = [one for one in said if one]
    assert not any("\n" in one for one in refused)
    assert max(map(len, refused)) < 1500
    assert len(refused) > 60


def outcome_of(path: Path) -> str:
    """What is said of a file; nothing where it is read."""
    try:
        load_into(build_shapes(UNET), read_weights(path), min_loaded=0.0)
    except (DataError, UsageError) as error:
        return error.message
    return ""
