"""The registry of networks: what settings must keep to for each, and the module that makes it; needs no torch.

A new backbone is one module like `voco_cli/models/unet.py`, and its entry in `BACKBONES`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneRules:
    """What a network asks of its settings.

    Attributes:
        module: whose ``BACKBONE`` makes the networks; a `voco_cli.models.backbone.Backbone`.
        halvings: how often the network halves a volume; none is once for each of ``model.levels`` but the first.
        deepest_level: level of the coarsest tensors of the encoder, 0 being the voxels; none is the last of
            ``model.levels``.
        width_multiple: ``model.feature_size`` is a multiple of it.
        any_size: the encoder alone takes crops of any size with more than one voxel at its last level; otherwise edges
            are whole multiples.
        sparse: its encoder can leave hidden voxels out of every layer, by a method ``visible_maps``.
        deep_supervision: its decoder has coarser outputs, at all levels but the finest and the coarsest.
        sized_by: settings of ``model`` beside ``feature_size`` that choose its size.
        draft_widths: ``model.feature_size`` that `voco tasks new` writes, for patches below 64 voxels and from there.
        draft_lr: learning rate that it writes.
    """

    module: str
    halvings: int | None = None
    deepest_level: int | None = None
    width_multiple: int = 1
    any_size: bool = False
    sparse: bool = False
    deep_supervision: bool = False
    sized_by: tuple[str, ...] = ()
    draft_widths: tuple[int, int] = (16, 32)
    draft_lr: float = 1e-3

    def multiple(self, levels: int) -> int:
        """Return the number of voxels that an edge is a multiple of, so that it halves evenly at every level."""
        return int(2 ** (levels - 1 if self.halvings is None else self.halvings))

    def deepest(self, levels: int) -> int:
        """Return the level of the encoder's coarsest tensors."""
        return levels - 1 if self.deepest_level is None else self.deepest_level

    def most_supervision(self, levels: int) -> int:
        """Return the most coarser outputs that ``task.deep_supervision`` may ask for."""
        return levels - 2 if self.deep_supervision else 0


BACKBONES = {
    "swinunetr": BackboneRules(
        "voco_cli.models.swinunetr",
        halvings=5,
        deepest_level=4,
        width_multiple=12,
        draft_widths=(48, 48),
        draft_lr=3e-4,
    ),
    "unet": BackboneRules(
        "voco_cli.models.unet", any_size=True, sparse=True, deep_supervision=True, sized_by=("levels",)
    ),
    "resenc": BackboneRules("voco_cli.models.resenc", deep_supervision=True, sized_by=("levels", "size")),
}
"""Rules by the name in ``model.backbone``."""
DRAFTED = "unet"
"""Backbone of a new task that names none."""
