"""Put the encoder of a run into MONAI's network of the same kind, and say what loaded.

Usage: python examples/load_encoder.py runs/pretrain
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from monai.networks.nets import DynUNet, SwinUNETR

from voco_cli.networks.weights import load_encoder


def main(run: Path, out_channels: int = 14) -> None:
    weights = run / "weights" / "encoder.safetensors"
    model = json.loads(weights.with_suffix(".json").read_text())["model"]
    f = model["feature_size"]
    if model["backbone"] == "swinunetr":
        network = SwinUNETR(in_channels=1, out_channels=out_channels, feature_size=f, use_v2=True)
    else:
        network = DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=out_channels,
            kernel_size=[3] * 5,
            strides=[1, 2, 2, 2, 2],
            upsample_kernel_size=[2] * 4,
            filters=[f, 2 * f, 4 * f, 8 * f, 16 * f],
            norm_name=("INSTANCE", {"affine": True}),
        )
    print(load_encoder(network, weights))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
