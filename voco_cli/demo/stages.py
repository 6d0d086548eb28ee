"""A demo as a list of commands on generated scans: what each shows and leaves, and running those that are not done."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voco_cli.atomic_files import write_atomic
from voco_cli.data.index.datalist import position
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct, patient_seed
from voco_cli.errors import Interrupted, ResourceError, UsageError, VocoError
from voco_cli.resources.machine import existing_parent
from voco_cli.training.run_dir import RunFolder

SHAPE_XYZ = (48, 48, 16)
SPACING_MM = (7.5, 5.8, 20.0)
"""The field of view of the generated patients over their shape, to two digits."""
UNLABELLED_SEED, LABELLED_SEED = 0, 1
"""Groups of generated patients; two groups share nobody."""
LABELLED = {"training": 8, "validation": 2, "test": 12}
"""Labelled patients by split."""
ORGANS = (6, 1, 2, 3, 8)
"""Liver, spleen, kidneys, aorta: what a network of a minute can find. Label values are 1, 2, ... in this order."""
GRID = (4, 4)
PRETRAINING = f"""\
# Pre-training: the recipe `debug`, which learns within minutes on a CPU, fitted to small scans.
recipe: debug
preprocess:
  foreground_above: null  # keep the whole scan
  resize_vox: {list(SHAPE_XYZ)}
