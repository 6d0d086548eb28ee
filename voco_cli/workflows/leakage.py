"""Data leakage: which evaluated cases were in the training, and how surely that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from voco_cli.config.schema import Model
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.index.trained_on import (
    ScanIdentity,
    TrainingManifest,
    TrainingScans,
    scan_identity,
    training_scans,
)
from voco_cli.data.io.image import voxel_hash
from voco_cli.data.parallel import HERE, Runner, map_files
from voco_cli.data.shards import files_of
from voco_cli.errors import VocoError
from voco_cli.tasks.cases import StoredCase
from voco_cli.workflows.collection_leakage import CollectionFinding, finding_of
from voco_cli.workflows.weights_origin import manifest_before

FEWEST_FOR_PROCESSES = 16
MOST_NAMED = 3

Kind = Literal["scan", "series", "study", "patient"]
COLUMN_OF: Mapping[Kind, str] = {
    "scan": "voxel_hash",
    "series": "series_uid",
    "study": "study_uid",
    "patient": "patient",
}


@dataclass(frozen=True)
class LeakageFinding:
    """Evaluated cases that are recognised in one way as cases of one training.

    Attributes:
        kind: the very voxels, the DICOM series, the DICOM study, or a patient of the same name.
        stage, dataset: the training.
        cases: names, each once.
        surely: False where all there is are names of patients, in data sets of different names: it may be chance.
        labelled: those of the cases whose label maps the training learned from, where it was a pre-training.
    """

    kind: Kind
    stage: str
    dataset: str
    cases: tuple[str, ...]
    surely: bool = True
    labelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What is known of the cases of an evaluation.

    Attributes:
        evaluated: number of cases.
        compared: number of them whose voxels were compared.
        trained: number of scans of each training, by its words.
        found: what was found, the surest first.
        unknown: weights that do not say what they were trained on, and of which nobody knows.
        unhashed: scans of trainings whose voxels are not known.
        collections: what is known of weights whose scans are known by name alone.
    """

    evaluated: int
    compared: int
    trained: Mapping[str, int]
    found: tuple[LeakageFinding, ...] = ()
    unknown: tuple[str, ...] = ()
    unhashed: int = 0
    collections: tuple[CollectionFinding, ...] = ()

    @property
    def spotted(self) -> bool:
        """Return whether something was found, or cannot be known."""
        return bool(self.found or self.unknown or not all(one.clean for one in self.collections))

    @property
    def clean(self) -> bool:
        """Return True where nothing was found that would spoil the evaluation, and everything could be compared.

        The name of a patient in another data set does not count where all voxels were compared: bare numbers are
        patients everywhere.
        """
        all_compared = self.compared == self.evaluated and not self.unhashed
        all_clean = not self.unknown and all(one.clean for one in self.collections)
        return all_clean and all(not one.surely and all_compared for one in self.found)


def leakage(
    manifest: TrainingManifest, evaluated: Sequence[ScanIdentity], dataset: str, public_set: str | None = None
) -> Findings:
    """Find evaluated cases that were in the training, by voxels, DICOM series, DICOM study and patient.

    A case is reported of each training once, in the surest way. Of weights that are known to be trained on a collection
    of public sets, cases are found by their names in the set.

    Args:
        manifest: all that went into the weights.
        evaluated: scans that are evaluated; several may be channels of one case.
        dataset: name of the dataset that they belong to.
        public_set: that they are of, as the task says it.
    """
    trained: Counter[str] = Counter()
    for stage in manifest.stages:
        trained[_words(stage.stage, stage.dataset)] += len(stage)
    hashed = {scan.case for scan in evaluated if scan.voxel_hash}
    found = [finding for stage in manifest.stages for finding in _of_stage(stage, evaluated, dataset)]
    return Findings(
        evaluated=len({scan.case for scan in evaluated}),
        compared=len(hashed),
        trained=dict(trained),
        found=tuple(sorted(found, key=lambda one: (not one.surely, list(COLUMN_OF).index(one.kind)))),
        unknown=manifest.unknown,
        unhashed=sum(stage.voxel_hash.count(None) for stage in manifest.stages),
        collections=tuple(finding_of(one, public_set, evaluated) for one in manifest.collections),
    )


def sentences(findings: Findings) -> list[str]:
    """Return what a terminal and a table say of it: a sentence for each kind, or that there is nothing."""
    aside = [one.sentence() for one in findings.collections if one.clean and findings.evaluated]
    lines = [_sentence(one, findings.evaluated) for one in findings.found]
    lines += [one.sentence() for one in findings.collections if not one.clean]
    lines += [
        f"Leakage of {findings.evaluated} evaluated cases cannot be ruled out: {name} does not say what it was "
        "trained on."
        for name in findings.unknown
    ]
    if lines or not findings.trained or not findings.evaluated:
        return [*lines, *aside]
    trained = " and ".join(f"{count} scans of the {words}" for words, count in findings.trained.items())
    compared = "" if findings.compared == findings.evaluated else f" (voxels of {findings.compared} were compared)"
    return [f"Data leakage: none of {findings.evaluated} evaluated cases{compared} was among {trained}.", *aside]


