"""What starting weights were trained on: by their own list, by what is said, by the file, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voco_cli.config.schema import Model
from voco_cli.data.collections.published import published_files
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, training_scans, write_manifest
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import read_weights
from voco_cli.models.weights.write import own_tensors, write_encoder
from voco_cli.workflows.weights_origin import digest_of, manifest_before


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the name, tensors and shapes of the authors' SSL head, and fresh numbers."""
    encoder = build_encoder(Model(feature_size=48))
    path = tmp_path_factory.mktemp("head") / "VoCo_B_SSL_head.pt"
    torch.save(dict(own_tensors(encoder)), path)
    return path


def before(weights: Path | str | None, collection: str | None = None) -> TrainingManifest:
    return manifest_before(Model(weights=None if weights is None else str(weights), weights_collection=collection))


def test_none_and_unknown() -> None:
    assert before(None) == before(None, "voco_10k") == TrainingManifest()
    assert before("VoCo_B.pt") == TrainingManifest(unknown=("VoCo_B.pt",))


def test_a_file_with_the_right_name_and_tensors(head: Path) -> None:
    assert digest_of(read_weights(head)) == published_files()[0].tensors
    (known,) = before(head).collections
    assert (known.weights, known.collection, known.surely) == (str(head), "prect_160k", True)
    assert known.evidence == "its name, and the names and shapes of its tensors"


def test_a_file_that_is_gone_or_far_away_is_known_by_its_name() -> None:
    (known,) = before("/nowhere/VoCo_H_SSL_head.pt").collections
    assert (known.collection, known.evidence) == ("prect_160k", "its name")


def test_other_names_and_other_tensors(head: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "pretrained.pt"
    renamed.symlink_to(head)
    (known,) = before(renamed).collections
    assert (known.surely, known.evidence) == (
        False,
        "the names and shapes of its tensors, which are those of VoCo_B_SSL_head.pt",
    )
    other = tmp_path / "VoCo_B_SSL_head.pt"
    torch.save({"layer.weight": torch.zeros(2, 3)}, other)
    assert before(other) == TrainingManifest(unknown=(str(other),))


def test_our_own_encoder_of_the_same_layout_is_not_taken_for_theirs(tmp_path: Path) -> None:
    encoder = build_encoder(Model(feature_size=48))
    write_encoder(tmp_path, encoder, {"model": Model(feature_size=48).model_dump(mode="json")})
    assert before(tmp_path / "encoder.safetensors").collections == ()
    save_file(dict(own_tensors(encoder)), tmp_path / "bare.safetensors")
    assert before(tmp_path / "bare.safetensors").collections[0].surely is False


def test_a_list_beside_the_weights_says_it_better(head: Path, tmp_path: Path) -> None:
    weights = tmp_path / "VoCo_B_SSL_head.pt"
    weights.symlink_to(head)
    own = TrainingManifest().followed_by(training_scans("pre-training", "torsos", [ScanIdentity("a", "a")]))
    write_manifest(own, tmp_path / "VoCo_B_SSL_head.seen.json")
    assert before(weights) == before(weights, "voco_10k") == own


def test_what_is_said_goes_before_what_is_known(head: Path) -> None:
    (known,) = before(head, "voco_1.6k").collections
    assert (known.collection, known.evidence) == ("voco_1.6k", "what --weights-collection says")
    with pytest.raises(UsageError, match="There is no collection 'voco'"):
        before(head, "voco")
