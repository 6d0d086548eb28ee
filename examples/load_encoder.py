"""Put the encoder of a run into the network it fits, and say what loaded.

Usage: python examples/load_encoder.py runs/pretrain
"""

from __future__ import annotations

import sys

from monai.networks.nets import DynUNet, SwinUNETR

from voco_cli.models.weights import load_into, read_weights


def main(run: str, out_channels: int = 14) -> None:
    weights = read_weights(run)
    filters = weights.architecture.filters
    if weights.architecture.backbone == "swinunetr":
        network = SwinUNETR(in_channels=1, out_channels=out_channels, feature_size=filters[0], use_v2=True)
    elif weights.architecture.backbone == "resenc":
        network = weights.architecture.build()  # nnU-Net's ResidualEncoderUNet, its arrays along x, y, z
    else:
        halvings = len(filters) - 1
        network = DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=out_channels,
            kernel_size=[3] * len(filters),
            strides=[1] + [2] * halvings,
            upsample_kernel_size=[2] * halvings,
            filters=filters,
            norm_name=("INSTANCE", {"affine": True}),
        )
    report = load_into(network, weights)
    print(f"{len(report.loaded)} tensors loaded, {len(report.missing)} of the network keep their start values")


if __name__ == "__main__":
    main(sys.argv[1])
