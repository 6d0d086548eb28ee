"""From stored crops to embeddings as they are looked at outside of training: never augmented, without gradients.

N crops in all; E features of the encoder, C channels after the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voco_cli.engine.job import Place
from voco_cli.method.augment import network_input
from voco_cli.method.objective import VolumeContrast


@dataclass(frozen=True)
class EmbeddedRows:
    """Crops as student and teacher see them.

    Attributes:
        features_NE: pooled features of the student's encoder.
        student_NC: their projections.
        teacher_NC: the teacher's; the student's own where there is no teacher.
    """

    features_NE: Tensor
    student_NC: Tensor
    teacher_NC: Tensor


def encoder_features(
    embed: Callable[[Tensor], Tensor], stored: Sequence[Tensor], size_vox: Sequence[int], place: Place
) -> Tensor:
    """Features_NE of crops, each of its crop alone: an encoder never mixes them.

    Args:
        embed: features of crops as the network gets them.
        stored: stored numbers, crops x X x Y x Z each.
        size_vox: size of a crop as the network gets it.
    """
    parts = []
    with torch.no_grad(), place.autocast():
        for crops in stored:
            n = len(crops)
            still = torch.zeros(n, 3, dtype=torch.bool), torch.zeros(n, dtype=torch.int64), torch.zeros(n)
            parts.append(embed(network_input(crops.to(place.device), *still, size_vox)))
        return torch.cat(parts).float()


@torch.no_grad()
def embed_crops(
    model: VolumeContrast, stored: Sequence[Tensor], size_vox: Sequence[int], place: Place, own_teacher: bool = False
) -> EmbeddedRows:
    """Embed and project crops, all of them together: the batch norm of a projector takes its statistics from all rows.

    Args:
        stored, size_vox: as for :func:`encoder_features`.
        own_teacher: let the student stand in for the teacher, as if it had just been copied.
    """
    training = model.training
    model.eval()

    def seen_by(encoder: torch.nn.Module) -> Tensor:
        return encoder_features(lambda crops: model.embed(encoder, crops), stored, size_vox, place)

    features = seen_by(model.encoder)
    teacher_encoder = None if own_teacher else model.teacher_encoder
    teacher_features = features if teacher_encoder is None else seen_by(teacher_encoder)
    with place.autocast():
        student_rows = model.projector(features)
        teacher_rows = student_rows
        if model.teacher_projector is not None and not own_teacher:
            teacher_rows = model.teacher_projector(teacher_features)
    model.train(training)
    return EmbeddedRows(features, student_rows, teacher_rows)
