"""Folders of runs as their commands leave them, with numbers that are known beforehand; nothing is trained."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.evaluate.made_results import made_table
from tests.evaluate.made_scores import NAMES, made_scores
from tests.study.made_study import Heard, StandIn, find, plan, weights_file
from voco_cli.config import load_settings
from voco_cli.config.load import saved_file
from voco_cli.data.index.datalist import Datalist, Entry, Skipped
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, training_scans, write_manifest
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.result_files import EvaluationOptions, Provenance
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.objectives.voco.objective import voco_figures
from voco_cli.workflows.study import run_study

VERSIONS = {"voco": "0.1.0", "python": "3.11.0", "machine": "Linux x86_64, 2 cores"}
TIME = "2026-03-04T05:06:07+0000"
SMALL = ("preprocess.resize_vox=48x48x24", "crops.grid=2x2", "crops.size=24x24x24", "crops.random_per_volume=2")
HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_SCRIPT = "</script><script>alert(2)</script>"
HOSTILE_QUOTE = '"><svg onload=alert(3)>'

FIGURES = {"rank": 1.5, "correlation": 0.25, "top1": 0.25, "effective_rank": 3.0, "base_cosine": 0.5}
LEARNED = {"rank": 0.5, "correlation": 0.75, "top1": 0.625, "effective_rank": 4.0, "base_cosine": 0.125}
METRICS = [
    {"step": 0, "split": "validation", **FIGURES},
    {"step": 5, "split": "train", "loss": 2.0, "positive": 1.5, "lr": 0.001, "cases_per_s": 4.0, "data_wait": 0.25},
    {"step": 10, "split": "train", "loss": 1.0, "positive": 0.5, "lr": 0.0, "cases_per_s": 6.0, "data_wait": 0.125},
    {"step": 10, "split": "validation", **LEARNED},
]
VERDICT = {"status": "learned", "sentence": "Learned to locate: the true base crop ranks 0.50."}

CLASSES = [{"name": "liver", "values": [1]}, {"name": "spleen", "values": [2]}]
DICE = [[0.5, 0.7], [0.9, 0.7], [0.2, 0.4], [0.6, 0.8]]
"""Means of the cases: 0.6, 0.8, 0.3, 0.7."""


def write_json_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_state(run: Path, status: str = "done", step: int = 10, reason: str | None = None) -> None:
    (run / "state.json").write_text(json.dumps({"status": status, "step": step, "reason": reason, "time": TIME}))


def scan_entries(folder: Path, count: int, first: int = 0) -> list[Entry]:
    """Scans that are listed; the files need not be there."""
    return [Entry(image=folder / f"s{n}.nii.gz", patient=f"p{n}") for n in range(first, first + count)]


def pretraining_run(
    run: Path,
    *overrides: str,
    metrics: Sequence[Mapping[str, Any]] = METRICS,
    training: Sequence[Entry] | None = None,
    skipped: Sequence[tuple[str, str]] = (("/scans/odd.nii.gz", "damaged: it ends early"),),
    verdict: Mapping[str, str] | None = VERDICT,
) -> Path:
    """A pre-training that is done; ``overrides`` as for ``--set``."""
    (run / "weights").mkdir(parents=True)
    resolved = load_settings("debug", None, (*SMALL, "train.steps=10", *overrides), {"run.dir": run})
    (run / "settings.yaml").write_text(saved_file(resolved, VERSIONS))
    training = scan_entries(run / "scans", 3) if training is None else training
    write_datalist(
        Datalist(
            name="made",
            training=tuple(training),
            validation=tuple(scan_entries(run / "scans", 1, 7)),
            skipped=tuple(Skipped(path=Path(path), reason=reason) for path, reason in skipped),
        ),
        run / "data.json",
    )
    write_json_lines(run / "metrics.jsonl", metrics)
    write_state(run)
    figures = {name: asdict(info) for name, info in voco_figures(4).items()}
    (run / "objective.json").write_text(json.dumps({"title": "volume contrast", "figures": figures}))
    about = {"step": 10, "figures": LEARNED, "start_figures": FIGURES, "verdict": verdict}
    (run / "weights" / "encoder.json").write_text(json.dumps(about))
    seen = TrainingManifest(
        (training_scans("pre-training", "made", [ScanIdentity(one.name, one.patient) for one in training]),)
    )
    write_manifest(seen, run / "weights" / "seen.json")
    return run


def finetuning_run(
    run: Path,
    *overrides: str,
    dice: Sequence[Sequence[float]] = DICE,
    classes: Sequence[Mapping[str, Any]] = CLASSES,
    cases: Sequence[str] | None = None,
    table: ResultTable | None = None,
    leakage: Mapping[str, Any] | None = None,
    scans: bool = False,
) -> Path:
    """A segmentation that is done and evaluated on its test split.

    Args:
        scans: write images, label maps and predictions, too.
    """
    names = [f"case{n}" for n in range(len(dice))] if cases is None else list(cases)
    _settings(run, "segmentation", classes, overrides)
    entries = [
        Entry(
            image=run / "scans" / f"{name}.nii.gz",
            label=run / "scans" / f"{name}_seg.nii.gz",
            patient=f"p{n}",
            case=name,
        )
        for n, name in enumerate(names)
    ]
    _data(run, entries)
    if scans:
        for name in names:
            write_case(run, name)
    write_json_lines(
        run / "metrics.jsonl",
        [
            {"step": 5, "split": "train", "loss": 1.0, "lr": 0.001, "cases_per_s": 2.0, "data_wait": 0.0},
            {"step": 10, "split": "validation", "dice": 0.5, "error": 0.5, "dice/liver": 0.25, "dice/spleen": 0.75},
        ],
    )
    if table is None:
        made = made_table(dice, names=[str(one["name"]) for one in classes])
        table = ResultTable(
            tuple(names), made.patients, made.structures, made.values_NCM, made.states, made.volumes_NC2
        )
    found = leakage or {"clean": True, "found": [], "unknown_weights": [], "sentences": ["Data leakage: none."]}
    Evaluation(table, EvaluationOptions(resamples=200)).write(
        run / "evaluation" / "test",
        "predictions",
        "labels",
        Provenance(str(run), "test", "weights of the last step, 10", found),
    )
    return run


def classification_run(
    run: Path, truth: Sequence[int] = (0, 0, 1, 1), second: Sequence[float] = (0.1, 0.6, 0.7, 0.9)
) -> Path:
    """A classification of cases into normal and pneumonia, evaluated on its test split.

    Args:
        truth: index of the category of each case.
        second: probability of pneumonia of each case.
    """
    _settings(run, "classification", [{"name": name, "values": [n]} for n, name in enumerate(NAMES[:2])], ())
    entries = [
        Entry(image=run / "scans" / f"c{n}.nii.gz", patient=f"c{n}", case=f"c{n}", category=NAMES[index])
        for n, index in enumerate(truth)
    ]
    _data(run, entries)
    write_json_lines(run / "metrics.jsonl", [{"step": 10, "split": "validation", "auc": 0.75, "accuracy": 0.5}])
    cases = made_scores(truth, [[1 - p, p] for p in second])
    found = {"clean": True, "found": [], "unknown_weights": [], "sentences": ["Data leakage: none."]}
    provenance = Provenance(str(run), "test", "weights of the last step, 10", found)
    evaluation = ClassificationEvaluation(cases, EvaluationOptions(resamples=200), (), provenance)
    evaluation.write(run / "evaluation" / "test")
    return run


def write_case(run: Path, name: str) -> None:
    """A CT of 16 x 16 x 12 voxels with two boxes, its label map, and a prediction that lies one voxel beside it."""
    image = np.full((16, 16, 12), -100, np.int16)
    labels, predicted = np.zeros((16, 16, 12), np.uint8), np.zeros((16, 16, 12), np.uint8)
    for value, start in ((1, 2), (2, 9)):
        image[start : start + 4, 4:10, 3:9] = 40 * value
        labels[start : start + 4, 4:10, 3:9] = value
        predicted[start + 1 : start + 5, 4:10, 3:9] = value
    places = (run / "scans" / name, run / "scans" / f"{name}_seg", run / "predictions" / "test" / name)
    for place, array in zip(places, (image, labels, predicted), strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), f"{place}.nii.gz")


def small_png(width: int = 30, height: int = 20) -> bytes:
    """A white picture."""
    content = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(content, "PNG")
    return content.getvalue()


def study_folder(folder: Path) -> Path:
    """A study of two arms, two sizes and two seeds: weights add 0.1 to the Dice."""
    asked = plan(folder, [weights_file(folder)])
    with pytest.MonkeyPatch.context() as patched:  # drawn anew after each run, and tested elsewhere
        patched.setattr("voco_cli.workflows.study_outcome.draw_label_efficiency", lambda found: small_png())
        score = StandIn(lambda settings: 0.5 + 0.1 * (settings.model.weights is not None))
        run_study(asked, Heard(), finetune=score, find=find())
    return asked.folder


def _settings(run: Path, kind: str, classes: Sequence[Mapping[str, Any]], overrides: Sequence[str]) -> None:
    run.mkdir(parents=True)
    preset = run.parent / f"{run.name}.yaml"
    task = {"name": "made", "kind": kind, "classes": list(classes), "patch_size": [16, 16, 16]}
    sized = {"resize_vox": [16, 16, 16]} if kind == "classification" else {"spacing_mm": [2, 2, 2]}
    model = {"backbone": "unet", "feature_size": 2, "levels": 3}
    preset.write_text(yaml.safe_dump({"task": task, "preprocess": sized, "model": model, "train": {"steps": 10}}))
    resolved = load_settings(None, None, overrides, {"run.dir": run}, task=str(preset))
    (run / "settings.yaml").write_text(saved_file(resolved, VERSIONS))
    (run / "weights").mkdir()
    chosen = {"step": 10, "chosen": "weights of the last step, 10; no validation chose them"}
    (run / "weights" / "model.json").write_text(json.dumps(chosen))
    write_state(run)


def _data(run: Path, test: Sequence[Entry]) -> None:
    training = scan_entries(run / "scans", 2, 20)
    write_datalist(Datalist(name="made", training=tuple(training), test=tuple(test)), run / "data.json")
