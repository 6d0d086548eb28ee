"""Weights of any source under MONAI's names, with what is known of where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voco_cli.data.io.scratch import told_of
from voco_cli.errors import DataError, UsageError
from voco_cli.models.backbone import Architecture
from voco_cli.models.weights.architecture import infer_architecture
from voco_cli.models.weights.container import Container, container_of, find_file, require_plausible
from voco_cli.models.weights.nnunet import ADAPTATION_PLAN, XYZ, plans_axes
from voco_cli.models.weights.objectives import split_objectives
from voco_cli.models.weights.safe_unpickle import read_torch_file
from voco_cli.models.weights.select import (
    BRANCHES,
    EMA_PLACES,
    RAW_PLACES,
    SelectedNetwork,
    places_of,
    select_network,
    tensors_of,
)
from voco_cli.models.weights.tensor_names import read_name
from voco_cli.models.weights.write import CHECKPOINT_FORMAT, ENCODER_FORMAT, MARK, MODEL_FORMAT, PRETRAINING_FORMAT
from voco_cli.object_stores import is_address

Merging = Literal["current", "legacy"]
Branch = Literal["student", "teacher", "ema"]

STEPS = ("global_step", "step", "epoch", "current_epoch")


class Kind(StrEnum):
    """What a source is, with words for it; decides how much of a network it should fill."""

    words: str

    def __new__(cls, value: str, words: str) -> Kind:
        """Make a member that is its value and keeps the words."""
        kind = str.__new__(cls, value)
        kind._value_, kind.words = value, words
        return kind

    VOCO_ENCODER = "voco-encoder", "encoder of a voco run"
    VOCO_MODEL = "voco-model", "whole network of a voco run"
    VOCO_PRETRAINING = "voco-pretraining", "pre-training of a voco run: encoder, heads and teachers"
    VOCO_CHECKPOINT = "voco-checkpoint", "checkpoint of a voco run"
    CVPR_PRETRAINING = (
        "cvpr-pretraining",
        "pre-training checkpoint of the authors, CVPR layout (student and teacher networks)",
    )
    TPAMI_PRETRAINING = (
        "tpami-pretraining",
        "pre-training checkpoint of the authors, TPAMI layout (one backbone, two projectors)",
    )
    SWINUNETR_ENCODER = (
        "swinunetr-encoder",
        "encoder of SwinUNETR (as in the authors' SSL_head files and MONAI's pre-training)",
    )
    SWIN_TRANSFORMER = (
        "swin-transformer",
        "transformer of SwinUNETR alone (MONAI's self-supervised pre-training)",
    )
    SWINUNETR = "swinunetr", "whole SwinUNETR (the layout of the authors' VoComni and fine-tuned files)"
    DYNUNET_ENCODER = "dynunet-encoder", "encoder of DynUNet"
    DYNUNET = "dynunet", "whole DynUNet"
    NNUNET = "nnunet", "PlainConvUNet of nnU-Net"
    RESENC = "resenc", "ResidualEncoderUNet of nnU-Net"
    NNSSL = "nnssl", "pre-training checkpoint with nnssl's adaptation plan"
    OTHER = "other", "tensors of an unknown network"


@dataclass(frozen=True)
class Weights:
    """Tensors ready to be loaded, and their provenance.

    Attributes:
        tensors: under the names of MONAI's SwinUNETR or DynUNet; names that are not known stay as they are.
        heads: the chosen branch's projector, under its own names.
        kind: what the source is.
        branch: which of two networks was taken; None where there is but one.
        patch_merging: the slices that the transformer was trained with; None for other networks.
        origin: the file.
        settings: what our own files say of model, preprocessing and training; None for others.
        step: optimizer step or epoch, where the file says it.
        unused: tensors of the other branch, and second names of tensors.
        notes: what a user should know, one sentence each.
        objectives: what a pre-training goes on from beside the encoder, under the names of
            `voco_cli.models.weights.objectives`; empty where the source does not hold it.
    """

    tensors: dict[str, Tensor]
    kind: Kind
    patch_merging: Merging | None
    origin: str
    settings: Mapping[str, Any] | None
    heads: dict[str, Tensor] = field(default_factory=dict)
    branch: str | None = None
    step: int | None = None
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    objectives: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_pretrained(self) -> bool:
        """True where our own file says that it is of a pre-training, or nnssl's plan shows it."""
        return self.kind is Kind.NNSSL or bool(self.settings and self.settings.get("objectives"))

    @property
    def architecture(self) -> Architecture | None:
        """The network that the tensors belong to, as far as they tell."""
        return infer_architecture(self.tensors)


