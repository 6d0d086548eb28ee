"""What a tensor's name in a file means: its branch, the part of the network it belongs to, its name in MONAI.

Prefixes are taken off key by key; the authors' own loaders look at the first key only and then load nothing, silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

PREFIXES = {
    "module.": None,  # DistributedDataParallel
    "_orig_mod.": None,  # torch.compile
    "state_dict.": None,
    "network.": None,
    "model.": None,
    "net.": None,
    "backbone.": None,
    "student.": "student",
    "teacher.": "teacher",
    "teacher_encoder.": "teacher",
    "projector.": "student",
    "teacher_projector.": "teacher",
}
"""What may stand before a name, and the branch that it tells."""


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
    (Part.HEAD, r"proj_head\.|projector\.|layer[123]\.\d"),
)
_PARTS = tuple((part, re.compile(pattern)) for part, pattern in _ROOTS)
_NNUNET = re.compile(r"(encoder\.stages|decoder\.(encoder|stages|transpconvs|seg_layers))\.\d*")
_FIRST_LAYER = re.compile(r"swinViT\.patch_embed\.proj\.weight|(encoder1\.layer|input_block)\.conv[13]\.conv\.weight")
_LAST_LAYER = re.compile(r"((out|output_block|deep_supervision_heads\.\d+)\.conv\.conv|head)\.(weight|bias)")


@dataclass(frozen=True)
class TensorName:
    """A name of a file, understood.

    Attributes:
        key: as the file has it.
        name: without prefixes, as MONAI's SwinUNETR or DynUNet has it (nnU-Net's names are left for their own table).
        part: part of the network; OTHER where the name is not known.
        branch: student or teacher where the prefixes tell.
    """

    key: str
    name: str
    part: Part
    branch: str | None

    @property
    def is_nnunet(self) -> bool:
        """Whether the name is one of nnU-Net's PlainConvUNet."""
        return _NNUNET.match(self.name) is not None


def read_name(key: str) -> TensorName:
    """Take the prefixes off one key and find its part."""
    rest, branch, head = key, None, False
    while True:
        prefix = next((prefix for prefix in PREFIXES if rest.startswith(prefix)), None)
        if prefix is None:
            # Our checkpoints have `encoder.` before MONAI's names; nnU-Net's `encoder.stages` is a name of its own.
            if rest.startswith("encoder.") and part_of(_spelled(rest[8:])) in (*ENCODER_PARTS, Part.DECODER):
                rest, branch = rest[8:], branch or "student"
                continue
            break
        rest, branch = rest.removeprefix(prefix), branch or PREFIXES[prefix]
        head = head or prefix in ("projector.", "teacher_projector.")
    name = _spelled(rest)
    return TensorName(key, f"projector.{name}" if head else name, Part.HEAD if head else part_of(name), branch)


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
    return f"swinViT{name[8:]}" if name.startswith("swin_vit.") else name
