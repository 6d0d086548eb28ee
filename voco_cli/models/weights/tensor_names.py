"""What a tensor's name in a file means: its branch, the part of the network it belongs to, its name in MONAI.

Prefixes are taken off key by key; the authors' own loaders look at the first key only and then load nothing, silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from voco_cli.models.backbone import ENCODER_PARTS, NetworkPart, all_backbones

PREFIXES = {
    "state_dict.": None,
    "network.": None,
    "model.": None,
    "_model.": None,
    "net.": None,
    "backbone.": None,
    "student.": "student",
    "student_model.": "student",
    "student_backbone.": "student",
    "student_encoder.": "student",
    "encoder_q.": "student",  # MoCo
    "base_encoder.": "student",
    "online_encoder.": "student",  # BYOL
    "online_network.": "student",
    "teacher.": "teacher",
    "teacher_model.": "teacher",
    "teacher_backbone.": "teacher",
    "teacher_encoder.": "teacher",
    "encoder_k.": "teacher",
    "momentum.": "teacher",
    "momentum_encoder.": "teacher",
    "momentum_backbone.": "teacher",
    "backbone_momentum.": "teacher",
    "target_encoder.": "teacher",
    "target_network.": "teacher",
    "ema.": "ema",
    "ema_model.": "ema",
    "model_ema.": "ema",
    "online_model.": None,  # beside ema_model
    "projector.": "student",
    "teacher_projector.": "teacher",
}
"""What may stand before a name, and the branch that it tells."""
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""What parallel and compiled modules add, before a name or within it."""


_HEAD = re.compile(
    r"proj_head\.|projector\.|layer[123]\.\d|(projection|prediction)_head\.|predictor\.|(rotation|contrastive)_(pre|head)\."
)
_NNUNET = re.compile(r"encoder\.stages\.\d+\.\d+\.convs\.")
_BARE = re.compile(r"(patch_embed|pos_drop|norm|layers[1-4]c?)\.")
"""Names within SwinUNETR's transformer, which MONAI's own pre-training saves alone."""
_BARE_BLOCK = re.compile(r"layers1\.0\.blocks\.0\.")
_ANCHOR = re.compile(
    r"(?P<before>.+?\.)(swinViT|swin_vit|input_block\.conv1|encoder\.stages\.0\.0\.convs|encoder\.stem\.convs|layers1\.0\.blocks)\."
)
"""What stands in networks that are known here and in no others, behind an attribute that we do not know."""
_CLASSIFIER_HEAD = re.compile(r"head\.(weight|bias)")


@dataclass(frozen=True)
class TensorName:
    """A name of a file, understood.

    Attributes:
        key: as the file has it.
        name: without prefixes, as MONAI's SwinUNETR or DynUNet has it (nnU-Net's names are left for their own table).
        part: part of the network; OTHER where the name is not known.
        branch: student, teacher or ema (a copy averaged over the steps) where the prefixes tell.
    """

    key: str
    name: str
    part: NetworkPart
    branch: str | None

    @property
    def is_nnunet(self) -> bool:
        """True for a name of the encoder of nnU-Net's PlainConvUNet."""
        return _NNUNET.match(self.name) is not None

    @property
    def is_authors_head(self) -> bool:
        """True for a projector's name as the authors' files, and our runs, have it."""
        return (
            self.part is NetworkPart.HEAD and re.match(r"proj_head\.|projector\.|layer[123]\.\d", self.name) is not None
        )


def read_names(keys: Iterable[str]) -> list[TensorName]:
    """Parse the names of one file together: what one of them tells of its place holds for all of it.

    Where the names of the transformer stand alone, or the whole network behind an attribute of any name, only some
    tensors show it.
    """
    names = [read_name(key) for key in keys]
    others = [name for name in names if name.part is NetworkPart.OTHER and not name.is_nnunet]
    before = next((found["before"] for name in others if (found := _ANCHOR.match(name.name))), None)
    if before is not None:
        names = [_read_again(name, name.name.removeprefix(before)) for name in names]
    if any(_BARE_BLOCK.match(name.name) for name in names):
        names = [_read_again(name, f"swinViT.{name.name}") if _BARE.match(name.name) else name for name in names]
    return names


def _read_again(name: TensorName, rest: str) -> TensorName:
    if name.part is not NetworkPart.OTHER or name.is_nnunet or rest == name.name:
        return name
    again = read_name(rest)
    return TensorName(name.key, again.name, again.part, name.branch or again.branch)


def read_name(key: str) -> TensorName:
    """Take the prefixes off one key and find its part."""
    rest, branch, head = _WRAPPERS.sub("", key), None, False
    while True:
        prefix = next((prefix for prefix in PREFIXES if rest.startswith(prefix)), None)
        if prefix is None:
            # Our checkpoints have `encoder.` before MONAI's names; nnU-Net's `encoder.stages` is a name of its own.
            if rest.startswith("encoder.") and _is_within_encoder(rest[8:]):
                rest, branch = rest[8:], branch or "student"
                continue
            break
        rest, branch = rest.removeprefix(prefix), branch or PREFIXES[prefix]
        head = head or prefix in ("projector.", "teacher_projector.")
    name = _spelled(rest)
    return TensorName(key, f"projector.{name}" if head else name, NetworkPart.HEAD if head else part_of(name), branch)


def _is_within_encoder(rest: str) -> bool:
    known = part_of(_spelled(rest)) in (*ENCODER_PARTS, NetworkPart.DECODER)
    return known or re.match(r"patch_embed\.|layers[1-4]c?\.|(rotation|contrastive)_", rest) is not None


def part_of(name: str) -> NetworkPart:
    """Return the part of the network that a name without prefixes belongs to."""
    for backbone in all_backbones():
        for part, pattern in backbone.patterns.parts.items():
            if re.match(pattern, name):
                return part
    return NetworkPart.HEAD if _HEAD.match(name) else NetworkPart.OTHER


def level_of(name: str) -> int | None:
    """Return the level of a tensor of an encoder, 0 at the voxels; None for those of the deepest."""
    for backbone in all_backbones():
        for pattern, level in backbone.patterns.levels:
            if found := re.match(pattern, name):
                return level + int(found[1]) if found.groups() else level
    return None


def is_first_layer(name: str) -> bool:
    """Return True for a tensor whose second axis is the input's channels."""
    return any(re.fullmatch(backbone.patterns.first_layers, name) for backbone in all_backbones())


def is_last_layer(name: str) -> bool:
    """Return True for a tensor whose first axis is the classes."""
    known = any(re.fullmatch(backbone.patterns.last_layers, name) for backbone in all_backbones())
    return known or _CLASSIFIER_HEAD.fullmatch(name) is not None


def _spelled(name: str) -> str:
    """Spell the transformer's names as MONAI does today; older versions, and its own pre-training, say fc1 and fc2."""
    name = f"swinViT{name[8:]}" if name.startswith("swin_vit.") else name
    return re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name) if name.startswith("swinViT.") else name
