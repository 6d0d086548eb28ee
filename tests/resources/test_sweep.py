"""A scan's windows are counted right, and the network sees only a few of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.data.cache.made_scans import body_hu, oriented_affine, write_nifti
from tests.tasks.made_run import known_network, make_run
from voco_cli.data.index.datalist import Entry
from voco_cli.predict.predictor import prepare
from voco_cli.predict.segmentation import segment
from voco_cli.resources.trial import WINDOW_TRIES, count_windows, try_sweep
from voco_cli.resources.tried import Sweep


class Counting(nn.Module):
    """Counts the windows that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, windows: Tensor) -> Tensor:
        self.seen += len(windows)
        return torch.zeros((len(windows), 3, *windows.shape[2:]))


@pytest.mark.parametrize("override", [(), ("predict.overlap=0.25", "predict.window_batch=3"), ("predict.flips=true",)])
def test_windows_of_a_whole_scan(tmp_path: Path, override: tuple[str, ...]) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", body_hu((40, 24, 18)), oriented_affine("LPS", (2.0, 2.0, 2.0)))
    network = Counting()
    trained = replace(known_network(make_run(tmp_path / "run"), *override), network=network)
    settings, prepared = trained.settings, prepare(Entry(image=path, patient="a"), trained.settings)
    sweep = try_sweep(prepared.channels_CXYZ, prepared.record, trained, settings, trained.device)
    assert network.seen <= (WINDOW_TRIES + 1) * settings.predict.window_batch
    network.seen = 0
    segment(
        prepared.channels_CXYZ,
        prepared.record,
        trained,
        patch_size=settings.task.patch_size,
        predict=settings.predict,
        device=trained.device,
    )
    flips = 8 if settings.predict.flips else 1
    assert sweep.windows * flips == network.seen
    assert sweep.source_vox == 40 * 24 * 18


def test_windows_by_hand(tmp_path: Path) -> None:
    """At 16 voxels a window and half an overlap: 40 needs starts 0, 8, 16, 24, and 16 and less need one."""
    settings = known_network(make_run(tmp_path / "run")).settings
    assert count_windows((40, 16, 9), settings) == 4
    assert count_windows((17, 40, 40), settings) == 2 * 4 * 4
    assert Sweep(windows=32, window_s=0.5, rest_s=3, source_vox=1).total_s == 19
