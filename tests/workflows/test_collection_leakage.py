"""What is said of evaluated cases where weights of the authors are known: of each, exactly as much as is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voco_cli.data.collections.published import as_said, recognise
from voco_cli.data.index.trained_on import ScanIdentity, TrainingCollection, TrainingManifest, training_scans
from voco_cli.errors import VocoError
from voco_cli.evaluate.result_files import is_spotless, require_clean
from voco_cli.workflows.leakage import Findings, findings_object, leakage, sentences

BTCV = tuple(f"img00{n}" for n in range(35, 41))
HEAD = "hf://Luffy503/VoCo/VoCo_B_SSL_head.pt"
READ = "read in Luffy03/Large-Scale-Medical at 1ad538b (Self-supervised/utils/data_utils_*.py and jsons/)"
KNOWN = f"What the file was trained on is known by its name; what is in prect_160k: {READ}, not stated by its authors."


def scans(*cases: str) -> list[ScanIdentity]:
    return [ScanIdentity(case, case, "e" * 32, file=Path(f"/data/imagesTr/{case}.nii.gz")) for case in cases]


def found_in(known: TrainingCollection | None, public_set: str | None, *cases: str) -> Findings:
    assert known is not None
    own = training_scans("fine-tuning", "task", [ScanIdentity("t", "t", "a" * 32)])
    manifest = TrainingManifest(collections=(known,)).followed_by(own)
    return leakage(manifest, scans(*cases), "task", public_set)


def test_all_six_that_validate_btcv_were_in_the_pre_training() -> None:
    findings = found_in(recognise(HEAD), "btcv", *BTCV)
    assert sentences(findings) == [
        f"Data leakage: all 6 evaluated cases were among the images of the pre-training of {HEAD} (prect_160k, set "
        f"btcv), by their names in the set: img0035, img0036, img0037 and 3 more; no labels were used. {KNOWN}"
    ]
    assert (findings.clean, findings.spotted) == (False, True)
    recorded = json.loads(json.dumps(findings_object(findings)))
    assert recorded["found"] == [
        {"by": "name", "stage": "pre-training", "dataset": "prect_160k", "surely": True, "cases": list(BTCV)}
    ]
    assert recorded["unknown_weights"] == []
    assert recorded["collections"][0]["trained"] == list(BTCV)
    assert not is_spotless(recorded)
    with pytest.raises(VocoError, match="all 6 evaluated cases were among the images"):
        require_clean(recorded)


def test_the_weights_of_10k_are_clean_for_them() -> None:
    findings = found_in(recognise("VoCo_10k.pt"), "btcv", *BTCV)
    first, second = sentences(findings)
    assert first == "Data leakage: none of 6 evaluated cases was among 1 scans of the fine-tuning (task)."
    assert second.startswith(
        "Data leakage: none of 6 evaluated cases was among the images of the pre-training of VoCo_10k.pt (voco_10k, "
        "set btcv), by their names in the set; sets that were gathered from others may hold them under other names."
    )
    assert (findings.clean, findings.spotted) == (True, False)
    require_clean(findings_object(findings))
    assert found_in(recognise("VoCo_10k.pt"), "btcv", "img0001", *BTCV).collections[0].trained == ("img0001",)


def test_a_set_that_the_collection_does_not_name() -> None:
    findings = found_in(recognise(HEAD), "msd_spleen", "spleen_10", "spleen_13")
    assert sentences(findings)[1] == (
        f"Data leakage: 2 evaluated cases are of the set msd_spleen, which the pre-training of {HEAD} (prect_160k) "
        f"does not name; sets that were gathered from others may hold them under other names. {KNOWN}"
    )
    assert findings.clean


@pytest.mark.parametrize(
    ("weights", "public_set", "case", "doubt"),
    [
        (
            HEAD,
            None,
            "case_1",
            "prect_160k, and the task does not say which public set its cases are of (task.public_set)",
        ),
        (HEAD, "lits", "volume-12", "prect_160k, and no list of the set lits has volume-12"),
        (HEAD, "nlst", "x", "prect_160k, with the set nlst as a whole, of which no names are known"),
        (
            "VoComni_B.pt",
            "msd_spleen",
            "spleen_10",
            "prect_160k, and on 20,020 volumes of VoComni with pseudo-labels, of which no names are known",
        ),
    ],
)
def test_what_cannot_be_known_is_said_with_its_reason(
    weights: str, public_set: str | None, case: str, doubt: str
) -> None:
    findings = found_in(recognise(weights), public_set, case)
    assert sentences(findings) == [
        f"Leakage of 1 evaluated cases cannot be ruled out: {weights} was pre-trained on {doubt}. {KNOWN}"
    ]
    assert (findings.clean, findings.spotted) == (False, True)
    assert findings_object(findings)["unknown_weights"] == [weights]


def test_some_are_found_and_others_are_not_known() -> None:
    findings = found_in(recognise(HEAD), "btcv", "img0035", "img0061")
    (sentence,) = sentences(findings)
    assert "1 of 2 evaluated cases was among the images" in sentence
    assert (
        "The others cannot be ruled out: it was pre-trained on prect_160k, and no list of the set btcv has img0061."
        in sentence
    )


def test_by_the_tensors_alone_it_is_not_sure() -> None:
    findings = found_in(recognise("mine.pt", lambda: "45e37ef6cc4eceb254b7b0de29a91f47"), "btcv", *BTCV)
    assert "which are those of VoCo_B_SSL_head.pt (other weights may be alike)" in sentences(findings)[0]
    assert findings_object(findings)["found"][0]["surely"] is False
    assert not findings.clean


def test_a_collection_of_ones_own_and_one_that_is_gone(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: ward\nsource: our list\nsets: [{set: {name: ward_7, cases: {training: [a.nii.gz]}}}]\n")
    said = as_said("lab.pt", str(own))
    (sentence,) = sentences(found_in(said, "ward_7", "a"))
    assert sentence == (
        f"Data leakage: the evaluated case was among the images of the pre-training of lab.pt ({own}, set ward_7), "
        "by their names in the set: a. What the file was trained on is known by what --weights-collection says; what "
        f"is in {own}: our list."
    )
    own.unlink()
    findings = found_in(said, "ward_7", "a")
    assert sentences(findings)[0].startswith(
        "Leakage of 1 evaluated cases cannot be ruled out: lab.pt was pre-trained on"
    )
    assert not findings.clean


def test_nothing_evaluated_nothing_said() -> None:
    findings = found_in(recognise(HEAD), "btcv")
    assert (sentences(findings), findings.clean) == ([], True)