def findings_object(findings: Findings) -> dict[str, Any]:
    """Return the same as JSON holds it, with the names of all cases."""
    return {
        "clean": findings.clean,
        "evaluated": findings.evaluated,
        "voxels_compared": findings.compared,
        "trained_on": dict(findings.trained),
        "trained_without_voxel_hash": findings.unhashed,
        "unknown_weights": [*findings.unknown, *(one.seen.weights for one in findings.collections if one.untold)],
        "found": [
            {
                "by": one.kind,
                "stage": one.stage,
                "dataset": one.dataset,
                "surely": one.surely,
                "cases": list(one.cases),
                **({"labels_used": list(one.labelled)} if one.labelled else {}),
            }
            for one in findings.found
        ]
        + [one.found_object() for one in findings.collections if one.trained],
        "collections": [one.to_json() for one in findings.collections],
        "sentences": sentences(findings),
    }


def find_leakage(
    model: Model,
    training: Sequence[StoredCase],
    evaluated: Iterable[Entry],
    dataset: str,
    cache: VolumeCache,
    advance: Callable[[int], object] = lambda n: None,
    public_set: str | None = None,
) -> tuple[TrainingManifest, Findings]:
    """Return all that goes into the weights of a fine-tuning, and which of the cases to be evaluated are among it.

    Args:
        model: settings with the weights that it starts from; none is from scratch.
        training: its own cases.
        evaluated: labelled cases of validation and test.
        dataset: name of the dataset of both.
        cache: of the run.
        advance: called with how many scans were compared.
        public_set: that the evaluated cases are of, as the task says it.
    Raises:
        DataError: the list beside the weights is damaged.
        UsageError: model.weights_collection is no collection.
    """
    own = [
        _identity(case.entry, channel, volume.voxel_hash)
        for case in training
        for channel, volume in zip(case.entry.channel_entries(), case.volumes, strict=True)
    ]
    manifest = manifest_before(model).followed_by(training_scans("fine-tuning", dataset, own))
    return manifest, leakage(manifest, identities_of(evaluated, cache, advance), dataset, public_set)


def identities_of(
    entries: Iterable[Entry],
    cache: VolumeCache | None = None,
    advance: Callable[[int], object] = lambda n: None,
    runner: Runner = HERE,
) -> list[ScanIdentity]:
    """Return what the scans of entries are recognised by, each channel for itself.

    The hash of the voxels is taken from the list, or from the cache, or else the scan is read; a scan that cannot be
    read has none.

    Args:
        cache: where the scans may be stored.
        advance: called with how many scans were compared.
        runner: does the work.
    """
    channels = [(entry, channel) for entry in entries for channel in entry.channel_entries()]
    jobs = [_HashJob(channel, cache) for _, channel in channels]
    hashes = map_files(_hash, jobs, None, advance, FEWEST_FOR_PROCESSES, runner=runner)
    return [_identity(*pair, found) for pair, found in zip(channels, hashes, strict=True)]


def _identity(entry: Entry, channel: Entry, found: str | None) -> ScanIdentity:
    """Return the identity of one channel of a case, which is called as the case is."""
    return replace(scan_identity(channel, found), case=entry.name)


@dataclass(frozen=True)
class _HashJob:
    """A scan to be hashed, in a process of its own."""

    entry: Entry
    cache: VolumeCache | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        return files_of(self.entry)


def _hash(job: _HashJob) -> str | None:
    if job.entry.content:
        return job.entry.content
    try:
        stored = job.cache.lookup(job.entry) if job.cache is not None else None
        return stored.voxel_hash if stored is not None else voxel_hash(read_entry(job.entry))
    except VocoError:
        return None  # counted as not compared, and said by whoever needs the voxels themselves


def _of_stage(stage: TrainingScans, evaluated: Sequence[ScanIdentity], dataset: str) -> Iterable[LeakageFinding]:
    reported: set[str] = set()
    for kind, column in COLUMN_OF.items():
        open_scans = [scan for scan in evaluated if scan.case not in reported]
        known = stage.known(column, (getattr(scan, column) for scan in open_scans))
        cases = _unique(scan.case for scan in open_scans if getattr(scan, column) in known)
        reported.update(cases)
        if cases:
            surely = kind != "patient" or stage.dataset.casefold() == dataset.casefold()
            used = stage.labelled.known(column, known) if stage.classes else frozenset()
            labelled = _unique(scan.case for scan in open_scans if getattr(scan, column) in used)
            yield LeakageFinding(kind, stage.stage, stage.dataset, cases, surely, labelled)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _words(stage: str, dataset: str) -> str:
    return f"{stage} ({dataset})"


def _sentence(finding: LeakageFinding, evaluated: int) -> str:
    count, where = len(finding.cases), _words(finding.stage, finding.dataset)
    cases = f"{count} of {evaluated} evaluated cases"
    was = "was" if count == 1 else "were"
    words = {
        "scan": f"{cases} {was} in the {where}, voxel for voxel",
        "series": f"{cases} {was} in the {where}, by the DICOM series",
        "study": f"{cases} shared a DICOM study with the {where}",
        "patient": f"{cases} had a patient of the same name in the {where}",
    }[finding.kind]
    doubt = "" if finding.surely else "; the data sets have different names, so that it may be another person"
    labels = f"; the labels of {len(finding.labelled)} were learned" if finding.labelled else ""
    return f"Data leakage: {words}: {_some(finding.cases)}{labels}{doubt}."


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(list(names)[:MOST_NAMED])}{more}"
