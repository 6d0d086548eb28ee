"""Do part labels and no labels help? Generated CTs of two sites, some fully, some partly and most not labelled.

``python -m benchmarks omni --work DIR``. The sites differ in scanner (calibration, noise, voxels, field of view) and in
the classes that their partly labelled scans have. Arms, all of equal steps on the same scans: supervised alone, with
pseudo-labels, with volume contrast, with both, in three seeds. Each network predicts test scans of other patients, all
labelled, in their own space. Two more labelled scans are held out in all arms: pseudo-labels are used of classes that
the teacher tells well enough there, which nobody could know without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.arms import (
    NEEDS_WORK,
    ONE_THREAD,
    Experiment,
    compare_arms,
    comparison_cells,
    comparison_headings,
    of_cases,
    settings,
    workplace,
)
from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Row
from voco_cli.atomic_files import write_atomic
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import SyntheticCT, generate_ct, patient_seed
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.tables import figure, markdown
from voco_cli.study.analysis import METRICS, LabelEfficiency

ARMS = {
    "supervised": "supervised",
    "+ pseudo": "supervised+pseudo",
    "+ voco": "supervised+voco",
    "all": "supervised+pseudo+voco",
}
ORGANS = ("spleen", "right kidney", "left kidney", "liver", "stomach", "aorta", "inferior vena cava", "pancreas")
"""Those that a network of minutes can find; veins, glands, gallbladder and oesophagus are background."""
FULL, PART, BARE = "full", "part", "bare"


@dataclass(frozen=True)
class Site:
    """A hospital.

    Attributes:
        seed: of its patients.
        labels: classes of its partly labelled scans.
        shape_share: voxels along each axis, of those that the other site has in the same field of view.
        field: part of the generated field of view that is scanned, along each axis.
        scale, shift_hu, noise_hu: what its scanner makes of an attenuation.
    """

    seed: int
    labels: tuple[str, ...]
    shape_share: tuple[float, float, float]
    field: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    scale: float
    shift_hu: float
    noise_hu: float


WHOLE = (0.0, 1.0)
SITES = {
    "north": Site(31, ("spleen", "right kidney", "left kidney", "pancreas"), (1, 1, 1), (WHOLE,) * 3, 1.0, 0.0, 0.0),
    "south": Site(
        32,
        ("liver", "stomach", "aorta", "inferior vena cava"),
        (7 / 6, 7 / 6, 5 / 6),
        (WHOLE, WHOLE, (0.2, 0.95)),
        0.92,
        12.0,
        15.0,
    ),
}


@dataclass(frozen=True)
class OmniSizes:
    """How much of everything; scans are those of each site.

    Attributes:
        shape_xyz: voxels of a scan of the first site, and of the crops' grid, which tiles it.
        full, part, bare: scans that are trained on: labelled for all classes, for the site's own, and for none.
        held_out, test: scans of others, labelled for all classes.
    """

    shape_xyz: tuple[int, int, int] = (72, 48, 24)
    grid: tuple[int, int] = (3, 2)
    feature_size: int = 16
    full: int = 2
    part: int = 4
    bare: int = 18
    held_out: int = 1
    test: int = 10
    seeds: int = 3
    steps: int = 400


QUICK = OmniSizes((48, 48, 16), (2, 2), 4, full=1, part=1, bare=1, test=2, seeds=1, steps=2)


def rows(options: Options) -> Iterator[Row]:
    """The Dice of each arm, and the table."""
    if options.work is None and not options.quick:
        yield Note("skipped", NEEDS_WORK)
        return
    sizes = QUICK if options.quick else OmniSizes()
    with workplace(options, "omni") as folder:
        experiment = Experiment(folder, asdict(sizes))
        experiment.once("scans", write_sites, experiment, sizes)
        for seed in range(sizes.seeds):
            for arm in ARMS:
                experiment.once(run_name(arm, seed), _learn, experiment, sizes, arm, seed)
        runs = {arm: [run_name(arm, seed) for seed in range(sizes.seeds)] for arm in ARMS}
        tables = {arm: [experiment.evaluation(run).table for run in of_seed] for arm, of_seed in runs.items()}
        cpu_s = {arm: experiment.cpu_s_of(of_seed) for arm, of_seed in runs.items()}
        compared = compare_arms(tables)
        for score in compared.scores:
            yield Figure(f"{score.arm}: Dice of {len(ORGANS)} organs", "", list(score.seed_means))
        text = f"{arms_table(compared, tables, cpu_s)}\n{organs_table(tables)}"
        yield Note("table", f"{experiment.write_table(text)}\n{text}")


def run_name(arm: str, seed: int) -> str:
    """The folder of a run."""
    return f"{ARMS[arm]}-{seed}"


def _learn(experiment: Experiment, sizes: OmniSizes, arm: str, seed: int) -> None:
    """Train an arm, and measure what it predicts."""
    run = run_name(arm, seed)
    values = [f"seed={seed}", f"cache.dir={experiment.folder / 'cache'}", *ONE_THREAD]
    given = ("--config", "omni.yaml", "--objective", ARMS[arm], "--steps", str(sizes.steps))
    experiment.voco("pretrain", "data.json", *given, "-o", run, *settings(*values))
    experiment.voco("evaluate", run, "--split", "test", "--workers", "1")


def write_sites(experiment: Experiment, sizes: OmniSizes) -> None:
    """Write scans, label maps and lists site by site, the index over all, and the settings of all arms."""
    sources = []
    for site, about in SITES.items():
        numbers = iter(range(10**6))
        for kind in (FULL, PART, BARE):
            folder = experiment.folder / site / kind
            classes = {FULL: ORGANS, PART: about.labels, BARE: ()}[kind]
            counts = {"training": getattr(sizes, kind)}
            counts |= {"validation": sizes.held_out, "test": sizes.test} if kind == FULL else {}
            splits: dict[str, list[dict[str, str]]] = {}
            for split, count in counts.items():
                splits[split] = [
                    _write_scan(folder, site, next(numbers), sizes.shape_xyz, classes) for _ in range(count)
                ]
            listed = {"name": f"{site} {kind}", "modality": {"0": "CT"}, **splits}
            if classes:
                listed["labels"] = {"0": "background", **{str(i): name for i, name in enumerate(classes, start=1)}}
            write_atomic(folder / "dataset.json", json.dumps(listed, indent=1).encode())
            sources.append(str(folder / "dataset.json"))
    write_atomic(experiment.folder / "omni.yaml", settings_text(sizes).encode())
    experiment.voco("index", *sources, "-o", "data.json", "--validation", "0", "--workers", "1")


def _write_scan(
    folder: Path, site: str, number: int, shape_xyz: tuple[int, int, int], classes: Sequence[str]
) -> dict[str, str]:
    """Write a patient, and return its line of a list."""
    name = f"{site}_{number:03d}.nii.gz"
    ct = scanned(SITES[site], number, shape_xyz)
    scan = ct.scan(folder / "images" / name)
    write_scan(scan.array_zyx, scan, scan.path)
    if not classes:
        return {"image": f"images/{name}"}
    write_scan(named_labels(ct.labels_xyz, classes).transpose(2, 1, 0), scan, folder / "labels" / name)
    return {"image": f"images/{name}", "label": f"labels/{name}"}


def scanned(site: Site, number: int, shape_xyz: tuple[int, int, int]) -> SyntheticCT:
    """One patient of a site, as its scanner shows him."""
    seed = patient_seed(site.seed, number)
    x, y, z = (round(n * share) for n, share in zip(shape_xyz, site.shape_share, strict=True))
    ct = generate_ct(seed, (x, y, z))
    part = tuple(slice(round(low * n), round(high * n)) for (low, high), n in zip(site.field, (x, y, z), strict=True))
    hu = ct.image_hu_xyz[part] * np.float32(site.scale) + np.float32(site.shift_hu)
    hu += np.float32(site.noise_hu) * np.random.default_rng([seed, 1]).standard_normal(hu.shape, dtype=np.float32)
    image = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return replace(ct, image_hu_xyz=image, labels_xyz=ct.labels_xyz[part])


def named_labels(labels_xyz: NDArray[np.uint8], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The label map of these classes alone, numbered from 1 in their order."""
    values = {name: value for value, name in BTCV_ORGANS.items()}
    table = np.zeros(max(BTCV_ORGANS) + 1, np.uint8)
    table[[values[name] for name in classes]] = range(1, len(classes) + 1)
    return np.asarray(table[labels_xyz])


