"""Which held-out crops are drawn, and that the picture is of the figures that are reported."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tests.pretrain.tiny_run import TINY, write_data
from voco_cli.config import load_settings
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.trained_on import Seen
from voco_cli.errors import ResourceError
from voco_cli.objectives.objective import Case
from voco_cli.objectives.voco.objective import LocatedCrops, VocoObjective, spread
from voco_cli.pretrain.task import PretrainingTask, build_model
from voco_cli.training.distributed import device_alone
from voco_cli.training.task import DeviceContext


@pytest.mark.parametrize(
    ("cases", "crops", "shown"),
    [
        (12, 12, [(0, 0), (2, 0), (4, 0), (6, 0), (8, 0), (10, 0)]),
        (1, 12, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]),
        (4, 2, [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0)]),
        (2, 1, [(0, 0), (1, 0)]),
        (1, 2, [(0, 0), (0, 1)]),
    ],
)
def test_crops_are_spread_over_the_cases(cases: int, crops: int, shown: list[tuple[int, int]]) -> None:
    assert spread(cases, crops, 6) == shown


def job_of(folder: Path, process: int = 0, held_out: int = 2) -> PretrainingTask:
    """A job that is about to be looked at."""
    data = write_data(folder / "data", 2, held_out)
    settings = load_settings("debug", None, TINY, {"data.file": data}).settings
    entries = read_datalist(data)
    cache = VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache)
    cache.build([*entries.training, *entries.validation])
    training, looked_at = (
        [Case(entry.image.name, volume) for entry in split if (volume := cache.lookup(entry)) is not None]
        for split in (entries.training, entries.validation)
    )
    device, autocast = device_alone(settings.run)
    pictures = folder / "run" / "figures" / "validation"
    job = PretrainingTask(settings, build_model(settings, device), training, looked_at, Seen, pictures)
    job.start(DeviceContext(device, process, 1, autocast))
    (folder / "run").mkdir()
    return job


def test_the_picture_is_of_the_figures(tmp_path: Path) -> None:
    """All crops are shown here; the labels and ranks of the picture give the figures again."""
    job = job_of(tmp_path)
    voco = job.objective
    assert isinstance(voco, VocoObjective)
    assert voco.held_out is not None
    found = voco.validate(job.here.device, job.here.autocast, at_start=False)
    assert found is not None
    picture = found.picture
    assert isinstance(picture, LocatedCrops)
    assert (picture.grid_xyz, len(picture.crops)) == ((2, 2, 1), 6)
    assert [crop.scan for crop in picture.crops] == ["phantom_001_0002_0000.nii.gz"] * 3 + [
        "phantom_001_0003_0000.nii.gz"
    ] * 3
    labels = voco.held_out.labels_VSK
    second = picture.crops[4]  # crop 1 of the second scan
    np.testing.assert_array_equal(second.label_K, labels[1, 1].float())
    stored = voco.held_out.random[1][1].numpy()
    np.testing.assert_allclose(second.slice_XY, stored[:, :, 12] / 255, rtol=1e-6)
    assert second.pixel_mm == voco.held_out.cases[1].volume.metadata.record.spacing_mm[:2]
    for crop in picture.crops:
        above = (crop.logits_K > crop.logits_K[crop.label_K.argmax()]).sum()
        assert crop.rank >= above  # equal logits, all 0 below the ReLU, are told apart by their cosines
    everything = voco.held_out.located(torch.zeros_like(labels), torch.full(labels.shape[:2], found.figures["rank"]))
    assert everything.crops[0].rank == pytest.approx(found.figures["rank"])


def test_looking_draws_and_changes_no_random_number(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    weights = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    first = job.validate(6)
    assert job.validate(6) == first
    assert [path.name for path in (tmp_path / "run" / "figures" / "validation").iterdir()] == ["step-000006.png"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert all(torch.equal(weights[name], tensor) for name, tensor in job.model.state_dict().items())


def test_other_processes_and_runs_without_held_out_scans_draw_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path / "other", process=1)
    assert job.validate(0)
    alone = job_of(tmp_path / "alone", held_out=0)
    assert alone.validate(0) == {}
    assert not list(tmp_path.rglob("*.png"))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(ResourceError, match=r"The disk of .*run is full: the picture of step 6 could not be written"):
        job.validate(6)
    assert not list((tmp_path / "run" / "figures" / "validation").iterdir())
