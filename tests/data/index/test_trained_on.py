"""seen.json: what it says, what it hides, and which weights it speaks for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.trained_on import (
    COLUMNS,
    FORMAT,
    MANIFEST_FILE,
    SALT_BYTES,
    ScanIdentity,
    TrainingCollection,
    TrainingManifest,
    copy_manifest,
    digests,
    manifest_of,
    read_manifest,
    scan_identity,
    training_scans,
    write_manifest,
)
from voco_cli.errors import DataError

SCANS = (
    ScanIdentity("a", "Müller^Anna", "0" * 32, "1.2.3", "1.2"),
    ScanIdentity("b", "Müller^Anna", None, None, "1.2"),
    ScanIdentity("c", "p2", "f" * 32),
)
SEEN = TrainingManifest(unknown=("SSL_head.pt",)).followed_by(training_scans("pre-training", "torsos", SCANS))


def test_written_and_read(tmp_path: Path) -> None:
    chain = SEEN.followed_by(training_scans("fine-tuning", "btcv", SCANS[2:]))
    write_manifest(chain, tmp_path / "seen.json")
    assert read_manifest(tmp_path / "seen.json") == chain
    assert [len(stage) for stage in chain.stages] == [3, 1]


def test_columns_of_the_file(tmp_path: Path) -> None:
    write_manifest(SEEN, tmp_path / "seen.json")
    found = json.loads((tmp_path / "seen.json").read_text())
    assert (found["format"], found["unknown"]) == ("voco-seen/3", ["SSL_head.pt"])
    (stage,) = found["stages"]
    assert (stage["stage"], stage["dataset"], stage["scans"]) == ("pre-training", "torsos", 3)
    salt = bytes.fromhex(stage["salt"])
    anna, second = (
        hashlib.scrypt(f"patient\0{name}".encode(), salt=salt, n=4096, r=8, p=1, dklen=8).hex()
        for name in ("Müller^Anna", "p2")
    )
    assert stage["patient"] == [anna, anna, second]
    voxels, series = (
        hashlib.blake2b(text.encode(), key=salt, digest_size=8).hexdigest()
        for text in ("voxel_hash\0" + "f" * 32, "series_uid\x001.2.3")
    )
    assert (stage["voxel_hash"][1:], stage["series_uid"]) == ([None, voxels], [series, None, None])


def test_the_salt_is_another_each_time_so_that_no_two_lists_can_be_put_together() -> None:
    first, second = (training_scans("pre-training", "d", SCANS) for _ in range(2))
    assert len(first.salt) == SALT_BYTES == 16
    assert first.salt != second.salt
    for column in COLUMNS:
        assert not first.sets[column] & second.sets[column]


def test_the_same_name_in_another_column_has_another_digest() -> None:
    salt = bytes(16)
    assert len({digests(column, ["same"], salt)["same"] for column in COLUMNS}) == 4


def test_a_name_is_hashed_once_however_many_scans_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of patients can be tried out, so each takes milliseconds: many scans of one patient must not."""
    asked: list[bytes] = []
    real = hashlib.scrypt

    def counted(name: bytes, **arguments: int) -> bytes:
        asked.append(name)
        return real(name, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "scrypt", counted)
    stage = training_scans(
        "pre-training", "d", [ScanIdentity(str(i), f"p{i % 3}", series_uid=str(i)) for i in range(99)]
    )
    assert sorted(asked) == [b"patient\x00p0", b"patient\x00p1", b"patient\x00p2"]
    assert stage.known("patient", ["p1", "p7", None]) == {"p1"}
    assert stage.known("study_uid", ["1.2"]) == frozenset()
    assert len(asked) == 5


def test_names_of_people_and_series_stay_at_home(tmp_path: Path) -> None:
    write_manifest(SEEN, tmp_path / "seen.json")
    text = (tmp_path / "seen.json").read_text()
    assert not any(name in text for name in ("ller", "Anna", "1.2.3", '"p2"'))


def test_a_column_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    write_manifest(TrainingManifest((training_scans("pre-training", "d", SCANS[2:]),)), tmp_path / "seen.json")
    assert json.loads((tmp_path / "seen.json").read_text())["stages"][0]["study_uid"] is None
    assert read_manifest(tmp_path / "seen.json").stages[0].study_uid == (None,)


def test_identity_of_an_entry(tmp_path: Path) -> None:
    entry = Entry(image=tmp_path / "p7_0000.nii.gz", patient="p7", series_uid="1.9", study_uid="1.8")
    assert scan_identity(entry, "ab") == ScanIdentity("p7", "p7", "ab", "1.9", "1.8", entry.image)


