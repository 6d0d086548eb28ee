"""A page of everything, with names that would do harm where they came out unescaped."""

from __future__ import annotations

from pathlib import Path

from tests.report.made_runs import (
    CLASSES,
    DICE,
    HOSTILE,
    HOSTILE_QUOTE,
    HOSTILE_SCRIPT,
    METRICS,
    classification_run,
    finetuning_run,
    pretraining_run,
    small_png,
    study_folder,
    write_state,
)
from voco_cli.data.index.datalist import Entry
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.document.html import render
from voco_cli.report.page import find_runs, gather_page


def page_of(*paths: Path) -> str:
    """The HTML of these folders."""
    return render(gather_page(find_runs(paths)))


def hostile_folders(folder: Path) -> list[Path]:
    """Two pre-trainings, two fine-tunings with scans, a classification and a study."""
    (image,) = write_cts(folder / "data", 1, 1, (48, 48, 24))
    hostile = Entry(image=image, patient=HOSTILE_SCRIPT, case=HOSTILE)
    skipped = [(f"/scans/{HOSTILE_QUOTE}.nii", HOSTILE_SCRIPT)]
    odd = [*METRICS, {"step": 10, "split": "train", HOSTILE: 1.0, HOSTILE_SCRIPT: 2.0, HOSTILE_QUOTE: 3.0}]
    first = pretraining_run(folder / "pre", metrics=odd, training=[hostile], skipped=skipped)
    write_state(first, "failed", 4, f"{HOSTILE_SCRIPT} {HOSTILE}")
    panels = first / "figures" / "validation"
    panels.mkdir(parents=True)
    for step in (0, 5, 10):
        (panels / f"step-{step:06d}.png").write_bytes(small_png(300, 200))
    held = (first / "settings.yaml").read_text()
    (first / "settings.yaml").write_text(held.replace("  seed: 0", f"  seed: 0\n  note: {HOSTILE_SCRIPT!r}"))
    other = pretraining_run(folder / HOSTILE_QUOTE, "seed=1")
    classes = [{**CLASSES[0], "name": HOSTILE_SCRIPT}, {**CLASSES[1], "name": HOSTILE_QUOTE}]
    cases = [HOSTILE, HOSTILE_QUOTE, "case2", "case3"]
    seen = {"found": [{}], "unknown_weights": [], "sentences": [f"Data leakage: {HOSTILE} {HOSTILE_SCRIPT}"]}
    tuned = finetuning_run(folder / HOSTILE, classes=classes, cases=cases, leakage=seen, scans=True)
    better = [[a + 0.05, b - 0.1] for a, b in DICE]
    again = finetuning_run(folder / "again", classes=classes, cases=cases, dice=better)
    return [first, other, tuned, again, classification_run(folder / "cats"), study_folder(folder / "s")]