def read_weights(
    source: str | Path,
    *,
    trust_pickle: bool = False,
    branch: Branch = "student",
    patch_merging: Merging | None = None,
) -> Weights:
    """Read weights of our runs, of safetensors files and of other people's checkpoints.

    Args:
        source: see :func:`voco_cli.models.weights.container.find_file`.
        trust_pickle: let a pickle run the code that it names; never done unasked.
        branch: student, teacher or ema (a copy averaged over the steps), where a checkpoint holds several.
        patch_merging: overrules what is concluded from the source.
    Raises:
        UsageError: the file names foreign code, or does not hold the branch.
        DataError: missing, damaged, no checkpoint, or without tensors.
    """
    path = find_file(source, branch)
    origin = str(source) if str(source).startswith("hf://") or is_address(str(source)) else str(path)
    with told_of(origin, path):
        is_safetensors = container_of(path) is Container.SAFETENSORS
        content, about = _read_safetensors(path) if is_safetensors else _read_torch(path, trust_pickle)
        require_plausible(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(content).values()))
    # nnU-Net writes torch files alone: a ResidualEncoderUNet in safetensors is of a run here, whatever lies beside it.
    is_ours = is_safetensors and not any(read_name(key).is_nnunet for key in content)
    return parse_weights(content, about, origin, branch, patch_merging, axes=XYZ if is_ours else None)


def parse_weights(
    content: Any,
    about: Mapping[str, Any],
    origin: str,
    branch: Branch = "student",
    patch_merging: Merging | None = None,
    axes: str | None = None,
) -> Weights:
    """Make weights of the content of a checkpoint.

    Args:
        content: tensors by name, nested as checkpoints nest them.
        about: what the file says of itself; empty for other people's.
        origin: what to call it.
        branch, patch_merging: as for :func:`read_weights`.
        axes: order of the axes of the arrays that a network under nnU-Net's names was trained on; none is what the
            content says, and z, y, x where it says nothing.
    Raises:
        UsageError: the branch is not there.
        DataError: there are no tensors.
    """
    tensors = tensors_of(content)
    if not tensors:
        there, looked = places_of(content), ", ".join(RAW_PLACES + EMA_PLACES + BRANCHES)
        held = f"they are under {', '.join(there[:5])}" if there else f"looked under {looked}"
        raise DataError(f"{origin} holds no tensors where a checkpoint has them.", held)
    network, objectives = split_objectives(tensors, about, branch)
    chosen = select_network(network, branch, axes or _nnunet_axes(content, about))
    if not chosen.tensors or (branch != "student" and chosen.branch is None and not chosen.heads):
        raise _without_branch(origin, branch, chosen)
    kind = _kind(tensors, chosen, about, isinstance(content, Mapping) and ADAPTATION_PLAN in content)
    merging, notes = _merging(chosen.tensors, kind, about, patch_merging)
    return Weights(
        tensors=chosen.tensors,
        heads=chosen.heads,
        kind=kind,
        branch=chosen.branch or about.get("branch"),
        patch_merging=merging,
        origin=origin,
        settings=about or None,
        step=_step(content, about),
        unused=chosen.unused,
        notes=(*chosen.notes, *notes),
        objectives=objectives,
    )


def _nnunet_axes(content: Any, about: Mapping[str, Any]) -> str:
    """Return the order of axes of arrays: ours in our own files, else by our exports, or by plans in a checkpoint."""
    said = about.get("axes")
    if isinstance(said, str) and sorted(said) == sorted(XYZ):
        return said
    if str(about.get("format", "")).startswith("voco-"):
        return XYZ
    places = (("init_args", "plans"), (ADAPTATION_PLAN, "pretrain_plan"))
    holders = [(content.get(place), name) for place, name in places] if isinstance(content, Mapping) else []
    plans = [held[name] for held, name in holders if isinstance(held, Mapping) and name in held]
    return plans_axes(plans[0] if plans else None)


def _without_branch(origin: str, branch: Branch, chosen: SelectedNetwork) -> UsageError:
    word = "moving average (EMA)" if branch == "ema" else branch
    if chosen.other_branch:
        hint = (
            f"choose the other one: --branch {chosen.other_branch}, or --set model.weights_branch={chosen.other_branch}"
        )
        return UsageError(f"{origin} holds a {chosen.other_branch}, but no {word}.", hint)
    if not chosen.tensors:
        return UsageError(f"{origin} holds no network.")
    return UsageError(f"{origin} holds one network only, and no {word}.", "leave out --branch")


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({str(error).splitlines()[0]}).") from error
    about = _json(header[MARK]) if MARK in header else {}
    if not about and path.with_suffix(".json").is_file():
        about = _json(path.with_suffix(".json").read_text())
        about = about if str(about.get("format", "")).startswith("voco-") else {}
    checkpoint = path.with_name("checkpoint.json")
    if not about and checkpoint.is_file():
        about = {"format": CHECKPOINT_FORMAT, **_run_settings(path)}
        about["step"] = _json(checkpoint.read_text()).get("step")
    about.pop("names", None)
    return tensors, about


