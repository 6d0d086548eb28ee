"""Measure a folder of predictions against a folder of label maps, each pair in its scan's own space."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.geometry import grid_shift_mm
from voco_cli.data.io.image import Scan, placement, rounding_note, stored_like, whole_labels
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.data.parallel import HERE, Runner, WorkerKilledError, run_jobs
from voco_cli.data.shards import digest_of
from voco_cli.errors import DataError, GeometryError, UsageError, VocoError
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.case_files import CasePair, pair_folders
from voco_cli.evaluate.segmentation.classes import all_structures
from voco_cli.evaluate.segmentation.lesions import CaseLesions, FoundLesion, find_lesions
from voco_cli.evaluate.segmentation.metrics import (
    Measurement,
    Structure,
    absent_structure,
    labels_in,
    measure_case,
    unlabelled_structure,
)
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.segmentation.table import MeasuredCase, result_table
from voco_cli.evaluate.segmentation.union_of_classes import on_common_values
from voco_cli.operating_system import usable_cores

MOST_UNNAMED_CLASSES = 256
MOST_WORKERS = 16
# Starting a process takes about as long as measuring this many voxels.
FEWEST_VOXELS_FOR_PROCESSES = 50_000_000

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]


@contextmanager
def no_progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show nothing."""
    yield lambda n=1: None


def evaluate_folder(
    predictions: Path,
    labels: Path,
    options: EvaluationOptions | None = None,
    *,
    classes: Sequence[Structure] | None = None,
    regions: Sequence[Structure] = (),
    patients: Mapping[str, str] | None = None,
    patient_pattern: str | None = None,
    progress: Progress = no_progress,
    runner: Runner = HERE,
) -> Evaluation:
    """Measure every prediction of a folder against the label map of the same name.

    Args:
        classes: what to measure; none is every label that is found, under its number.
        regions: unions of labels to measure as well.
        patients, patient_pattern: whose a case is, see `pair_folders`.
        progress: opens a progress bar.
        runner: does the work; a shard measures its share of the pairs.
    Raises:
        UsageError, DataError: folders that cannot be paired (see `pair_folders`), or no case that could be measured.
    """
    pairing = pair_folders(predictions, labels, patients, patient_pattern)
    options = options or EvaluationOptions()
    runner.begin({"pairs": digest_of(pair.case for pair in pairing.pairs)})
    own = [pair for pair in pairing.pairs if runner.owns(pair.case)]
    evaluation = evaluate_pairs(own, options, classes=classes, regions=regions, progress=progress, runner=runner)
    return replace(evaluation, unpredicted=pairing.unpredicted)


def evaluate_pairs(
    pairs: Sequence[CasePair],
    options: EvaluationOptions,
    *,
    classes: Sequence[Structure] | None = None,
    regions: Sequence[Structure] = (),
    progress: Progress = no_progress,
    runner: Runner = HERE,
) -> Evaluation:
    """Measure pairs of files; a pair that cannot be measured is recorded and does not end the rest.

    Args:
        classes: what to measure; of pairs with labels of their own those of `union_structures`.
        runner: does the work; what a shard returns is of its own pairs, which may be none.
    Raises:
        DataError: none could be measured.
        UsageError: nothing to measure: no classes are named and the label maps hold none.
    """
    union = any(pair.labels for pair in pairs)  # whose classes may share values
    known = None if classes is None else tuple(classes) if union else all_structures(classes, regions)
    tolerance_mm, ignored, by_size = options.tolerance_mm, options.ignore_label, bool(options.by_size_mm)
    jobs = [_Job(pair, known, tuple(regions), tolerance_mm, ignored, by_size) for pair in map(_from_root, pairs)]
    runner.begin({"structures": repr((known, regions, ignored))})
    measured: list[tuple[CasePair, _Measured]] = []
    failed: list[tuple[str, str]] = []
    with progress("evaluating", len(jobs)) as advance:

        def finished(job: _Job, outcome: _Measured | Exception) -> None:
            if isinstance(outcome, Exception):
                failed.append((job.pair.case, _reason(outcome)))
            else:
                measured.append((job.pair, outcome))
            advance()

        run_jobs(_measure, jobs, options.workers or _worth_workers(pairs), finished, runner=runner)
    if not measured and not runner.is_part:
        shown = "; ".join(f"{case}: {reason}" for case, reason in sorted(failed)[:3])
        raise DataError(f"None of the {len(failed)} cases could be measured: {shown}", "Mend these files first.")
    found = [one for _, one in measured]
    structures = known if known is not None else _found_structures(found, regions)
    if not structures and not runner.is_part:
        raise UsageError("The label maps hold nothing but background.", "Name what is to be measured with --classes.")
    table = result_table([one.filled(pair, structures) for pair, one in measured], structures, options.rule)
    return Evaluation(
        table=table,
        options=options,
        failed=tuple(sorted(failed)),
        unlisted=dict(sorted(Counter(label for one in found for label in one.unlisted).items())),
        notes=tuple(sorted(note for one in found for note in one.notes)),
        lesions=tuple(CaseLesions(pair.case, pair.patient, one.lesions) for pair, one in measured),
    )