@pytest.mark.parametrize(
    "weights",
    [
        "run",
        "run/weights",
        "run/weights/encoder.safetensors",
        "run/checkpoints/step-000010",
        "run/checkpoints/step-000010/model.safetensors",
        "elsewhere/encoder.pt",
    ],
)
def test_all_of_a_run_and_what_was_exported_know_what_they_saw(weights: str, tmp_path: Path) -> None:
    write_manifest(SEEN, tmp_path / "run" / "weights" / "seen.json")
    assert copy_manifest(tmp_path / "run", tmp_path / "elsewhere" / "encoder.pt") == [
        tmp_path / "elsewhere" / "encoder.seen.json"
    ]
    (tmp_path / "run" / "checkpoints" / "step-000010").mkdir(parents=True)
    assert manifest_of(tmp_path / weights) == SEEN


def test_weights_of_others_do_not_say(tmp_path: Path) -> None:
    write_manifest(SEEN, tmp_path / "run" / "weights" / "seen.json")
    for other in (tmp_path / "run" / ".." / "SSL_head.pt", tmp_path / "elsewhere", "hf://owner/repo/file.safetensors"):
        assert manifest_of(other) is None
    assert manifest_of("VoCo_B.pt") is None
    assert manifest_of(tmp_path / "run") == SEEN


def test_an_export_of_other_weights_under_the_same_name_loses_the_list(tmp_path: Path) -> None:
    write_manifest(SEEN, tmp_path / "out.seen.json")
    assert copy_manifest(tmp_path / "authors.pt", tmp_path / "out.safetensors") == []
    assert manifest_of(tmp_path / "out.safetensors") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("voco-seen/3", "voco-seen/9", "its format is 'voco-seen/9'"),
        ('"scans":3', '"scans":4', "the column patient has not 4 scans"),
        ('"patient"', '"person"', "it lacks 'patient'"),
        ("pre-training", "cooking", "'cooking' is no stage"),
        ('"salt":"', '"salt":"00', "its salt is not of 16 bytes"),
        ('"salt":"', '"salt":"x', "non-hexadecimal"),
        ("}", "", "cannot be read as a manifest of training scans"),
    ],
)
def test_a_damaged_list_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights" / "seen.json"
    write_manifest(SEEN, path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"seen\.json") as refused:
        manifest_of(tmp_path)
    assert message in refused.value.message


def test_160_000_scans_of_ten_patients_fit_into_15_mb(tmp_path: Path) -> None:
    scans = [ScanIdentity(str(i), f"p{i % 10}", f"{i:032x}", f"1.2.840.{i}", f"1.2.{i}") for i in range(160_000)]
    write_manifest(TrainingManifest().followed_by(training_scans("pre-training", "all", scans)), tmp_path / "seen.json")
    stage = read_manifest(tmp_path / "seen.json").stages[0]
    assert len(stage) == 160_000
    assert stage.known("series_uid", ["1.2.840.159999", "1.2.840.160000"]) == {"1.2.840.159999"}
    assert (tmp_path / "seen.json").stat().st_size < 15_000_000


def test_collections_are_kept_and_lists_of_before_have_none(tmp_path: Path) -> None:
    known = TrainingCollection("VoCo_10k.pt", "voco_10k", "its name", labels="no labels were used")
    chain = TrainingManifest(collections=(known,)).followed_by(training_scans("fine-tuning", "btcv", SCANS))
    write_manifest(chain, tmp_path / "seen.json")
    assert read_manifest(tmp_path / "seen.json") == chain
    before = json.loads((tmp_path / "seen.json").read_text()) | {"format": "voco-seen/2"}
    del before["collections"]
    (tmp_path / "seen.json").write_text(json.dumps(before))
    assert read_manifest(tmp_path / "seen.json") == TrainingManifest(chain.stages)


def test_an_unsalted_list_of_an_older_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "weights" / "seen.json"
    write_manifest(SEEN, path)
    path.write_text(path.read_text().replace("voco-seen/3", "voco-seen/1"))
    with pytest.raises(
        DataError, match=r"whose hashes were not salted and can be looked up: it is not read"
    ) as refused:
        manifest_of(tmp_path)
    assert refused.value.hint is not None
    assert f"rm {path}" in refused.value.hint
    path.unlink()
    assert manifest_of(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"format": "FORMAT", "unknown": [], "stages": [{"scans": 1e30, "STAGE": 1}]}']
)
def test_a_list_made_to_do_harm_is_refused(tmp_path: Path, content: str) -> None:
    columns = ", ".join(f'"{name}": null' for name in COLUMNS)
    (tmp_path / MANIFEST_FILE).write_text(content.replace("FORMAT", FORMAT).replace('"STAGE": 1', columns))
    with pytest.raises(DataError, match="cannot be read as a manifest of training scans"):
        read_manifest(tmp_path / MANIFEST_FILE)
