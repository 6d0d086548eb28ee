"""From a folder of scans to features of one scan, in Python: index, pre-train, MONAI's network, embed.

Usage: python examples/api.py SCANS OUT [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from voco_cli.config import load_settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.io.reader import read_scan
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import load_into, read_weights
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.pretrain import run_pretraining


def main(scans: Path, out: Path, steps: int) -> None:
    # What `voco index` does.
    data_file = out / "data.json"
    datalist = build_index([scans], data_file, IndexOptions())
    write_datalist(datalist, data_file)
    print(f"{len(datalist.training)} scans to train on, {len(datalist.validation)} held out")

    # What `voco pretrain` does; the same call on the same folder resumes.
    resolved = load_settings(
        "debug",
        overrides=[f"train.steps={steps}"],
        flags={"data.file": data_file, "run.dir": out / "run"},
    )
    result = run_pretraining(resolved, Callback())
    if result.verdict is not None:
        print(result.verdict.sentence)

    # The encoder in a network of MONAI, ready to be fine-tuned there.
    weights = read_weights(result.folder)
    assert weights.architecture is not None
    network = weights.architecture.build()
    report = load_into(network, weights)
    print(
        f"{type(network).__name__}: {len(report.loaded)} tensors loaded, {len(report.missing)} keep their start values"
    )

    # The encoder alone: one vector a volume, preprocessed as in training.
    settings = resolved.settings
    encoder = build_encoder(settings.model)
    load_into(encoder, weights)
    volume_xyz = preprocess(read_scan(datalist.training[0].image), settings.preprocess).array_xyz
    with torch.no_grad():
        features_NE = encoder.eval()(torch.from_numpy(volume_xyz.copy())[None, None])
    print(f"features of {datalist.training[0].image.name}: {tuple(features_NE.shape)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 320)