@dataclass(frozen=True)
class _Job:
    """A pair to measure, in a process of its own."""

    pair: CasePair
    structures: tuple[Structure, ...] | None
    regions: tuple[Structure, ...]
    tolerance_mm: float
    ignore_label: int | None
    by_size: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        return self.pair.label, self.pair.prediction


@dataclass(frozen=True)
class _Measured:
    """A measured pair: a measurement of each structure, and what else was met."""

    structures: tuple[Structure, ...]
    measurements: tuple[Measurement, ...]
    diagonal_mm: float
    unlisted: tuple[int, ...]
    notes: tuple[str, ...]
    lesions: tuple[FoundLesion, ...]

    def filled(self, pair: CasePair, structures: Sequence[Structure]) -> MeasuredCase:
        """Return the case with a measurement of each structure; those that were not found here are absent."""
        absent, of = absent_structure(self.diagonal_mm), dict(zip(self.structures, self.measurements, strict=True))
        return MeasuredCase(pair.case, pair.patient, tuple(of.get(one, absent) for one in structures))


def _from_root(pair: CasePair) -> CasePair:
    """Return a pair by absolute paths, which other machines have, too."""
    return replace(pair, prediction=pair.prediction.absolute(), label=pair.label.absolute())


def _measure(job: _Job) -> _Measured:
    reference = read_scan(job.pair.label)
    prediction = _on_grid_of(read_scan(job.pair.prediction), reference)
    arrays, notes = [], []
    for scan in (prediction, reference):
        try:
            arrays.append(whole_labels(scan.array_zyx))
        except ValueError as error:
            raise DataError(f"{scan.path} {error}.") from error
        rounded = rounding_note(scan.array_zyx)
        notes += [f"{scan.path.name}: {note}" for note in (*scan.notes, *([rounded] if rounded else []))]
    if job.ignore_label is not None:
        arrays = _annotated(arrays[0], arrays[1], job.ignore_label)
    found = sorted(labels_in(arrays[0]) | labels_in(arrays[1]))
    structures, x_y_z_mm = job.structures, reference.spacing_xyz_mm
    if job.pair.labels is not None:
        assert structures is not None
        return _measure_union(job, arrays, structures, x_y_z_mm, tuple(notes))
    unlisted: tuple[int, ...] = ()
    if structures is None:
        if len(found) > MOST_UNNAMED_CLASSES:
            raise DataError(f"{job.pair.prediction} and its label hold {len(found)} label values: no label maps?")
        structures = (*(Structure(str(label), (label,)) for label in found), *job.regions)
    else:
        listed = {label for one in structures for label in one.labels}
        unlisted = tuple(label for label in found if label not in listed)
    x_mm, y_mm, z_mm = x_y_z_mm
    spacing_mm = (z_mm, y_mm, x_mm)
    measurements = measure_case(arrays[0], arrays[1], structures, spacing_mm, job.tolerance_mm)
    return _Measured(
        structures=tuple(structures),
        measurements=tuple(measurements),
        diagonal_mm=measurements[0].diagonal_mm if measurements else 0.0,
        unlisted=unlisted,
        notes=tuple(notes),
        lesions=tuple(find_lesions(arrays[0], arrays[1], structures, spacing_mm)) if job.by_size else (),
    )


