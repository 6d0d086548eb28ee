"""Cases that were seen before are found by voxels, DICOM series, DICOM study and patient."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.pretrain.tiny_run import tiny_run, write_data
from voco_cli.config.schema import Cache, Model, Preprocess
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.trained_on import (
    ScanIdentity,
    TrainingManifest,
    manifest_of,
    read_manifest,
    training_scans,
    write_manifest,
)
from voco_cli.data.io.image import voxel_hash
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import VocoError
from voco_cli.evaluate.result_files import require_clean
from voco_cli.tasks.cases import StoredCase
from voco_cli.workflows.leakage import (
    Findings,
    find_leakage,
    findings_object,
    identities_of,
    leakage,
    sentences,
)

KNOWN = ScanIdentity("known", "anna", "a" * 32, "1.1", "1")
SEEN = TrainingManifest(
    (training_scans("pre-training", "torsos", [KNOWN, ScanIdentity("other", "ben", "b" * 32, "2.1", "2")]),)
)


def found_in(*evaluated: ScanIdentity, dataset: str = "torsos", seen: TrainingManifest = SEEN) -> Findings:
    return leakage(seen, evaluated, dataset)


@pytest.mark.parametrize(
    ("scan", "kind", "words"),
    [
        (
            ScanIdentity("x", "nobody", "a" * 32),
            "scan",
            "1 of 2 evaluated cases was in the pre-training (torsos), v",
        ),
        (
            ScanIdentity("x", "nobody", "c" * 32, "1.1"),
            "series",
            "in the pre-training (torsos), by the DICOM series",
        ),
        (ScanIdentity("x", "nobody", "c" * 32, "1.2", "1"), "study", "shared a DICOM study with the pre-training"),
        (ScanIdentity("x", "anna", "c" * 32), "patient", "had a patient of the same name in the pre-training (torsos)"),
    ],
)
def test_every_way_to_know_a_scan_again(scan: ScanIdentity, kind: str, words: str) -> None:
    findings = found_in(scan, ScanIdentity("clean", "carl", "d" * 32))
    (finding,) = findings.found
    assert (finding.kind, finding.cases, finding.surely) == (kind, ("x",), True)
    (sentence,) = sentences(findings)
    assert words in sentence
    assert sentence.endswith(": x.")
    assert not findings.clean


def test_a_case_is_told_once_in_the_surest_way_and_only_the_first_are_named() -> None:
    patients = [ScanIdentity(f"visit{i}", "ben", f"{i:032d}") for i in range(5)]
    findings = found_in(KNOWN, *patients)
    assert [(one.kind, len(one.cases)) for one in findings.found] == [("scan", 1), ("patient", 5)]
    assert sentences(findings) == [
        "Data leakage: 1 of 6 evaluated cases was in the pre-training (torsos), voxel for voxel: known.",
        "Data leakage: 5 of 6 evaluated cases had a patient of the same name in the pre-training (torsos): "
        "visit0, visit1, visit2 and 2 more.",
    ]
    assert findings_object(findings)["found"][1]["cases"] == [f"visit{i}" for i in range(5)]


def test_a_name_in_another_data_set_may_be_chance() -> None:
    namesake = ScanIdentity("x", "anna", "c" * 32)
    findings = found_in(namesake, dataset="livers")
    assert findings.found[0].surely is False
    assert sentences(findings)[0].endswith(": x; the data sets have different names, so that it may be another person.")
    assert findings.clean  # all voxels were compared, and none are the same
    assert not found_in(ScanIdentity("x", "anna"), dataset="livers").clean  # here they were not
    unhashed = TrainingManifest((training_scans("pre-training", "torsos", [ScanIdentity("known", "anna")]),))
    assert not found_in(namesake, dataset="livers", seen=unhashed).clean
    assert found_in(namesake, dataset="Torsos").found[0].surely  # the same data set, spelt otherwise


def test_nothing_found_is_said_with_what_was_compared() -> None:
    findings = found_in(ScanIdentity("x", "carl", "c" * 32), ScanIdentity("y", "dora"))
    assert findings.clean
    assert sentences(findings) == [
        "Data leakage: none of 2 evaluated cases (voxels of 1 were compared) was among 2 scans of the pre-training "
        "(torsos)."
    ]
    require_clean(findings_object(findings))
    assert sentences(found_in(seen=TrainingManifest())) == []


def test_channels_are_one_case() -> None:
    findings = found_in(ScanIdentity("x", "eve", "c" * 32), ScanIdentity("x", "eve", "a" * 32))
    assert (findings.evaluated, findings.found[0].cases) == (1, ("x",))


def test_weights_that_do_not_say_are_never_clean() -> None:
    findings = found_in(ScanIdentity("x", "carl", "c" * 32), seen=TrainingManifest(unknown=("SSL_head.pt",)))
    assert sentences(findings) == [
        "Leakage of 1 evaluated cases cannot be ruled out: SSL_head.pt does not say what it was trained on."
    ]
    with pytest.raises(VocoError, match="cannot be ruled out") as refused:
        require_clean(findings_object(findings))
    assert refused.value.exit_code == 1


def test_clean_is_required_after_a_round_trip_through_json() -> None:
    recorded = json.loads(json.dumps(findings_object(found_in(KNOWN))))
    with pytest.raises(VocoError, match="voxel for voxel: known"):
        require_clean(recorded)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training run of six patients, two held out."""
    folder = tmp_path_factory.mktemp("pretrained")
    data = write_data(folder)
    listed = json.loads(data.read_text())
    for item, uid in zip(listed["training"], range(6), strict=True):
        item["series_uid"], item["study_uid"] = f"1.2.{uid}.1", f"1.2.{uid}"
    data.write_text(json.dumps({"format": "voco-data/1", "name": "torsos", **listed}))
    tiny_run(data, folder / "run", "train.steps=4", "train.validate_every=4")
    return folder


