"""Making one cached volume from one scan; runs in worker processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from voco_cli.cache.encoding import VolumeMetadata, compress, quantise, stored_hash, to_file_bytes
from voco_cli.cache.key import FORMAT_VERSION, voxel_settings
from voco_cli.cache.preprocess import preprocess, preprocess_label
from voco_cli.cache.volume import StoredVolume
from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.errors import DataError
from voco_cli.scans.content import voxel_hash
from voco_cli.scans.label_map import whole_labels
from voco_cli.scans.read import read_scan
from voco_cli.settings.sections import Cache, Preprocess
from voco_cli.whole_files import write_whole


@dataclass(frozen=True)
class BuildJob:
    """A scan, and where its volume and label map belong; paths that exist already are not written again."""

    entry: Entry
    volume_path: Path
    label_path: Path | None
    preprocess: Preprocess
    cache: Cache


@dataclass(frozen=True)
class Built:
    """What a job wrote."""

    bytes: int


def build_one(job: BuildJob) -> Built:
    """Read, preprocess and write what is missing of one scan.

    Raises:
        DataError: the scan or its label map cannot be used.
        ResourceError: the disk is full.
    """
    written = 0
    if not job.volume_path.exists():
        content = volume_bytes(job)
        write_whole(job.volume_path, content)
        written += len(content)
    label = job.entry.label
    if label is not None and job.label_path is not None and not job.label_path.exists():
        content = _label_bytes(job, label)
        write_whole(job.label_path, content)
        written += len(content)
    return Built(written)


def volume_bytes(job: BuildJob) -> bytes:
    """The file that a scan would be cached as."""
    scan = read_entry(job.entry)
    volume = preprocess(scan, job.preprocess)
    stored = quantise(volume.array_xyz, job.cache.dtype)
    metadata = VolumeMetadata(
        format=FORMAT_VERSION,
        key=job.volume_path.stem,
        voxel_hash=voxel_hash(scan),
        stored_hash=stored_hash(stored),
        settings=voxel_settings(job.preprocess, job.cache),
        record=volume.record,
        notes=scan.notes,
    )
    return to_file_bytes(compress(stored, job.cache), metadata)


def _label_bytes(job: BuildJob, label: Path) -> bytes:
    of_volume = StoredVolume(job.volume_path).metadata
    scan = read_scan(label)
    try:
        whole = whole_labels(scan.array_zyx)
    except ValueError as error:
        raise DataError(f"{label} {error}.", "give a label map with one whole number a structure") from error
    scan = replace(scan, array_zyx=whole)
    stored = preprocess_label(scan, of_volume.record)
    metadata = of_volume.model_copy(
        update={"voxel_hash": voxel_hash(scan), "stored_hash": stored_hash(stored)},
    )
    return to_file_bytes(compress(stored, job.cache), metadata)
