"""What a tensor's name in a file means: its branch, the part of the network it belongs to, its name in MONAI.

Prefixes are taken off key by key; the authors' own loaders look at the first key only and then load nothing, silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

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


class Part(StrEnum):
    """Parts of a network, in the order of reports."""

    TRANSFORMER = "transformer"
    ENCODER = "encoder blocks"
    DECODER = "decoder"
    HEAD = "head"
    OTHER = "other"


ENCODER_PARTS = (Part.TRANSFORMER, Part.ENCODER)
"""What pre-training gives."""

_ROOTS = (
    (Part.TRANSFORMER, r"swinViT\."),
    (Part.ENCODER, r"encoder(1|2|3|4|10)\.|input_block\.|downsamples\.\d+\.|bottleneck\."),
    (
        Part.DECODER,
        r"decoder[1-5]\.|out\.|upsamples\.\d+\.|output_block\.|deep_supervision_heads\.|(skip_layers|heads)\.",
    ),
    (
        Part.HEAD,
        r"proj_head\.|projector\.|layer[123]\.\d|(projection|prediction)_head\.|predictor\.|(rotation|contrastive)_(pre|head)\.",
    ),
)
_PARTS = tuple((part, re.compile(pattern)) for part, pattern in _ROOTS)
_NNUNET = re.compile(r"encoder\.stages\.\d+\.\d+\.convs\.|decoder\.(encoder|stages|transpconvs|seg_layers)\.\d*")
_BARE = re.compile(r"(patch_embed|pos_drop|norm|layers[1-4]c?)\.")
"""Names within SwinUNETR's transformer, which MONAI's own pre-training saves alone."""
_BARE_BLOCK = re.compile(r"layers1\.0\.blocks\.0\.")
_ANCHOR = re.compile(
    r"(?P<before>.+?\.)(swinViT|swin_vit|input_block\.conv1|encoder\.stages\.0\.0\.convs|layers1\.0\.blocks)\."
)
"""What stands in networks that are known here and in no others, behind an attribute that we do not know."""
_FIRST_LAYER = re.compile(r"swinViT\.patch_embed\.proj\.weight|(encoder1\.layer|input_block)\.conv[13]\.conv\.weight")
_LAST_LAYER = re.compile(r"((out|output_block|deep_supervision_heads\.\d+)\.conv\.conv|head)\.(weight|bias)")


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
    part: Part
    branch: str | None

    @property
    def is_nnunet(self) -> bool:
        """Whether the name is one of nnU-Net's PlainConvUNet."""
        return _NNUNET.match(self.name) is not None

    @property
    def is_authors_head(self) -> bool:
        """Whether it is of a projector as the authors' files, and our runs, have it."""
        return self.part is Part.HEAD and re.match(r"proj_head\.|projector\.|layer[123]\.\d", self.name) is not None


def read_names(keys: Iterable[str]) -> list[TensorName]:
    """Understand the names of one file together: what one of them tells of its place holds for all of it.

    Where the names of the transformer stand alone, or the whole network behind an attribute of any name, only some
    tensors show it.
    """
    names = [read_name(key) for key in keys]
    others = [name for name in names if name.part is Part.OTHER and not name.is_nnunet]
    before = next((found["before"] for name in others if (found := _ANCHOR.match(name.name))), None)
    if before is not None:
        names = [_read_again(name, name.name.removeprefix(before)) for name in names]
    if any(_BARE_BLOCK.match(name.name) for name in names):
        names = [_read_again(name, f"swinViT.{name.name}") if _BARE.match(name.name) else name for name in names]
    return names


def _read_again(name: TensorName, rest: str) -> TensorName:
    if name.part is not Part.OTHER or name.is_nnunet or rest == name.name:
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
    return TensorName(key, f"projector.{name}" if head else name, Part.HEAD if head else part_of(name), branch)


def _is_within_encoder(rest: str) -> bool:
    known = part_of(_spelled(rest)) in (*ENCODER_PARTS, Part.DECODER)
    return known or re.match(r"patch_embed\.|layers[1-4]c?\.|(rotation|contrastive)_", rest) is not None


def part_of(name: str) -> Part:
    """The part of a name without prefixes."""
    return next((part for part, pattern in _PARTS if pattern.match(name)), Part.OTHER)


def is_first_layer(name: str) -> bool:
    """Whether the tensor's second axis is the input's channels."""
    return _FIRST_LAYER.fullmatch(name) is not None


def is_last_layer(name: str) -> bool:
    """Whether the tensor's first axis is the classes."""
    return _LAST_LAYER.fullmatch(name) is not None


def _spelled(name: str) -> str:
    """The transformer's names as MONAI has them today; older versions, and its own pre-training, say fc1 and fc2."""
    name = f"swinViT{name[8:]}" if name.startswith("swin_vit.") else name
    return re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name) if name.startswith("swinViT.") else name
