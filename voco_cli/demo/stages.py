"""The stages of a demo: what each shows, the command that shows it, what it leaves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voco_cli.atomic_files import write_atomic
from voco_cli.data.index.splits import position
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct, patient_seed

SHAPE_XYZ = (48, 48, 16)
SPACING_MM = (7.5, 5.8, 20.0)
"""The field of view of the generated patients over their shape, to two digits."""
UNLABELLED_SEED, LABELLED_SEED = 0, 1
"""Groups of generated patients; two groups share nobody."""
LABELLED = {"training": 8, "validation": 2, "test": 12}
"""Labelled patients by split."""
ORGANS = (6, 1, 2, 3, 8)
"""Liver, spleen, kidneys, aorta: what a network of a minute can find. Label values are 1, 2, ... in this order."""


def unlabelled_name(number: int) -> str:
    """File of an unlabelled scan, from 1 on."""
    return f"ct_{number:03d}.nii.gz"


def write_scans(folder: Path, unlabelled: int, advance: Callable[[], object]) -> list[Path]:
    """Write the scans of a demo; files that are there from an earlier call are written anew, with the same content.

    Args:
        folder: gets ``unlabelled/*.nii.gz`` and ``labelled/`` with images, labels and ``dataset.json``.
        unlabelled: how many.
        advance: called after each scan.
    Returns:
        The folder of the unlabelled scans, and the list of the labelled ones.
    Raises:
        ResourceError: the disk is full or does not allow it.
    """
    for index in range(unlabelled):
        _write(_patient(UNLABELLED_SEED, index), folder / "unlabelled" / unlabelled_name(index + 1))
        advance()
    names = [f"patient_{index + 1:03d}_ct.nii.gz" for index in range(sum(LABELLED.values()))]
    labelled = folder / "labelled"
    for index, name in enumerate(names):
        phantom = _patient(LABELLED_SEED, index)
        _write(phantom, labelled / "images" / name, labelled / "labels" / name)
        advance()
    write_atomic(labelled / "dataset.json", (json.dumps(_decathlon_list(names), indent=1) + "\n").encode())
    return [folder / "unlabelled", labelled / "dataset.json"]


def _patient(group: int, index: int) -> SyntheticCT:
    return replace(generate_ct(patient_seed(group, index), SHAPE_XYZ), spacing_mm=SPACING_MM)


def _write(phantom: SyntheticCT, image: Path, label: Path | None = None) -> None:
    scan = phantom.scan(image)
    write_scan(scan.array_zyx, scan, image)
    if label is not None:
        values = np.zeros(len(BTCV_ORGANS) + 1, np.uint8)
        values[list(ORGANS)] = range(1, len(ORGANS) + 1)
        write_scan(values[phantom.labels_xyz].transpose(2, 1, 0), scan, label)


def _decathlon_list(names: Iterable[str]) -> dict[str, object]:
    """The list in the format of the Medical Segmentation Decathlon, with its splits."""
    left = iter([{"image": f"images/{name}", "label": f"labels/{name}"} for name in names])
    return {
        "name": "generated torsos",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(i): BTCV_ORGANS[organ] for i, organ in enumerate(ORGANS, start=1)}},
        **{split: [next(left) for _ in range(count)] for split, count in LABELLED.items()},
    }


GRID = (4, 4)
LEVELS, FEATURE_SIZE = 4, 16
"""Of the network that `voco tasks new` proposes for these scans, so that the encoder fits into it."""

_CROP = (SHAPE_XYZ[0] // GRID[0], SHAPE_XYZ[1] // GRID[1], SHAPE_XYZ[2])


def _listed(values: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, values)) + "]"


PRETRAINING = f"""\
# Pre-training: the recipe `debug`, which learns within minutes on a CPU, fitted to small scans.
recipe: debug
preprocess:
  foreground_above: null  # keep the whole scan
  resize_vox: {_listed(SHAPE_XYZ)}
crops:
  grid: {_listed(GRID)}  # base crops, which tile the scan
  size: {_listed(_CROP)}
model:  # the network of task.yaml, so that the encoder fits into it
  backbone: unet
  feature_size: {FEATURE_SIZE}
  levels: {LEVELS}
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
BASES = GRID[0] * GRID[1]


@dataclass(frozen=True)
class Stage:
    """A part of the demo.

    Attributes:
        name: in demo.json and in tables.
        shows: what there is to see, printed before it.
        arguments: of `voco`; none where the demo does it itself.
        wrote: what is there once it is done.
        look: what to look at, printed after it.
        once: the command refuses to write a second time, so a script must not ask it to.
    """

    name: str
    shows: str
    arguments: tuple[str, ...]
    wrote: tuple[Path, ...]
    look: str
    once: bool = False

    @property
    def command(self) -> str:
        """What a reader may type."""
        return shlex.join(("voco", *self.arguments))


def demo_stages(out: Path) -> list[Stage]:
    """The stages of a demo in ``out``, in their order."""
    paths = DemoPaths(out)
    return [_scans(paths), *_before_training(paths), *_pretraining(paths), *_with_labels(paths)]


def held_out_scan() -> str:
    """Return the file of the first scan that `voco index` holds out, by the same hash of its patient."""
    names = [unlabelled_name(number) for number in range(1, UNLABELLED + 1)]
    return next(name for name in names if position(0, name.removesuffix(".nii.gz")) < HELD_OUT_SHARE)


class DemoPaths:
    """Where a demo keeps what: as paths, and as arguments of commands.

    Args:
        out: the folder, as the user gave it.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.record, self.commands = out / "demo.json", out / "commands.sh"
        self.scans, self.pretraining = out / "scans", out / "runs" / "pretrain"
        self.pretraining_settings, self.study_settings = out / "pretrain.yaml", out / "study.yaml"
        self.encoder = self.pretraining / "weights" / "encoder.json"
        self.study_record = out / "runs" / "study" / "study.json"
        self.report = out / "report.html"

    def __call__(self, *parts: str) -> str:
        """A path below ``out`` as an argument: one that begins with a dash would be taken for an option."""
        path = str(self.out.joinpath(*parts))
        return f"./{path}" if path.startswith("-") else path


def _scans(at: DemoPaths) -> Stage:
    return Stage(
        "scans",
        f"Generated CTs of torsos stand in for your data: {UNLABELLED} without labels, and "
        f"{sum(LABELLED.values())} labelled ones with a list in the format of the Medical Segmentation Decathlon. Each "
        "scan is of another patient.",
        (),
        (at.scans / "unlabelled", at.scans / "labelled" / "dataset.json"),
        "They are NIfTI files like any other; open one in your viewer.",
    )


def _before_training(at: DemoPaths) -> list[Stage]:
    one = at("scans", "unlabelled", unlabelled_name(1))
    return [
        Stage(
            "index",
            "What is in a folder, and what of it can be used. A share of the patients is held out: what was learned is "
            "measured on them.",
            ("index", at("scans", "unlabelled"), "-o", at("data.json"), "--validation", str(HELD_OUT_SHARE)),
            (at.out / "data.json",),
            "data.json lists every scan with its split. Nothing was copied.",
        ),
        Stage(
            "preview-labels",
            "The method on one scan. The plane is cut into a grid of base crops; the label of a random crop is the "
            "share of it that lies in each of them. No human label is needed.",
            ("preview-labels", one, "--config", at("pretrain.yaml"), "-o", at("preview.png")),
            (at.out / "preview.png",),
            "preview.png is what the network has to answer: where in the body does this crop lie?",
        ),
    ]


def _pretraining(at: DemoPaths) -> list[Stage]:
    arguments = ("pretrain", at("data.json"), "--config", at("pretrain.yaml"), "--steps", str(PRETRAINING_STEPS))
    run, scan = at("runs", "pretrain"), at("scans", "unlabelled", held_out_scan())
    return [
        Stage(
            "pretrain",
            "An encoder learns to answer, from unlabelled scans alone. At step 0 and on the way it is asked about "
            f"patients that it has never seen: rank 0 means that the true one of {BASES} base crops comes first, and "
            f"guessing gives {(BASES - 1) / 2:g}.",
            (*arguments, "-o", run),
            (at.encoder,),
            "The table compares the end with step 0 and with chance; the last sentence is the verdict.",
        ),
        Stage(
            "locate",
            "What it has learned, on a scan that was held out: where does it believe four crops to lie?",
            ("locate", run, scan, "-o", at("location.png")),
            (at.out / "location.png",),
            "location.png shows the true place of each crop and what the network makes of it.",
        ),
    ]


def _with_labels(at: DemoPaths) -> list[Stage]:
    task, study = at("task.yaml"), at("runs", "study")
    arms = [at("runs", "study", arm, f"n{CASES:03d}-seed0") for arm in ("none", at.pretraining.name)]
    return [
        Stage(
            "tasks new",
            "A task file for labelled data: classes, intensities and sizes are read off the scans.",
            ("tasks", "new", at("scans", "labelled", "dataset.json"), "-o", task),
            (at.out / "task.yaml",),
            "task.yaml has the reason beside each value, for you to check.",
            once=True,
        ),
        Stage(
            "study",
            f"Is the encoder worth anything where labels are few? Networks are trained on {CASES} labelled cases, from "
            f"scratch (none) and from the encoder (pretrain), with {SEEDS} seeds, and measured on {LABELLED['test']} "
            "patients whom neither has seen. Whatever comes out is what you are told.",
            (
                *("study", "--task", task, "--config", at("study.yaml"), "--weights", at("runs", "pretrain")),
                *("--cases", str(CASES), "--seeds", str(SEEDS), "--steps", str(STUDY_STEPS), "-o", study),
            ),
            (at.study_record,),
            "study.png shows both, seed by seed; study.md is ready for a paper.",
        ),
        Stage(
            "compare",
            "Two of these networks, case by case: paired differences, and the cases that changed most.",
            ("compare", *arms, "-o", at("comparison")),
            (at.out / "comparison" / "comparison.json",),
            "voco compare takes the segmentations of any program, once voco evaluate has measured them.",
        ),
        Stage(
            "report",
            "Everything on one page: what was learned, one of the networks with its best, median and worst case, the "
            "study, the comparison, all settings and data.",
            ("report", at("runs", "pretrain"), arms[1], study, at("comparison"), "-o", at("report.html")),
            (at.report,),
            "The page is one file that needs no network.",
        ),
    ]


def command_script(stages: Sequence[Stage], folder: Path) -> str:
    """A shell script of all commands, which runs by itself.

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
            unless = f"test -e {shlex.quote(str(stage.wrote[0]))} || " if stage.once else ""
            lines += ["", f"# {stage.name}", unless + stage.command]
    return "\n".join(lines) + "\n"