def test_a_pretraining_run_says_what_it_saw(pretrained: Path) -> None:
    seen = manifest_of(pretrained / "run")
    assert seen is not None
    (stage,) = seen.stages
    training = read_datalist(pretrained / "data.json").training
    assert (stage.stage, stage.dataset, len(stage)) == ("pre-training", "torsos", 6)
    hashes = [voxel_hash(read_scan(entry.image)) for entry in training]
    assert stage.known("voxel_hash", hashes) == set(hashes)
    assert stage.known("patient", [entry.patient for entry in training]) == {entry.patient for entry in training}
    assert seen.unknown == ()


def test_leaks_planted_in_a_test_set_are_found(pretrained: Path, tmp_path: Path) -> None:
    """One copy under another name and patient, one other series of a known study, one other scan of a known patient."""
    listed = read_datalist(pretrained / "data.json")
    copy = tmp_path / "renamed.nii.gz"
    shutil.copy(listed.training[0].image, copy)
    held_out = [entry.image for entry in listed.validation]
    evaluated = [
        Entry(image=copy, patient="new1"),
        Entry(image=held_out[0], patient="new2", series_uid="1.2.3.9", study_uid="1.2.3"),
        Entry(image=held_out[1], patient=listed.training[5].patient),
    ]
    cache = VolumeCache(tmp_path / "cache", Preprocess(), Cache(workers=1))
    seen, findings = find_leakage(Model(weights=str(pretrained / "run")), [], evaluated, "torsos", cache)
    assert [(one.kind, one.stage, one.cases) for one in findings.found] == [
        ("scan", "pre-training", ("renamed",)),
        ("study", "pre-training", (evaluated[1].name,)),
        ("patient", "pre-training", (evaluated[2].name,)),
    ]
    assert findings.compared == 3
    assert [stage.stage for stage in seen.stages] == ["pre-training", "fine-tuning"]


def test_the_chain_holds_through_a_second_fine_tuning(pretrained: Path, tmp_path: Path) -> None:
    listed = read_datalist(pretrained / "data.json")
    cache = VolumeCache(cache_folder(pretrained / "data.json", Cache()), Preprocess(), Cache(workers=1))
    cache.build(listed.validation)
    volume = cache.lookup(listed.validation[0])
    assert volume is not None
    mine = [StoredCase(listed.validation[0], (volume,))]
    seen, _ = find_leakage(Model(weights=str(pretrained / "run")), mine, [], "torsos", cache)
    write_manifest(seen, tmp_path / "first" / "weights" / "seen.json")
    again, findings = find_leakage(
        Model(weights=str(tmp_path / "first")), [], listed.training[:1] + listed.validation, "livers", cache
    )
    assert [(stage.stage, len(stage)) for stage in again.stages] == [
        ("pre-training", 6),
        ("fine-tuning", 1),
        ("fine-tuning", 0),
    ]
    assert [(one.kind, one.stage, one.cases) for one in findings.found] == [
        ("scan", "pre-training", (listed.training[0].name,)),
        ("scan", "fine-tuning", (listed.validation[0].name,)),
    ]


def test_hashes_come_from_the_list_the_cache_or_the_scan(pretrained: Path, tmp_path: Path) -> None:
    entry = read_datalist(pretrained / "data.json").training[0]
    whole = voxel_hash(read_scan(entry.image))
    cache = VolumeCache(tmp_path / "cache", Preprocess(), Cache(workers=1))
    assert identities_of([entry], cache)[0].voxel_hash == whole  # read
    cache.build([entry])
    assert identities_of([entry], cache)[0].voxel_hash == whole  # stored
    listed = entry.model_copy(update={"content": "e" * 32})
    assert identities_of([listed], cache)[0].voxel_hash == "e" * 32
    broken = Entry(image=tmp_path / "missing.nii.gz", patient="p")
    assert identities_of([broken])[0].voxel_hash is None


def test_each_channel_of_a_case_is_looked_at_under_its_name(pretrained: Path) -> None:
    first, second = (entry.image for entry in read_datalist(pretrained / "data.json").training[:2])
    entry = Entry(image=first, channels=(second,), patient="p", case="both", series_uid="1.5")
    one, two = identities_of([entry])
    assert (one.case, two.case, one.patient, two.patient) == ("both", "both", "p", "p")
    assert one.voxel_hash != two.voxel_hash
    assert (one.series_uid, two.series_uid) == ("1.5", None)


def test_labels_that_a_pre_training_learned_are_the_first_thing_to_leak(tmp_path: Path) -> None:
    """Three scans, of one of which the label map was learned; two of them are evaluated."""
    scans = [ScanIdentity(name, f"patient {name}", f"{name}{'0' * 31}", labels_used=name == "b") for name in "abc"]
    stage = training_scans("pre-training", "mixed", scans, classes=("liver", "spleen"))
    write_manifest(TrainingManifest((stage,)), tmp_path / "seen.json")
    manifest = read_manifest(tmp_path / "seen.json")
    assert manifest.stages == (stage,)
    assert (stage.classes, stage.labels_used) == (("liver", "spleen"), (False, True, False))
    evaluated = [ScanIdentity(name, f"patient {name}", f"{name}{'0' * 31}") for name in "ab"]
    findings = leakage(manifest, evaluated, "mixed")
    assert findings.found[0].labelled == ("b",)
    assert sentences(findings) == [
        "Data leakage: 2 of 2 evaluated cases were in the pre-training (mixed), voxel for voxel: a, b; the labels of 1 "
        "were learned."
    ]
    assert findings_object(findings)["found"][0]["labels_used"] == ["b"]
    assert not findings.clean
