"""Embed scans with a pre-trained network, crop by crop, and write the embeddings; a bad scan does not end the batch.

N crops of a scan; D features: the encoder's pooled levels side by side, or the projector's output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.atomic_files import whole_file
from voco_cli.config import Settings
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.index.patients import PatientNumbers, numbered
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.objectives.voco.objective import embed_crops, encoder_features
from voco_cli.pretrain.inference import grid_scan, open_encoder, open_pretrained


@dataclass(frozen=True)
class Embedder:
    """A network that turns crops into rows.

    Attributes:
        run: the folder of the network.
        settings: those of the run.
        step: optimizer steps that it was trained for, where its weights say so.
        projected: whether rows are the projector's output; then crops that are given together matter to each other.
        width: numbers in a row.
        rows_of: rows of stored crops, as many as there are crops.
        digest: of all of its numbers, 32 hexadecimal digits.
    """

    run: Path
    settings: Settings
    step: int | None
    projected: bool
    width: int
    rows_of: Callable[[Sequence[Tensor]], Tensor]
    digest: str = ""


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
        width = whole.settings.model.projector_out

        def project(stored: Sequence[Tensor]) -> Tensor:
            return embed_crops(whole.model, stored, size, place.device, place.autocast).student_NC

        return Embedder(run, whole.settings, whole.step, True, width, project, _digest(whole.model))
    alone = open_encoder(run, device)

    def pool(stored: Sequence[Tensor]) -> Tensor:
        size, place = alone.settings.crops.network_size_vox, alone.place
        return encoder_features(alone, stored, size, place.device, place.autocast)

    return Embedder(run, alone.settings, alone.step, False, alone.out_features, pool, _digest(alone.encoder))


def _digest(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def embed_scan(embedder: Embedder, entry: Entry, num_crops: int | None = None) -> ScanEmbeddings:
    """Embed the base crops of a scan, or random crops of it.

    Projections are taken from all crops of the scan together, its base crops always among them: the batch norm of the
    projector takes its statistics from them, as in training, where the scans of a step share them too.

    Args:
        num_crops: random crops, drawn as `voco locate` and `voco preview-labels` draw them; None is the base crops.
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
    """Embed scans one after another; those that cannot be are reported and left out.

    Args:
        num_crops: as for :func:`embed_scan`.
        on_failed: called with a scan and the reason.
        on_done: called after each scan.
    """
    for entry in entries:
        found = None
        try:
            found = try_to_embed(embedder, entry, num_crops)
        except DataError as error:
            on_failed(entry, error.message)
        if found is not None:
            yield found
        on_done()


def try_to_embed(embedder: Embedder, entry: Entry, num_crops: int | None) -> ScanEmbeddings:
    """Embed a scan as `embed_scan` does.

    Raises:
        DataError: whatever went wrong, in one sentence.
    """
    try:
        return embed_scan(embedder, entry, num_crops)
    except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
        raise DataError(_reason(error, entry)) from error


def about(embedder: Embedder, num_crops: int | None) -> dict[str, Any]:
    """Return what a file of embeddings says of its numbers."""
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


def check_embedding_path(path: Path) -> None:
    """Raise if a file of embeddings cannot have this name, before anything is computed.

    Raises:
        UsageError: another format, or one whose library is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not end like a file of embeddings.", f"end it with {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "give the name of a file")
    if path.suffix.lower() == ".parquet":
        _parquet(path)


def write_embeddings(
    path: Path, scans: Iterable[ScanEmbeddings], width: int, about: Mapping[str, Any]
) -> tuple[int, int]:
    """Write embeddings of scans; the file is there whole afterwards, or not at all.

    ``.parquet`` is written scan by scan; ``.npz`` is kept in memory until the end.

    Args:
        width: numbers in an embedding.
        about: kept in the file: array ``about`` of an .npz as JSON, metadata ``voco`` of a .parquet.
    Returns:
        number of scans, number of rows.
    Raises:
        UsageError: as :func:`check_embedding_path`.
        ResourceError: the disk is full.
    """
    check_embedding_path(path)
    counts: list[int] = []

    def counted() -> Iterator[ScanEmbeddings]:
        for scan in scans:
            counts.append(len(scan.crop_N))
            yield scan

    write = _write_npz if path.suffix.lower() == ".npz" else _write_parquet
    with whole_file(path) as beside:
        write(beside, counted(), width, json.dumps(about))
    return len(counts), sum(counts)


def _write_npz(path: Path, embedded: Iterable[ScanEmbeddings], width: int, about: str) -> None:
    """Write columns of an .npz; texts are fixed-width unicode, so that no pickle is needed to read them."""
    scans = list(embedded)

    def joined(parts: list[Any], dtype: Any, *columns: int) -> Any:
        return np.concatenate([np.empty((0, *columns), dtype=dtype), *parts], dtype=dtype)

    counts = [len(scan.crop_N) for scan in scans]
    texts = [[str(scan.scan) for scan in scans], numbered(scan.patient for scan in scans)]
    names, patients = (np.repeat(np.array(column, dtype=np.str_), counts) for column in texts)
    np.savez(
        path,
        allow_pickle=False,
        scan=names,
        patient=patients,
        crop=joined([scan.crop_N for scan in scans], np.int32),
        base=joined([scan.base_N for scan in scans], np.int32),
        centre_vox=joined([scan.centres_vox_N3 for scan in scans], np.float32, 3),
        centre_mm=joined([scan.centres_mm_N3 for scan in scans], np.float32, 3),
        embedding=joined([scan.rows_ND for scan in scans], np.float32, width),
        about=np.array(about),
    )


def _write_parquet(path: Path, scans: Iterable[ScanEmbeddings], width: int, about: str) -> None:
    """Write a table with a row group for each scan."""
    pa, parquet = _parquet(path)
    triple, number_of = pa.list_(pa.float32(), 3), PatientNumbers()
    fields = [("scan", pa.string()), ("patient", pa.string()), ("crop", pa.int32()), ("base", pa.int32())]
    fields += [("centre_vox", triple), ("centre_mm", triple), ("embedding", pa.list_(pa.float32(), width))]
    schema = pa.schema(fields, {"voco": about})

    def listed(values: NDArray[np.float32]) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for scan in scans:
            texts = (pa.array([text] * len(scan.crop_N)) for text in (str(scan.scan), number_of(scan.patient)))
            numbers = map(pa.array, (scan.crop_N, scan.base_N))
            lists = map(listed, (scan.centres_vox_N3, scan.centres_mm_N3, scan.rows_ND))
            writer.write_table(pa.Table.from_arrays([*texts, *numbers, *lists], schema=schema))


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
