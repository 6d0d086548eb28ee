"""Embeddings of scans by a pre-trained network, crop by crop; a bad scan does not end the batch.

N crops of a scan; D features: the encoder's pooled levels side by side, or the projector's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.errors import VocoError
from voco_cli.pretraining.embedded_crops import embed_crops, encoder_features
from voco_cli.pretraining.gridded_scan import grid_scan
from voco_cli.pretraining.trained import open_encoder, open_pretrained
from voco_cli.settings import Settings


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
            return embed_crops(whole.model, stored, size, place).student_NC

        width = whole.settings.model.projector_out
        return Embedder(run, whole.settings, whole.step, True, width, project)
    alone = open_encoder(run, device)
    size, place = alone.settings.crops.network_size_vox, alone.place

    def pool(stored: Sequence[Tensor]) -> Tensor:
        return encoder_features(alone, stored, size, place)

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
