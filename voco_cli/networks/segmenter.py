"""Whole networks for segmentation: MONAI's SwinUNETR and DynUNet, whose encoders pre-training fills."""

from __future__ import annotations

from torch import nn

from voco_cli.networks.tensor_shapes import level_widths
from voco_cli.networks.weights.architecture import set_patch_merging
from voco_cli.settings.sections import Model


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """A network from volumes_NCXYZ to logits_NKXYZ of the same size, with fresh weights from torch's generator.

    Args:
        in_channels, out_channels: C and K, background among the latter.
        deep_supervision: coarser outputs of the unet; in training it then returns logits_NDKXYZ, the finest first.
        recompute: SwinUNETR's transformer forgets its activations and computes them again in the backward pass.
    """
    # Late: whoever only names a network need not wait until MONAI has loaded all of itself.
    if model.backbone == "swinunetr":
        from voco_cli.networks.swin_segmenter import SwinSegmenter

        swin = SwinSegmenter(
            in_channels=in_channels, out_channels=out_channels, feature_size=model.feature_size, recompute=recompute
        )
        set_patch_merging(swin, model.patch_merging)
        return swin
    from monai.networks.nets import DynUNet

    supervised = {"deep_supervision": True, "deep_supr_num": deep_supervision} if deep_supervision else {}
    unet: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * model.levels,
        strides=[1] + [2] * (model.levels - 1),
        upsample_kernel_size=[2] * (model.levels - 1),
        filters=level_widths(model.feature_size, model.levels),
        norm_name=("INSTANCE", {"affine": True}),
        **supervised,
    )
    return unet
