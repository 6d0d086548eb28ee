"""How fast this machine trains: a few steps of both networks of a demo on noise.

`python -m voco_cli.demo.speed SETTINGS.yaml` prints it as JSON. It runs as a process of its own, like the commands that
it stands for, so that the start of one can be timed around it and the memory is given back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from voco_cli.demo.scans import ORGANS, SHAPE_XYZ
from voco_cli.engine.device import device_alone
from voco_cli.networks.segmenter import build_segmenter
from voco_cli.pretraining.job import build_model
from voco_cli.settings import Settings, load_settings

WARM_UP, TIMED = 2, 5
LOADING = 1.25
"""What the processes that load the batches take from the cores beside a step; measured on two cores."""


def main() -> None:
    """Measure and print."""
    began_s = time.monotonic()
    settings = load_settings(config=Path(sys.argv[1])).settings
    device, _ = device_alone(settings.run)
    found = {
        "pretraining_step_s": LOADING * _step_s(*_pretraining(settings, device), device),
        "study_step_s": LOADING * _step_s(*_study(settings, device), device),
    }
    print(json.dumps({**found, "measured_for_s": time.monotonic() - began_s}))


def _pretraining(settings: Settings, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = build_model(settings, device).to(device)
    crops, scans = settings.crops, settings.train.batch_size
    bases = crops.grid_xyz[0] * crops.grid_xyz[1] * crops.grid_xyz[2]
    rows = torch.rand(scans * (crops.random_per_volume + bases), 1, *crops.network_size_vox, device=device)
    labels = torch.full((scans, crops.random_per_volume, bases), 1 / bases, device=device)
    return model, lambda: model(rows, labels)["loss"]


def _study(settings: Settings, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    network = build_segmenter(settings.model, 1, len(ORGANS) + 1).to(device)
    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    image = torch.rand(1, 1, *SHAPE_XYZ, device=device)
    label = torch.randint(0, len(ORGANS) + 1, image.shape, device=device)
    return network, lambda: criterion(network(image), label)


def _step_s(model: nn.Module, loss: Callable[[], Tensor], device: torch.device) -> float:
    """Median seconds of an optimizer step."""
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    took_s = []
    for _ in range(WARM_UP + TIMED):
        began_s = time.monotonic()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took_s.append(time.monotonic() - began_s)
    return median(took_s[WARM_UP:])


if __name__ == "__main__":
    main()
