"""What pre-training goes on from beside the encoder: heads, teachers and decoders of its objectives.

Their names here are ``OBJECTIVE.PART.TENSOR``, such as ``voco.projector.0.weight``. A checkpoint has them without the
objective where it has one only, and under ``parts.`` where several are summed; a file of ours has ``objective.`` before
them; the authors' checkpoints have names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from voco_cli.errors import DataError, UsageError
from voco_cli.models.backbone import ENCODER_PARTS
from voco_cli.models.weights.container import find_file, last_checkpoint
from voco_cli.models.weights.tensor_names import read_names
from voco_cli.models.weights.write import CHECKPOINT_FORMAT, PRETRAINING_FORMAT

IN_FILE, IN_SUM, ENCODER, TEACHER = "objective.", "parts.", "encoder.", "teacher_"
WITH_BRANCHES = (f"{TEACHER}encoder.", f"{TEACHER}projector.", "projector.")
"""Parts whose names tell a branch, as `voco_cli.models.weights.select` reads them."""
_AUTHORS_HEAD = re.compile(r"(?:proj_head\.)?layer([123])\.0\.(weight|bias)")
AUTHORS_LAYERS = {"1": "0", "2": "3", "3": "6"}
"""Their three layers, and the place of each in our projector with two hidden layers."""


def find_checkpoint(run: str | Path) -> Path:
    """Find the file that holds all of a pre-training: of a run folder its last checkpoint, else the file itself.

    Raises:
        DataError: the run has no checkpoint.
        UsageError, DataError: as `find_file`.
    """
    file, path = find_file(run, "teacher"), Path(run)
    is_checkpoint = file.parent.joinpath("checkpoint.json").is_file()
    if path.is_dir() and not is_checkpoint:
        raise DataError(
            f"{path} has no checkpoint, and heads and teacher are nowhere else.",
            "leave out --heads for the encoder alone, or run voco pretrain on it again",
        )
    return file


def find_start(source: str) -> str:
    """Find what a pre-training starts from: the last checkpoint of a run folder, which has more than the encoder.

    A run of fine-tuning, or one without a checkpoint, is left as it is given.
    """
    path = Path(source)
    checkpoint = last_checkpoint(path) if path.is_dir() else None
    is_pretraining = all((path / name).is_file() for name in ("settings.yaml", "weights/encoder.json"))
    return source if checkpoint is None or not is_pretraining else str(checkpoint)


def split_objectives(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any], branch: str = "student"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part a network of its encoder, for `select_network`, from what the objectives have beside it.

    Args:
        tensors: of a file, by its own names.
        about: what the file says of itself; ``objectives`` tells those of a checkpoint.
        branch: with ``teacher``, each student starts from its teacher.
    Returns:
        the network's tensors under the file's names, of our own files the encoder and projector of the branch; and
        those of objectives under the names here, a teacher's encoder among them: none where the file does not tell.
    """
    found = _of_objectives(tensors, about)
    if found is None:
        network, objectives = dict(tensors), _of_authors(tensors)
    else:
        network, objectives = found
        holder = _with_a_teacher(objectives)
        own = {name.removeprefix(f"{holder}."): t for name, t in objectives.items() if name.startswith(f"{holder}.")}
        told = WITH_BRANCHES if branch == "teacher" else WITH_BRANCHES[-1]
        network |= {name: tensor for name, tensor in own.items() if name.startswith(told)}
    if branch == "teacher":
        taught = {name.replace(f".{TEACHER}", ".", 1): t for name, t in objectives.items() if f".{TEACHER}" in name}
        objectives |= {name: tensor for name, tensor in taught.items() if f".{ENCODER}" not in name}
    return network, objectives


def _of_objectives(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Return the encoder's and the objectives' tensors of our own files; None of others."""
    active = list(about.get("objectives") or ())
    if about.get("format") not in (CHECKPOINT_FORMAT, PRETRAINING_FORMAT):
        return None
    is_sum = all(name.startswith(IN_SUM) for name in tensors)
    before = IN_FILE if about["format"] == PRETRAINING_FORMAT else IN_SUM if is_sum else ""
    if not before and len(active) != 1:
        return None
    encoder: dict[str, Tensor] = {}
    objectives: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = name.removeprefix(before) if before else f"{active[0]}.{name}"
        rest = full.partition(".")[2]
        if not name.startswith(before) or (before != IN_FILE and rest.startswith(ENCODER)):
            encoder[rest if name.startswith(before) else name] = tensor
        else:
            objectives[full] = tensor
    return encoder, objectives


def _with_a_teacher(objectives: Mapping[str, Tensor]) -> str | None:
    """Return the objective whose parts tell branches: the first with a teacher's encoder, or else with a projector."""
    for part in WITH_BRANCHES:
        found = next((name.partition(".")[0] for name in objectives if name.partition(".")[2].startswith(part)), None)
        if found:
            return found
    return None


def _of_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return projectors and teacher of the authors' checkpoints, as volume contrast has them."""
    names = read_names(tensors)
    found: dict[str, Tensor] = {}
    for name in names:
        head = _AUTHORS_HEAD.fullmatch(name.name) if name.is_authors_head else None
        if head and name.branch in ("student", "teacher"):
            twin = TEACHER if name.branch == "teacher" else ""
            found[f"voco.{twin}projector.{AUTHORS_LAYERS[head[1]]}.{head[2]}"] = tensors[name.key]
    if found:
        of_teacher = [name for name in names if name.branch == "teacher" and name.part in ENCODER_PARTS]
        found |= {f"voco.{TEACHER}encoder.{name.name}": tensors[name.key] for name in of_teacher}
    return found


def parts_of(objectives: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of the tensors of each part, such as ``voco.projector``."""
    parts: dict[str, list[str]] = {}
    for name in objectives:
        parts.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return parts


def authors_names(encoder: Mapping[str, Tensor], objectives: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Return a pre-training under the names of the authors' checkpoints.

    CVPR's has two whole networks, ``student.`` and ``teacher.``, each with its ``proj_head.``; TPAMI's one
    ``backbone.`` and two projectors.

    Raises:
        UsageError: their code has no such heads.
    """
    own = {name.removeprefix("voco."): t for name, t in objectives.items() if name.startswith("voco.")}
    layers = {ours: theirs for theirs, ours in AUTHORS_LAYERS.items()}
    leaves = [f"projector.{place}.{leaf}" for place in layers for leaf in ("weight", "bias")]
    heads = {twin: [f"{twin}{leaf}" for leaf in leaves] for twin in ("", TEACHER)}
    there = {name for name in own if name.partition(".")[0].endswith("projector")}
    if there != {name for names in heads.values() for name in names}:
        raise UsageError(
            f"{origin} has no student and teacher with projectors of three layers, as the authors' checkpoints hold.",
            "leave out --format authors, or --heads for the encoder alone",
        )
    teacher = {n.removeprefix(f"{TEACHER}encoder."): t for n, t in own.items() if n.startswith(f"{TEACHER}encoder.")}
    before = "proj_head." if teacher else ""
    named = {f"{'student' if teacher else 'backbone'}.{name}": tensor for name, tensor in encoder.items()}
    named |= {f"teacher.{name}": tensor for name, tensor in teacher.items()}
    for twin, names in heads.items():
        branch = "teacher" if twin else "student"
        for name in names:
            _, place, leaf = name.split(".")
            named[f"{branch}.{before}layer{layers[place]}.0.{leaf}"] = own[name]
    return named