crops:
  grid: {list(GRID)}  # base crops, which tile the scan
  size: {[SHAPE_XYZ[0] // GRID[0], SHAPE_XYZ[1] // GRID[1], SHAPE_XYZ[2]]}
model:  # the network of task.yaml, as `voco tasks new` proposes it for these scans, so that the encoder fits into it
  backbone: unet
  feature_size: 16
  levels: 4
cache:
  workers: 1  # so few scans are read before other processes have started
"""
STUDY = """\
# The study: what differs from task.yaml, so that a run takes a minute on a CPU.
preprocess:
  window_hu: [-175, 250]  # the same intensities as in pre-training
task:
  patches_per_volume: 1  # a patch is a whole scan here
cache:
  workers: 1
train:
  batch_size: 2
  lr: 1.0e-2
  validate_every: 50  # a curve to look at; it chooses nothing, as the study measures the last weights
"""
UNLABELLED = 40
"""Scans that are pre-trained on, those held out among them."""
HELD_OUT_SHARE = 0.15
PRETRAINING_STEPS = 160
CASES, SEEDS, STUDY_STEPS = 4, 3, 150
"""Of the study: labelled cases, seeds, and optimizer steps of each of its runs."""
NEEDED_BYTES = 600e6
"""What a demo leaves on disk, with room to spare."""
DONE, SCRIPT = "done.txt", "commands.sh"
"""Names of the stages that are done, a line each; and all commands."""
STOPPED = (Interrupted.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True)
class Stage:
    """A part of the demo.

    Attributes:
        name: for people.
        shows: what there is to see, printed before it.
        arguments: of `voco`; none where the demo does it itself.
        wrote: what is there once it is done.
        result: what to see in what it wrote, printed after it.
        once: the command refuses to write a second time, so a script must not ask it to.
    """

    name: str
    shows: str
    arguments: tuple[str, ...]
    wrote: Path
    result: str
    once: bool = False


def demo_stages(out: Path) -> list[Stage]:
    """Return the stages of a demo in ``out``, in their order."""

    def at(*parts: str) -> str:
        """Return a path below ``out``; one that begins with a dash would be taken for an option."""
        path = str(out.joinpath(*parts))
        return f"./{path}" if path.startswith("-") else path

    def stage(name: str, shows: str, options: Sequence[str], wrote: str, result: str, once: bool = False) -> Stage:
        return Stage(name, shows, (*name.split(), *options), out / wrote, result, once)

    run, study, task = at("runs", "pretrain"), at("runs", "study"), at("task.yaml")
    arms = [at("runs", "study", arm, f"n{CASES:03d}-seed0") for arm in ("none", "pretrain")]
    unlabelled, bases = at("scans", "unlabelled"), GRID[0] * GRID[1]
    return [
        Stage(
            "scans",
            f"Generated CTs of torsos stand in for your data: {UNLABELLED} without labels, and "
            f"{sum(LABELLED.values())} labelled ones with a list in the format of the Medical Segmentation Decathlon. "
            "Each scan is of another patient.",
            (),
            out / "scans" / "labelled" / "dataset.json",
            "They are NIfTI files like any other; open one in your viewer.",
        ),
        stage(
            "index",
            "What is in a folder, and what of it can be used. A share of the patients is held out: what was learned is "
            "measured on them.",
            (unlabelled, "-o", at("data.json"), "--validation", str(HELD_OUT_SHARE)),
            "data.json",
            "data.json lists every scan with its split. Nothing was copied.",
        ),
        stage(
            "preview-labels",
            "The method on one scan. The plane is cut into a grid of base crops; the label of a random crop is the "
            "share of it that lies in each of them. No human label is needed.",
            (f"{unlabelled}/{unlabelled_name(1)}", "--config", at("pretrain.yaml"), "-o", at("preview.png")),
            "preview.png",
            "preview.png is what the network has to answer: where in the body does this crop lie?",
        ),
        stage(
            "pretrain",
            "An encoder learns to answer, from unlabelled scans alone. At step 0 and on the way it is asked about "
            f"patients that it has never seen: rank 0 means that the true one of {bases} base crops comes first, and "
            f"guessing gives {(bases - 1) / 2:g}.",
            (at("data.json"), "--config", at("pretrain.yaml"), "--steps", str(PRETRAINING_STEPS), "-o", run),
            "runs/pretrain/weights/encoder.json",
            "The table compares the end with step 0 and with chance; the last sentence is the verdict.",
        ),
        stage(
            "locate",
            "What it has learned, on a scan that was held out: where does it believe four crops to lie?",
            (run, f"{unlabelled}/{held_out_scan()}", "-o", at("location.png")),
            "location.png",
            "location.png shows the true place of each crop and what the network makes of it.",
        ),
        stage(
            "tasks new",
            "A task file for labelled data: classes, intensities and sizes are read off the scans.",
            (at("scans", "labelled", "dataset.json"), "-o", task),
            "task.yaml",
            "task.yaml has the reason beside each value, for you to check.",
            once=True,
        ),
        stage(
            "study",
            f"Is the encoder worth anything where labels are few? Networks are trained on {CASES} labelled cases, from "
            f"scratch (none) and from the encoder (pretrain), with {SEEDS} seeds, and measured on {LABELLED['test']} "
            "patients whom neither has seen. Whatever comes out is what you are told.",
            (
                *("--task", task, "--config", at("study.yaml"), "--weights", run),
                *("--cases", str(CASES), "--seeds", str(SEEDS), "--steps", str(STUDY_STEPS), "-o", study),
            ),
            "runs/study/study.json",
            "study.png shows both, seed by seed; study.md is ready for a paper.",
        ),
        stage(
            "compare",
            "Two of these networks, case by case: paired differences, and the cases that changed most.",
            (*arms, "-o", at("comparison")),
            "comparison/comparison.json",
            "voco compare takes the segmentations of any program, once voco evaluate has measured them.",
        ),
        stage(
            "report",
            "Everything on one page: what was learned, one of the networks with its best, median and worst case, the "
            "study, the comparison, all settings and data.",
            (run, arms[1], study, at("comparison"), "-o", at("report.html")),
            "report.html",
            "The page is one file that needs no network.",
        ),
    ]


def held_out_scan() -> str:
    """Return the file of the first scan that `voco index` holds out, by the same hash of its patient."""
    names = [unlabelled_name(number) for number in range(1, UNLABELLED + 1)]
    return next(name for name in names if position(0, name.removesuffix(".nii.gz")) < HELD_OUT_SHARE)


def command_script(stages: Sequence[Stage], folder: Path) -> str:
    """Return a shell script of all commands, which runs by itself.

    Args:
        folder: where the commands were called.
    """
    lines = [
        "#!/bin/sh",
        "# The commands of `voco demo`, in their order. Run again, they keep what is finished.",
        "set -eu",
        f"cd {shlex.quote(str(folder))}",
        f'voco() {{ {shlex.quote(sys.executable)} -P -m voco_cli "$@"; }}',
    ]
    for stage in stages:
        if stage.arguments:
            unless = f"test -e {shlex.quote(str(stage.wrote))} || " if stage.once else ""
            lines += ["", f"# {stage.name}", unless + shlex.join(("voco", *stage.arguments))]
    return "\n".join(lines) + "\n"


def run_demo(
    out: Path,
    command: Callable[[Sequence[str]], int],
    begun: Callable[[Stage, int, int, bool], None],
    ended: Callable[[Stage], None],
) -> str:
    """Do what is not done yet of a demo, and say what came out.

    Args:
        out: its folder; made where missing.
        command: runs `voco` with these arguments, and returns its exit code.
        begun: called with each stage, its number from 1, how many there are, and whether an earlier call has done it.
        ended: called when a stage is done.
    Returns:
        The verdict on pre-training and the conclusions of the study, in their own words, a line each.
    Raises:
        UsageError: the folder holds something else.
        ResourceError: disk or memory.
        Interrupted: a signal; the same call goes on.
        VocoError: a stage failed.
    """
    stages, record = demo_stages(out), out / DONE
    if not record.is_file():
        _require_empty(out)
        _require_room(out)
    with RunFolder(out).lock():
        done = record.read_text().splitlines() if record.is_file() else []
        texts = {
            DONE: "",
            "pretrain.yaml": PRETRAINING,
            "study.yaml": STUDY,
            SCRIPT: command_script(stages, Path.cwd()),
        }
        for name, text in texts.items():
            if not (out / name).exists():  # what a reader has changed since stays
                write_atomic(out / name, text.encode())
        for number, stage in enumerate(stages, start=1):
            is_done = stage.name in done and stage.wrote.exists()
            begun(stage, number, len(stages), is_done)
            if is_done:
                continue
            _run_stage(stage, out, command)
            done.append(stage.name)
            write_atomic(record, "".join(f"{name}\n" for name in done).encode())
            ended(stage)
    verdict = json.loads(stages[3].wrote.read_text())["verdict"]["sentence"]
    conclusions = json.loads(stages[6].wrote.read_text())["conclusions"]
    return "\n".join([f"Pre-training: {verdict}", *(f"Study, {conclusion}" for conclusion in conclusions)])


def _run_stage(stage: Stage, out: Path, command: Callable[[Sequence[str]], int]) -> None:
    try:
        if not stage.arguments:
            write_scans(out / "scans", UNLABELLED)
            return
        code = command(stage.arguments)
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    if code in STOPPED:
        raise Interrupted(f"The demo was stopped in its stage {stage.name}.", "the same command goes on")
    if code:
        error = VocoError(
            f"The stage {stage.name} ended with exit code {code}; why is said above.",
            "once that is mended, the same command goes on",
        )
        error.exit_code = code
        raise error


def _require_empty(out: Path) -> None:
    """Raise UsageError where a folder holds something that is no demo, or is no folder."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder.", "choose another --out")
    others = sorted(path.name for path in out.iterdir() if path.name != ".lock") if out.is_dir() else []
    if others:
        raise UsageError(
            f"{out} holds files but no demo ({', '.join(others[:3])}).", "choose another --out, or empty the folder"
        )


def _require_room(out: Path) -> None:
    """Raise ResourceError where the disk cannot hold a demo."""
    there = existing_parent(out)
    free = shutil.disk_usage(there).free
    if free < NEEDED_BYTES:
        raise ResourceError(
            f"The demo may need {NEEDED_BYTES / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free below {there}.",
            "free some space, or choose another --out",
        )


def unlabelled_name(number: int) -> str:
    """Return the file name of an unlabelled scan, from 1 on."""
    return f"ct_{number:03d}.nii.gz"


def write_scans(folder: Path, unlabelled: int) -> list[Path]:
    """Write the scans of a demo; files that are there from an earlier call are written anew, with the same content.

    Args:
        folder: gets ``unlabelled/*.nii.gz`` and ``labelled/`` with images, labels and ``dataset.json``.
        unlabelled: how many.
    Returns:
        The folder of the unlabelled scans, and the list of the labelled ones.
    Raises:
        ResourceError: the disk is full or does not allow it.
    """
    for index in range(unlabelled):
        _write(_patient(UNLABELLED_SEED, index), folder / "unlabelled" / unlabelled_name(index + 1))
    names = [f"patient_{index + 1:03d}_ct.nii.gz" for index in range(sum(LABELLED.values()))]
    labelled = folder / "labelled"
    for index, name in enumerate(names):
        ct = _patient(LABELLED_SEED, index)
        _write(ct, labelled / "images" / name, labelled / "labels" / name)
    write_atomic(labelled / "dataset.json", (json.dumps(_decathlon_list(names), indent=1) + "\n").encode())
    return [folder / "unlabelled", labelled / "dataset.json"]


def _patient(group: int, index: int) -> SyntheticCT:
    return replace(generate_ct(patient_seed(group, index), SHAPE_XYZ), spacing_mm=SPACING_MM)


def _write(ct: SyntheticCT, image: Path, label: Path | None = None) -> None:
    scan = ct.scan(image)
    write_scan(scan.array_zyx, scan, image)
    if label is not None:
        values = np.zeros(len(BTCV_ORGANS) + 1, np.uint8)
        values[list(ORGANS)] = range(1, len(ORGANS) + 1)
        write_scan(values[ct.labels_xyz].transpose(2, 1, 0), scan, label)


def _decathlon_list(names: Iterable[str]) -> dict[str, object]:
    """Return the list in the format of the Medical Segmentation Decathlon, with its splits."""
    left = iter([{"image": f"images/{name}", "label": f"labels/{name}"} for name in names])
    return {
        "name": "generated torsos",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(i): BTCV_ORGANS[organ] for i, organ in enumerate(ORGANS, start=1)}},
        **{split: [next(left) for _ in range(count)] for split, count in LABELLED.items()},
    }
