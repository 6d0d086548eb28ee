"""Where in the body a pre-trained network believes crops to lie: the question that it was trained on, asked of a scan.

S crops, K base crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from voco_cli.config import Settings
from voco_cli.data.io.image import Scan
from voco_cli.figures.crops import LabelScene, crop_name, intensity_line
from voco_cli.figures.locate import LocatedScan
from voco_cli.objectives.voco.diagnostics import true_ranks
from voco_cli.objectives.voco.model import Embedded
from voco_cli.objectives.voco.objective import embed_crops
from voco_cli.pretrain.inference import GriddedScan, Pretrained, grid_scan


def locate(
    pretrained: Pretrained,
    scan: Scan,
    centres: Sequence[Sequence[int]] = (),
    num_crops: int = 4,
    against: Scan | None = None,
) -> LocatedScan:
    """Ask a network where crops of a scan lie among the base crops of this scan or of another one.

    Student and teacher answer as in training. All crops of the call are projected together, base crops among them:
    the batch norm of the projector takes its statistics from them, so that logits depend a little on what else is
    asked.

    Args:
        centres, num_crops: crops that are wanted, or how many are drawn; see :func:`grid_scan`.
        against: another scan, whose base crops are asked about.
    Raises:
        UsageError, DataError, GeometryError: as :func:`grid_scan`, of either scan.
    """
    settings = pretrained.settings
    own = grid_scan(scan, settings, centres, num_crops)
    other = own if against is None else grid_scan(against, settings)
    logits, ranks = _logits(pretrained, own, other)
    return LocatedScan(
        run=str(pretrained.run),
        step=pretrained.step,
        scene=_scene(own, settings),
        target=None if against is None else _scene(other, settings),
        logits_SK=logits.float().cpu().numpy(),
        ranks_S=ranks.float().cpu().numpy(),
    )


@torch.no_grad()
def _logits(pretrained: Pretrained, own: GriddedScan, other: GriddedScan) -> tuple[Tensor, Tensor]:
    """logits_SK, and the rank of each crop's true base crop."""
    scans = [own] if other is own else [own, other]
    model, num_random = pretrained.model, len(own.random_SXYZ)
    stored = [own.random_SXYZ, *(scan.bases_KXYZ for scan in scans)]
    rows = embed_crops(
        model, stored, pretrained.settings.crops.network_size_vox, pretrained.place.device, pretrained.place.autocast
    )
    num_bases = len(other.bases_KXYZ)

    def asked(rows_NC: Tensor) -> Embedded:
        return Embedded(rows_NC[None, :num_random], rows_NC[None, -num_bases:])

    student, teacher = asked(rows.student_NC), asked(rows.teacher_NC)
    labels = torch.from_numpy(own.draws.labels_SK).float()[None]
    cosines = model.cosines(student, teacher).cpu()
    ranks = true_ranks(cosines, labels.argmax(-1, keepdim=True))
    return model.cosines(student, teacher, after=torch.relu)[0], ranks[0]


def _scene(gridded: GriddedScan, settings: Settings) -> LabelScene:
    crops, start = settings.crops, gridded.draws.region_start_3.tolist()
    return LabelScene(
        name=gridded.name,
        settings_line=f"recipe {settings.recipe}",
        intensity_line=intensity_line(settings),
        volume_xyz=gridded.volume.array_xyz,
        spacing_mm=gridded.volume.spacing_mm,
        region_start=(start[0], start[1], start[2]),
        grid=crops.grid_xyz,
        base_size=crops.base_size_vox,
        crop_size=crops.size,
        starts_S3=gridded.random_starts,
        labels_SK=gridded.draws.labels_SK,
    )


def location_record(located: LocatedScan) -> dict[str, Any]:
    """The answer for machines; places are voxels of the preprocessed volume, base crops are numbered from 1."""
    scene, target = located.scene, located.asked
    return {
        "step": located.step,
        "grid": list(scene.grid),
        "crop_size": list(scene.crop_size),
        "base_size": list(scene.base_size),
        "volume_shape": list(scene.volume_xyz.shape),
        "spacing_mm": list(scene.spacing_mm),
        "bases_shape": list(target.volume_xyz.shape),
        "bases": [{"number": cell.number, "start": list(cell.start)} for cell in located.cells],
        "mean_rank": located.mean_rank,
        "chance_rank": located.chance_rank,
        "crops": [
            {
                "name": crop_name(answer.crop),
                "centre": list(answer.centre),
                "most_likely": answer.likely + 1,
                "logit": answer.logit,
                "label": answer.label,
                "true": answer.true + 1,
                "rank": answer.rank,
                "logits": located.logits_SK[answer.crop].tolist(),
                "labels": scene.labels_SK[answer.crop].tolist(),
            }
            for answer in located.answers
        ],
    }
