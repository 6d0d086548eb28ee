"""The network that weights were trained in, and the sizes of a task that is drafted for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import save_file

from tests.tasks.made_run import make_run
from voco_cli.errors import DataError, UsageError
from voco_cli.models.resenc import ResEncArchitecture
from voco_cli.models.unet import UNetArchitecture
from voco_cli.tasks.template import CaseFacts, Network, make_template, network_of

FACTS = CaseFacts((50, 40, 20), (1.0, 1.0, 1.0), -1000.0, np.zeros(1, np.float32), (1,))
LARGE = CaseFacts((500, 500, 500), (1.0, 1.0, 1.0), -1000.0, np.zeros(1, np.float32), (1,))
UNET_3 = UNetArchitecture((2, 4, 8), 1, 2)


def size_for(network: Network, facts: CaseFacts = FACTS) -> tuple[int, int, int]:
    plan = make_template([facts], {"spleen": (1,)}, "CT", network)
    assert plan.network == network
    return plan.size


@pytest.mark.parametrize(
    ("levels", "multiple", "size"),
    [(3, 4, (52, 40, 20)), (4, 8, (56, 40, 24)), (5, 16, (64, 48, 32)), (6, 32, (64, 64, 32))],
)
def test_each_level_of_a_unet_but_the_first_halves_the_patch(
    levels: int, multiple: int, size: tuple[int, int, int]
) -> None:
    network = Network("unet", 24, levels)
    assert network.multiple == multiple
    assert size_for(network) == size


def test_patches_of_large_scans_are_the_largest_multiple_within_96_voxels() -> None:
    assert size_for(Network("unet", 24, 6), LARGE) == (96, 96, 96)
    # Of seven levels one multiple of 64 fits; a single voxel at the last level would leave nothing to normalise.
    assert size_for(Network("unet", 24, 7), LARGE) == (128, 128, 64)
    assert size_for(Network("swinunetr", 48, 5), LARGE) == (96, 96, 96)


@pytest.mark.parametrize("levels", [3, 5, 7])
def test_swinunetr_takes_multiples_of_32_whatever_levels_say(levels: int) -> None:
    network = Network("swinunetr", 48, levels)
    assert network.multiple == 32
    assert size_for(network) == (64, 64, 32)


@pytest.mark.parametrize("levels", [3, 4])
def test_a_run_says_its_network_in_its_settings(levels: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", f"model.levels={levels}", "model.feature_size=4")
    assert network_of(str(run)) == Network("unet", 4, levels)


def test_of_a_file_the_tensors_tell(tmp_path: Path) -> None:
    torch.save(UNET_3.build().state_dict(), tmp_path / "unet.pt")
    assert network_of(str(tmp_path / "unet.pt")) == Network("unet", 2, 3)
    resenc = ResEncArchitecture((2, 4, 8), 1, 2, (1, 2, 2))
    torch.save(resenc.build().state_dict(), tmp_path / "resenc.pt")
    assert network_of(str(tmp_path / "resenc.pt")) == Network("resenc", 2, 3, "S")
    torch.save(swin(use_v2=True), tmp_path / "swin.pt")
    found = network_of(str(tmp_path / "swin.pt"))
    assert (found.backbone, found.feature_size, found.multiple) == ("swinunetr", 12, 32)


def swin(use_v2: bool) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = SwinUNETR(1, 3, feature_size=12, use_v2=use_v2).state_dict()
    return tensors


def test_weights_that_no_task_can_start_from_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in run.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(DataError, match="has no weights yet"):
        network_of(str(run))
    save_file({"a.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="does not tell its network"):
        network_of(str(tmp_path / "other.safetensors"))
    torch.save(swin(use_v2=False), tmp_path / "v1.pt")
    with pytest.raises(UsageError, match="SwinUNETR v1 of feature_size 12, and no task has such a network"):
        network_of(str(tmp_path / "v1.pt"))
    with pytest.raises(DataError):
        network_of(str(tmp_path / "none.safetensors"))
