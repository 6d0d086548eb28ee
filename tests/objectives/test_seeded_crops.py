"""Crops with seeds, and boxes that lie inside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.objectives.voco.test_sampling import WHOLE, write_volume
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.objectives.objective import Case
from voco_cli.objectives.seeded_crops import SeededCropSampler, as_slices, draw_boxes


def test_crops_are_voxels_of_the_volume_and_the_same_in_every_process(tmp_path: Path) -> None:
    stored = write_volume(tmp_path / "one.b2nd", (31, 29, 20), WHOLE)
    case = Case("one", StoredVolume(tmp_path / "one.b2nd"))
    sampler = SeededCropSampler("made", 0, (18, 17, 16), 3)
    drawn, again = sampler.draw(case, 5), sampler.draw(case, 5)
    np.testing.assert_array_equal(drawn.crops_SXYZ, again.crops_SXYZ)
    np.testing.assert_array_equal(drawn.seeds_S, again.seeds_S)
    windows = np.lib.stride_tricks.sliding_window_view(stored, (18, 17, 16))
    assert all((windows == crop).all((3, 4, 5)).any() for crop in drawn.crops_SXYZ)
    others = [sampler.draw(case, 6), SeededCropSampler("other", 0, (18, 17, 16), 3).draw(case, 5)]
    seeds = {int(seed) for one in (drawn, *others) for seed in one.seeds_S}
    assert len(seeds) == 9
    batch = sampler.collate([drawn, others[0]])
    assert torch.equal(batch.crops_NXYZ[3:], torch.from_numpy(others[0].crops_SXYZ))
    assert batch.seeds_N.tolist() == [*drawn.seeds_S.tolist(), *others[0].seeds_S.tolist()]
    assert batch.per_volume == 3


def test_boxes_have_all_sizes_and_places_inside_the_crop() -> None:
    shape, least, most = (12, 9, 7), np.array([2, 1, 3]), np.array([4, 9, 3])
    boxes = draw_boxes(np.random.default_rng(0), shape, least, most, 3000)
    for axis in range(3):
        starts, sizes = boxes[:, 0, axis], boxes[:, 1, axis]
        assert set(sizes.tolist()) == set(range(least[axis], most[axis] + 1))
        assert starts.min() == 0
        assert (starts + sizes).max() == shape[axis]
    volume = np.arange(12 * 9 * 7).reshape(shape)
    (start, size), box = boxes[0], as_slices(boxes)[0]
    expected = volume[start[0] : start[0] + size[0], start[1] : start[1] + size[1], start[2] : start[2] + size[2]]
    np.testing.assert_array_equal(volume[box], expected)