def _run_settings(checkpoint: Path) -> dict[str, Any]:
    """Read the settings of the run that a checkpoint lies in; none where it was moved."""
    file = checkpoint.parent.parent.parent / "settings.yaml"
    try:
        saved = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    settings = saved.get("settings") if isinstance(saved, dict) else None
    if not isinstance(settings, dict):
        return {}
    task, objectives = (held if isinstance(held := settings.get(name), dict) else {} for name in ("task", "objective"))
    if task.get("preset") is None:
        weights = {name: one.get("weight") for name, one in objectives.items() if isinstance(one, dict)}
        settings["objectives"] = {name: weight for name, weight in weights.items() if weight}
    return settings


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_torch(path: Path, trust_pickle: bool) -> tuple[Any, dict[str, Any]]:
    content = read_torch_file(path, trust_pickle)
    # A state dict keeps what its modules noted of themselves; our exports add a line, which MONAI passes over.
    for holder in (getattr(content, "_metadata", None), {"": content}):
        mark = holder.get("", {}).get(MARK) if isinstance(holder, dict) and isinstance(holder.get(""), dict) else None
        if isinstance(mark, str):
            return content, _json(mark)
    return content, {}


def _kind(
    tensors: Mapping[str, Tensor], chosen: SelectedNetwork, about: Mapping[str, Any], has_adaptation_plan: bool
) -> Kind:
    ours = {
        ENCODER_FORMAT: Kind.VOCO_ENCODER,
        MODEL_FORMAT: Kind.VOCO_MODEL,
        PRETRAINING_FORMAT: Kind.VOCO_PRETRAINING,
        CHECKPOINT_FORMAT: Kind.VOCO_CHECKPOINT,
    }
    if about.get("format") in ours:
        return ours[about["format"]]
    architecture = infer_architecture(chosen.tensors)
    if has_adaptation_plan and architecture is not None:
        return Kind.NNSSL
    if architecture is None:
        return Kind.NNUNET if chosen.is_nnunet else Kind.OTHER
    if any("teacher_projector." in key or "teacher_encoder." in key for key in tensors):
        return Kind.VOCO_CHECKPOINT
    if chosen.is_nnunet:
        return Kind.RESENC if architecture.backbone == "resenc" else Kind.NNUNET
    whole = any(name.startswith(("decoder", "upsamples")) for name in chosen.tensors)
    if architecture.backbone == "unet":
        return Kind.DYNUNET if whole else Kind.DYNUNET_ENCODER
    if architecture.backbone != "swinunetr":
        return Kind.OTHER
    if any(read_name(name).is_authors_head for name in chosen.heads):
        return Kind.CVPR_PRETRAINING if chosen.branch else Kind.TPAMI_PRETRAINING
    if all(name.startswith("swinViT.") for name in chosen.tensors):
        return Kind.SWIN_TRANSFORMER
    return Kind.SWINUNETR if whole else Kind.SWINUNETR_ENCODER


def _merging(
    tensors: Mapping[str, Tensor], kind: Kind, about: Mapping[str, Any], asked: Merging | None
) -> tuple[Merging | None, list[str]]:
    """Return the slices of the transformer's patch merging, and a note on how we know."""
    if not any(name.startswith("swinViT.") for name in tensors):
        return None, []
    if asked is not None:
        return asked, [f"The {asked} patch merging was asked for."]
    model = about.get("model")
    said = model.get("patch_merging") if isinstance(model, Mapping) else None
    if said in ("current", "legacy"):
        return said, []
    if kind in (Kind.VOCO_ENCODER, Kind.VOCO_MODEL, Kind.VOCO_PRETRAINING, Kind.VOCO_CHECKPOINT):
        return "current", ["The file does not say its patch merging; the current one is assumed."]
    return "legacy", [
        "The file does not say its patch merging; the legacy slices are used, as the authors trained with MONAI 1.3 "
        "(for weights of MONAI 1.5 or newer: --set model.weights_merging=current; of voco weights: --patch-merging "
        "current)."
    ]


def _step(content: Any, about: Mapping[str, Any]) -> int | None:
    for holder in (about, content):
        if isinstance(holder, Mapping):
            found = next((holder[name] for name in STEPS if isinstance(holder.get(name), int)), None)
            if found is not None:
                return int(found)
    return None