def settings_text(sizes: OmniSizes) -> str:
    """The settings that all arms share."""
    (x, y, z), (columns, lines) = sizes.shape_xyz, sizes.grid
    spacing = [round(extent / n, 2) for extent, n in zip((360.0, 280.0, 320.0), sizes.shape_xyz, strict=True)]
    every = max(1, sizes.steps // 10)
    return f"""\
recipe: debug
preprocess:
  resize_vox: null
  spacing_mm: {spacing}
  min_size_vox: [{x}, {y}, {z}]
  foreground_above: null
crops:
  grid: [{columns}, {lines}]
  size: [{x // columns}, {y // lines}, {z}]
  input_size: null
  random_per_volume: 2
augment: {{flip_prob: 0.0, rotate_prob: 0.0}}
model: {{backbone: unet, feature_size: {sizes.feature_size}, levels: 4}}
objective:
  supervised: {{deep_supervision: 1}}
  pseudo: {{ema: 0.98}}  # of so few steps; 0.999 would keep the teacher where it began
train:
  batch_size: 2
  lr: 5.0e-3
  checkpoint_every: {every}
  validate_every: {every}  # decides which classes the teacher may tell
"""


def arms_table(
    compared: LabelEfficiency, tables: Mapping[str, Sequence[ResultTable]], cpu_s: Mapping[str, float]
) -> str:
    """Markdown: the Dice of each arm, in all test scans and in those of each site, and what a run took."""
    headings = ["arm", *comparison_headings("supervised", f"Dice of {len(ORGANS)} organs"), *SITES, "CPU min"]
    metric = METRICS["segmentation"]
    lines = []
    for arm, cells in comparison_cells(compared).items():
        by_site = [np.mean([metric.score(of_cases(table, site)) for table in tables[arm]]) for site in SITES]
        lines.append([arm, *cells, *(figure(float(value)) for value in by_site), figure(cpu_s[arm] / 60, 1)])
    return markdown(headings, lines)


def organs_table(tables: Mapping[str, Sequence[ResultTable]]) -> str:
    """Markdown: the Dice of each organ, mean over cases and seeds, and which site's partly labelled scans have it."""
    names = [one.name for one in next(iter(tables.values()))[0].structures]
    means = {
        arm: np.nanmean([one.of_metric("dice") for one in of_seed], axis=(0, 1)) for arm, of_seed in tables.items()
    }
    labelled_by = {name: site for site, about in SITES.items() for name in about.labels}
    lines = [
        [name, labelled_by[name], *(figure(float(means[arm][column])) for arm in ARMS)]
        for column, name in enumerate(names)
    ]
    return markdown(["organ", "part labels of", *ARMS], lines)
