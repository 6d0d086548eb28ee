"""Do painted tumours stand in for labelled ones? Generated CTs with lesions of another generator, by size of lesion.

``python -m benchmarks lesions --work DIR``. Arms, all of equal steps: labels of a few cases with lesions ("real", of
`made_lesions`), tumours painted onto healthy scans whose liver is outlined (``task.tumours``), both. Each is tested on
the same cases with lesions that none has seen, in three seeds, each with labelled cases of its own. What is painted has
the painter's own constants; radii and numbers alone are set to a range that somebody who looks for such lesions knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arms import (
    NEEDS_WORK,
    ONE_THREAD,
    Experiment,
    compare_arms,
    comparison_cells,
    comparison_headings,
    of_structures,
    settings,
    workplace,
)
from benchmarks.made_lesions import add_lesions
from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Row
from voco_cli.atomic_files import write_atomic
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct, patient_seed
from voco_cli.evaluate.segmentation.lesions import ALL_SIZES, size_names
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.tables import figure, markdown
from voco_cli.study.analysis import LabelEfficiency

ARMS = {"real": (True, False), "painted": (False, True), "both": (True, True)}
"""Which cases an arm learns from: labelled ones with lesions, healthy ones that are painted on."""
EDGES_MM = (9.0, 15.0)
LESIONS = (1, 4)
"""Fewest and most in a case."""
MARGIN_VOX = 2
LIVER = next(value for value, name in BTCV_ORGANS.items() if name == "liver")
GROUPS = {"healthy": 21, "real": 22, "watched": 23, "test": 24}
"""Seeds of the groups of patients; those that are watched are validated on, and choose nothing."""
TUMOUR = "tumour"
PAINTING = (
    "task.tumours.share=0.9",
    "task.tumours.organs=[liver]",
    f"task.tumours.lesion={TUMOUR}",
    "task.tumours.sizes=[{radius_mm: [6, 12], number: [1, 4]}, {radius_mm: [12, 24], number: [1, 3]}]",
)


@dataclass(frozen=True)
class LesionSizes:
    """How much of everything.

    Attributes:
        shape_xyz: voxels of the whole field of view, of which a scan is the part around the liver.
        real: labelled cases with lesions of each seed.
        healthy, watched, test: cases, the same in all seeds.
    """

    shape_xyz: tuple[int, int, int] = (80, 64, 56)
    patch: tuple[int, int, int] = (48, 40, 32)
    feature_size: int = 16
    real: int = 4
    healthy: int = 16
    watched: int = 2
    test: int = 20
    seeds: int = 3
    steps: int = 400


QUICK = LesionSizes((48, 40, 32), (16, 16, 16), 4, real=1, healthy=2, watched=1, test=2, seeds=1, steps=2)


def rows(options: Options) -> Iterator[Row]:
    """The Dice of each arm, and the table."""
    if options.work is None and not options.quick:
        yield Note("skipped", NEEDS_WORK)
        return
    sizes = QUICK if options.quick else LesionSizes()
    with workplace(options, "lesions") as folder:
        experiment = Experiment(folder, asdict(sizes))
        experiment.once("scans", write_cases, experiment.folder, sizes)
        for seed in range(sizes.seeds):
            for arm in ARMS:
                experiment.once(f"{arm}-{seed}", _learn, experiment, sizes, arm, seed)
        runs = {arm: [f"{arm}-{seed}" for seed in range(sizes.seeds)] for arm in ARMS}
        found = {arm: [experiment.evaluation(run) for run in of_seed] for arm, of_seed in runs.items()}
        compared = compare_arms(
            {arm: [of_structures(one.table, [TUMOUR]) for one in of_seed] for arm, of_seed in found.items()}
        )
        for score in compared.scores:
            yield Figure(f"{score.arm}: Dice of tumours", "", list(score.seed_means))
        cpu_s = {arm: experiment.cpu_s_of(of_seed) for arm, of_seed in runs.items()}
        text = f"{arms_table(compared, sizes, cpu_s)}\n{sizes_table(found)}"
        yield Note("table", f"{experiment.write_table(text)}\n{text}")


def _learn(experiment: Experiment, sizes: LesionSizes, arm: str, seed: int) -> None:
    """Fine-tune an arm, and measure it by size."""
    run = f"{arm}-{seed}"
    own = (f"train.steps={sizes.steps}", f"train.validate_every={sizes.steps}", f"train.checkpoint_every={sizes.steps}")
    values = [*own, f"seed={seed}", f"cache.dir={experiment.folder / 'cache'}", *ONE_THREAD]
    values += PAINTING if ARMS[arm][1] else ()
    task = ("--task", "task.yaml", "--data", f"{run}.json")
    experiment.voco("finetune", *task, "-o", run, *settings(*values))
    edges = ",".join(f"{edge:g}" for edge in EDGES_MM)
    experiment.voco("evaluate", run, "--split", "test", "--by-size", edges, "--workers", "1")


def write_cases(folder: Path, sizes: LesionSizes) -> None:
    """Write all scans and label maps, the task, and a list for each arm and seed."""
    counts = {**asdict(sizes), "real": sizes.real * sizes.seeds}
    names = {group: [f"{group}_{number:03d}.nii.gz" for number in range(counts[group])] for group in GROUPS}
    for group, files in names.items():
        for number, name in enumerate(files):
            ct = made_case(group, number, sizes.shape_xyz)
            scan = ct.scan(folder / "images" / name)
            write_scan(scan.array_zyx, scan, scan.path)
            write_scan(ct.labels_xyz.transpose(2, 1, 0), scan, folder / "labels" / name)
    for arm, (real, painted) in ARMS.items():
        for seed in range(sizes.seeds):
            training = names["real"][seed * sizes.real : (seed + 1) * sizes.real] if real else []
            training = training + (names["healthy"] if painted else [])
            splits = {"training": training, "validation": names["watched"], "test": names["test"]}
            found = {
                split: [{"image": f"images/{name}", "label": f"labels/{name}"} for name in files]
                for split, files in splits.items()
            }
            labels = {"0": "background", "1": "liver", "2": TUMOUR}
            listed = {"name": "generated livers", "modality": {"0": "CT"}, "labels": labels, **found}
            write_atomic(folder / f"{arm}-{seed}.json", json.dumps(listed, indent=1).encode())
    write_atomic(folder / "task.yaml", task_text(sizes).encode())


def made_case(group: str, number: int, shape_xyz: tuple[int, int, int]) -> SyntheticCT:
    """One patient's upper belly with labels 1 liver, 2 tumour; healthy ones have no tumour.

    It is the mean of 2 x 2 x 2 voxels of a finer scan, as a thick slice is, so that the noise in the liver is that of a
    real CT: 16 HU, and not twice as much.
    """
    seed = patient_seed(GROUPS[group], number)
    x, y, z = shape_xyz
    fine = generate_ct(seed, (2 * x, 2 * y, 2 * z))
    image = halved(fine.image_hu_xyz).round().astype(np.int16)
    liver = halved(fine.labels_xyz == LIVER) >= 0.5
    spacing_mm = (2 * fine.spacing_mm[0], 2 * fine.spacing_mm[1], 2 * fine.spacing_mm[2])
    label = liver.astype(np.uint8)
    if group != "healthy":
        rng = np.random.default_rng([seed, 1])
        found = add_lesions(image, liver, spacing_mm, int(rng.integers(LESIONS[0], LESIONS[1] + 1)), rng)
        image, label = found.image_hu_xyz, np.where(found.mask_xyz, np.uint8(2), label)
    box = tuple(
        slice(max(0, int(places.min()) - MARGIN_VOX), int(places.max()) + 1 + MARGIN_VOX)
        for places in np.nonzero(liver)
    )
    return SyntheticCT(image[box], label[box], spacing_mm)


def halved(values_XYZ: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of each 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in values_XYZ.shape)
    return np.asarray(values_XYZ.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5)))


def task_text(sizes: LesionSizes) -> str:
    """The task that all arms share."""
    return f"""\
