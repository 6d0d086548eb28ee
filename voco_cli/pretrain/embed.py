"""Embeddings of scans by a pre-trained network, crop by crop; a bad scan does not end the batch.

N crops of a scan; D features: the encoder's pooled levels side by side, or the projector's output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.atomic_files import whole_file
from voco_cli.config import Settings
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.index.patients import PatientNumbers, numbered
from voco_cli.errors import UsageError, VocoError
from voco_cli.objectives.voco.objective import embed_crops, encoder_features
from voco_cli.pretrain.inference import grid_scan, open_encoder, open_pretrained


@dataclass(frozen=True)
class Embedder:
    """What turns crops into rows.

    Attributes:
        run: the folder of the network.
        settings: those of the run.
        step: optimizer steps that it was trained for, where its weights say so.
        projected: whether rows are the projector's output; then crops that are given together matter to each other.
        width: numbers in a row.
        rows_of: rows of stored crops, as many as there are crops.
    """

    run: Path
    settings: Settings
    step: int | None
    projected: bool
    width: int
    rows_of: Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class ScanEmbeddings:
    """The crops of one scan.

    Attributes:
        scan: file or folder.
        patient: whose it is.
        crop_N: number of the crop in its scan, from 1.
        base_N: base crop that it is, or overlaps most, from 1; k = (ix * gy + iy) * gz + iz counts from 0.
        centres_vox_N3: centre, voxels of the preprocessed volume along x, y, z, of which voxel 0 has its centre at 0.
        centres_mm_N3: centre in the world of the scan, RAS, mm.
        rows_ND: embeddings, float32.
    """

    scan: Path
    patient: str
    crop_N: NDArray[np.int32]
    base_N: NDArray[np.int32]
    centres_vox_N3: NDArray[np.float32]
    centres_mm_N3: NDArray[np.float32]
    rows_ND: NDArray[np.float32]


def open_embedder(run: Path, projected: bool = False, device: str | None = None) -> Embedder:
    """Open a pre-training run: its encoder, or with ``projected`` its last checkpoint.

    Raises:
        UsageError, DataError: as `open_encoder` and `open_pretrained`.
    """
    if projected:
        whole = open_pretrained(run, device)
        size, place = whole.settings.crops.network_size_vox, whole.place

        def project(stored: Sequence[Tensor]) -> Tensor:
            return embed_crops(whole.model, stored, size, place.device, place.autocast).student_NC

        width = whole.settings.model.projector_out
        return Embedder(run, whole.settings, whole.step, True, width, project)
    alone = open_encoder(run, device)
    size, place = alone.settings.crops.network_size_vox, alone.place

    def pool(stored: Sequence[Tensor]) -> Tensor:
        return encoder_features(alone, stored, size, place.device, place.autocast)

    return Embedder(run, alone.settings, alone.step, False, alone.out_features, pool)


def embed_scan(embedder: Embedder, entry: Entry, num_crops: int | None = None) -> ScanEmbeddings:
    """Embed the base crops of a scan, or random crops of it.

    Projections are taken from all crops of the scan together, its base crops always among them: the batch norm of the
    projector takes its statistics from them, as in training, where the scans of a step share them too.

    Args:
        num_crops: random crops, drawn as `voco locate` and `voco preview-labels` draw them; none is the base crops.
    Raises:
        DataError, GeometryError: the scan cannot be read, preprocessed or cut.
    """
    gridded = grid_scan(read_entry(entry), embedder.settings, (), num_crops or 1)
    crops = embedder.settings.crops
    if num_crops is None:
        rows = embedder.rows_of([gridded.bases_KXYZ])
        starts, size = gridded.base_starts, crops.base_size_vox
        base_N = np.arange(1, len(starts) + 1)
    else:
        together = [gridded.random_SXYZ, gridded.bases_KXYZ] if embedder.projected else [gridded.random_SXYZ]
        rows = embedder.rows_of(together)[:num_crops]
        starts, size = gridded.random_starts, crops.size
        base_N = gridded.draws.labels_SK.argmax(1) + 1
    # The middle of the voxels start to start + size - 1, whose own centres are at whole numbers.
    centres_vox = starts + (np.asarray(size) - 1) / 2
    affine = gridded.volume.affine
    centres_mm = centres_vox @ affine[:3, :3].T + affine[:3, 3]
    return ScanEmbeddings(
        entry.image,
        entry.patient,
        np.arange(1, len(starts) + 1, dtype=np.int32),
        base_N.astype(np.int32),
        centres_vox.astype(np.float32),
        centres_mm.astype(np.float32),
        rows.float().cpu().numpy(),
    )


def embed_entries(
    embedder: Embedder,
    entries: Sequence[Entry],
    num_crops: int | None,
    on_failed: Callable[[Entry, str], None],
    on_done: Callable[[], None] = lambda: None,
) -> Iterator[ScanEmbeddings]:
    """Embed scans one after another; those that cannot be are told and left out.

    Args:
        num_crops: as for :func:`embed_scan`.
        on_failed: called with a scan and the reason.
        on_done: called after each scan.
    """
    for entry in entries:
        found = None
        try:
            found = embed_scan(embedder, entry, num_crops)
        except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
            on_failed(entry, _reason(error, entry))
        if found is not None:
            yield found
        on_done()


def about(embedder: Embedder, num_crops: int | None) -> dict[str, Any]:
    """What the numbers of a file of embeddings are."""
    settings = embedder.settings
    return {
        "format": "voco-embeddings/1",
        "run": str(embedder.run),
        "step": embedder.step,
        "rows": "base crops" if num_crops is None else "random crops",
        "embedding": "projector, crops of a scan together" if embedder.projected else "encoder, pooled levels",
        "recipe": settings.recipe,
        "seed": settings.seed,
        "grid": list(settings.crops.grid_xyz),
        "crop_size": list(settings.crops.base_size_vox if num_crops is None else settings.crops.size),
    }


def _reason(error: Exception, entry: Entry) -> str:
    if isinstance(error, VocoError):
        return error.message
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"{entry.image} did not fit into memory ({type(error).__name__} {error})."
    return f"{entry.image} could not be embedded ({type(error).__name__}: {error})."


SUFFIXES = (".npz", ".parquet")


class EmbeddingWriter(Protocol):
    """Takes the scans of a file one after another."""

    def add(self, scan: ScanEmbeddings) -> None:
        """Append the crops of a scan."""


def check_embedding_path(path: Path) -> None:
    """See that a file can be written under this name, before anything is computed.

    Raises:
        UsageError: another format, or one whose library is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not end like a file of embeddings.", f"end it with {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "give the name of a file")
    if path.suffix.lower() == ".parquet":
        _parquet(path)