def _measure_union(
    job: _Job,
    arrays: Sequence[NDArray[Any]],
    structures: Sequence[Structure],
    spacing_xyz_mm: tuple[float, float, float],
    notes: tuple[str, ...],
) -> _Measured:
    """Measure the classes that a case is labelled for; the others are unlabelled."""
    assert job.pair.labels is not None
    common, known = on_common_values(arrays[0], arrays[1], job.pair.labels, structures)
    x_mm, y_mm, z_mm = spacing_xyz_mm
    spacing_mm = (z_mm, y_mm, x_mm)
    there = [one for one in known if one is not None]
    found = iter(measure_case(common[0], common[1], there, spacing_mm, job.tolerance_mm))
    diagonal_mm = math.hypot(*(n * mm for n, mm in zip(common[1].shape, spacing_mm, strict=True)))
    measured = [unlabelled_structure(diagonal_mm) if one is None else next(found) for one in known]
    lesions = tuple(find_lesions(common[0], common[1], there, spacing_mm)) if job.by_size else ()
    unlisted = tuple(job.pair.labels.unlisted(labels_in(arrays[1])))
    return _Measured(tuple(structures), tuple(measured), diagonal_mm, unlisted, notes, lesions)


def _annotated(prediction_zyx: NDArray[Any], reference_zyx: NDArray[Any], ignore_label: int) -> list[NDArray[Any]]:
    """Return prediction and label map without the voxels that nobody annotated, which become background in both."""
    ignored = reference_zyx == ignore_label
    return [np.where(ignored, 0, one).astype(one.dtype, copy=False) for one in (prediction_zyx, reference_zyx)]


def _on_grid_of(prediction: Scan, reference: Scan) -> Scan:
    """Return the prediction in the order in which the voxels of the reference are stored."""
    there = placement(reference)
    found = stored_like(prediction, there, reference.shape_xyz, "its label")
    if found is not None:
        return found
    shapes = ["x".join(map(str, scan.shape_xyz)) for scan in (prediction, reference)]
    hint = "Predictions must lie on the grid of the scan that was labelled; resample them to it (nearest neighbour)."
    if shapes[0] != shapes[1]:
        raise GeometryError(f"{prediction.path} has {shapes[0]} voxels, and its label {shapes[1]}.", hint)
    shift_mm = grid_shift_mm(placement(prediction), there, reference.shape_xyz)
    raise GeometryError(
        f"{prediction.path} lies on another grid than its label: voxels are up to {shift_mm:.2f} mm apart.", hint
    )


def _found_structures(measured: Sequence[_Measured], regions: Sequence[Structure]) -> tuple[Structure, ...]:
    found = {one for case in measured for one in case.structures if not one.is_region}
    return all_structures(sorted(found, key=lambda one: one.labels), regions)


def _worth_workers(pairs: Sequence[CasePair]) -> int:
    """Return the number of processes: one for small data, where starting more would take longer than the work."""
    for pair in pairs:
        try:
            x, y, z = read_header(pair.label).shape_xyz
        except VocoError:  # it will be recorded when it is measured
            continue
        worth = x * y * z * len(pairs) > FEWEST_VOXELS_FOR_PROCESSES
        return min(usable_cores(), MOST_WORKERS, len(pairs)) if worth else 1
    return 1


def _reason(error: Exception) -> str:
    if isinstance(error, WorkerKilledError):
        return f"it {error}"
    if isinstance(error, VocoError):
        return error.message.replace(f"{Path.cwd()}{os.sep}", "")  # as the folders are named, see `_from_root`
    return f"{type(error).__name__}: {error}"