task:
  name: generated_livers
  classes: [{{name: liver, values: 1}}, {{name: {TUMOUR}, values: 2}}]
  patch_size: {list(sizes.patch)}
  patches_per_volume: 1
  choose: last  # labels of validation cases choose nothing
preprocess:
  spacing_mm: null
  window_hu: [-175, 250]
  foreground_above: null
augment:
  flip_prob: 0.5
  rotate_prob: 0.0
  shift_prob: 0.3
  scale_prob: 0.3
  affine_prob: 0.3
model:
  backbone: unet
  feature_size: {sizes.feature_size}
  levels: 4
train:
  batch_size: 2
  lr: 1.0e-2
  weight_decay: 1.0e-5
  amsgrad: false
  clip_norm: 1.0
  warmup_share: 0.02
"""


def arms_table(compared: LabelEfficiency, sizes: LesionSizes, cpu_s: Mapping[str, float]) -> str:
    """Markdown: what each arm learned from, the Dice of tumours in a case, and what a run took."""
    headings = ["arm", "labelled, healthy", *comparison_headings("real", "Dice of tumours"), "CPU min"]
    lines = []
    for arm, cells in comparison_cells(compared).items():
        real, painted = ARMS[arm]
        learned = f"{sizes.real if real else 0}, {sizes.healthy if painted else 0}"
        lines.append([arm, learned, *cells, figure(cpu_s[arm] / 60, 1)])
    return markdown(headings, lines)


def sizes_table(found: Mapping[str, Sequence[Evaluation]]) -> str:
    """Markdown: lesions one by one by their size, means over the seeds of each arm."""
    lines = []
    for size in (*size_names(EDGES_MM), ALL_SIZES):
        for arm, runs in found.items():
            there = [row for one in runs for row in one.read_sizes if (row.structure, row.size) == (TUMOUR, size)]
            measured = [row for row in there if row.lesions]
            if not measured:
                continue
            means = [np.mean([row.sensitivity for row in measured]), np.mean([row.dice for row in measured])]
            false_positives = sum(row.false_positives_per_case for row in there) / len(runs)
            cells = [*(figure(float(value)) for value in means), figure(false_positives, 2)]
            lines.append([size, arm, str(measured[0].lesions), *cells])
    columns = ["radius (mm)", "arm", "lesions", "found", "Dice of a lesion", "false positives a scan"]
    return markdown(columns, lines)