@contextmanager
def embedding_file(path: Path, width: int, about: Mapping[str, Any]) -> Iterator[EmbeddingWriter]:
    """Write embeddings; the file is there whole after the block, or not at all.

    ``.parquet`` is written scan by scan; ``.npz`` is kept in memory until the end.

    Args:
        width: numbers in an embedding.
        about: kept in the file: array ``about`` of an .npz as JSON, metadata ``voco`` of a .parquet.
    Raises:
        UsageError: as :func:`check_embedding_path`.
        ResourceError: the disk is full.
    """
    check_embedding_path(path)
    with whole_file(path) as beside:
        if path.suffix.lower() == ".npz":
            arrays = _Arrays()
            yield arrays
            arrays.write(beside, width, about)
        else:
            table = _Table(beside, width, about)
            try:
                yield table
            finally:
                table.close()


class _Arrays:
    """Columns of an .npz; texts are fixed-width unicode, so that no pickle is needed to read them."""

    def __init__(self) -> None:
        self.scans: list[ScanEmbeddings] = []

    def add(self, scan: ScanEmbeddings) -> None:
        self.scans.append(scan)

    def write(self, path: Path, width: int, about: Mapping[str, Any]) -> None:
        counts = [len(scan.crop_N) for scan in self.scans]
        texts = [[str(scan.scan) for scan in self.scans], numbered(scan.patient for scan in self.scans)]
        names, patients = (np.repeat(np.array(column, dtype=np.str_), counts) for column in texts)
        np.savez(
            path,
            allow_pickle=False,
            scan=names,
            patient=patients,
            crop=_joined([scan.crop_N for scan in self.scans], np.int32),
            base=_joined([scan.base_N for scan in self.scans], np.int32),
            centre_vox=_joined([scan.centres_vox_N3 for scan in self.scans], np.float32, 3),
            centre_mm=_joined([scan.centres_mm_N3 for scan in self.scans], np.float32, 3),
            embedding=_joined([scan.rows_ND for scan in self.scans], np.float32, width),
            about=np.array(json.dumps(about)),
        )


def _joined(parts: list[Any], dtype: Any, *columns: int) -> Any:
    return np.concatenate([np.empty((0, *columns), dtype=dtype), *parts], dtype=dtype)


class _Table:
    """A parquet file with a row group for each scan."""

    def __init__(self, path: Path, width: int, about: Mapping[str, Any]) -> None:
        self.pa, parquet = _parquet(path)
        self.number_of = PatientNumbers()
        pa = self.pa
        triple = pa.list_(pa.float32(), 3)
        fields = [("scan", pa.string()), ("patient", pa.string()), ("crop", pa.int32()), ("base", pa.int32())]
        fields += [("centre_vox", triple), ("centre_mm", triple), ("embedding", pa.list_(pa.float32(), width))]
        self.schema = pa.schema(fields, {"voco": json.dumps(about)})
        self.writer = parquet.ParquetWriter(path, self.schema, compression="zstd")

    def add(self, scan: ScanEmbeddings) -> None:
        pa, count = self.pa, len(scan.crop_N)

        def listed(values: Any) -> Any:
            return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

        columns = [
            pa.array([str(scan.scan)] * count),
            pa.array([self.number_of(scan.patient)] * count),
            pa.array(scan.crop_N),
            pa.array(scan.base_N),
            *map(listed, (scan.centres_vox_N3, scan.centres_mm_N3, scan.rows_ND)),
        ]
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))

    def close(self) -> None:
        self.writer.close()


def _parquet(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{path} needs the package pyarrow, which is not installed.",
            'pip install "voco-cli[parquet]", or end it with .npz',
        ) from error
    return pyarrow, parquet
