"""Embeddings on disk: plain numpy arrays (.npz), or a table for data frames (.parquet)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voco_cli.errors import UsageError
from voco_cli.evaluation.patient_numbers import PatientNumbers, numbered
from voco_cli.pretraining.embedding import ScanEmbeddings
from voco_cli.whole_files import whole_file

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
