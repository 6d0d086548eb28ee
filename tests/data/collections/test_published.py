"""The authors' files are known by their names and by the names and shapes of their tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.data.collections.catalogue import collection_names
from voco_cli.data.collections.published import as_said, published_files, recognise, tensor_digest
from voco_cli.errors import UsageError

B, L = (file.tensors for file in published_files()[:2])


def test_names_of_the_files_and_their_collections() -> None:
    found = {file.name: file.collection for file in published_files()}
    whole = [f"VoCo_{size}_SSL_head.pt" for size in "BLH"] + [
        f"VoComni_{size}.pt" for size in ("B", "L", "H", "nnunet")
    ]
    assert found == {**dict.fromkeys(whole, "prect_160k"), "VoCo_10k.pt": "voco_10k"}
    assert set(found.values()) <= set(collection_names())


def test_a_digest_is_of_sorted_names_and_shapes() -> None:
    assert tensor_digest({"a": (2, 3), "b": (4,)}) == tensor_digest({"b": [4], "a": [2, 3]})
    others = [{"a": (3, 2), "b": (4,)}, {"a": (2, 3)}, {"a": (2, 3), "c": (4,)}, {"a": (2, 3), "b": (4, 1)}]
    assert tensor_digest({"a": (2, 3), "b": (4,)}) not in map(tensor_digest, others)


@pytest.mark.parametrize(
    "name",
    [
        "VoCo_B_SSL_head.pt",
        "/data/VoCo_B_SSL_head.pt.gz",
        "hf://Luffy503/VoCo@main/VoCo_B_SSL_head.pt",
        "C:\\VoCo_B_SSL_head.pt",
    ],
)
def test_known_by_name(name: str) -> None:
    known = recognise(name)
    assert known is not None
    assert (known.weights, known.collection, known.evidence, known.surely) == (name, "prect_160k", "its name", True)


@pytest.mark.parametrize(
    "name",
    ["voco_b_ssl_head.pt", "VoCo_B_SSL_head (1).pt", "my_VoCo_B_SSL_head.pt", "VoCo_B.pt", "VoCo_B_SSL_head.pt/x"],
)
def test_a_name_that_is_only_alike_is_none(name: str) -> None:
    assert recognise(name) is None


def test_tensors_agree_or_it_is_another_file() -> None:
    known = recognise("VoCo_B_SSL_head.pt", lambda: B)
    assert known is not None
    assert known.evidence == "its name, and the names and shapes of its tensors"
    assert recognise("VoCo_B_SSL_head.pt", lambda: L) is None
    assert recognise("VoCo_10k.pt", lambda: "of no interest") is not None  # its tensors are not known


def test_tensors_alone_are_no_proof() -> None:
    known = recognise("pretrained.pt", lambda: B)
    assert known is not None
    assert (known.collection, known.surely) == ("prect_160k", False)
    assert known.evidence == "the names and shapes of its tensors, which are those of VoCo_B_SSL_head.pt"
    assert recognise("pretrained.pt", lambda: "f" * 32) is None


def test_what_a_user_says_has_to_exist(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: ward\ncases: {training: [a.nii]}\n")
    assert as_said("x.pt", "voco_1.6k").collection == "voco_1.6k"
    assert as_said("x.pt", str(own)).collection == str(own)
    with pytest.raises(UsageError, match="no collection"):
        as_said("x.pt", "voco")
