"""What makes crops unlike themselves, and the error of answers that need no learning."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.objectives.voco.test_sampling import WHOLE, write_volume
from voco_cli.config import Settings, load_settings
from voco_cli.config.objective_schema import GenesisOptions
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.objectives.genesis import ModelsGenesis, corrupt, intensity_map, paint, shuffle_boxes
from voco_cli.objectives.objective import Case, ImageGrid

CPU = torch.device("cpu")
ALONE = ("objective.voco.weight=0", "objective.genesis.weight=1", "model.feature_size=2", "health.crops_per_case=3")
NOTHING = GenesisOptions(flip_prob=0, shuffle_prob=0, intensity_prob=0, painting_prob=0)
LINE = torch.linspace(0, 1, 1021)


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*ALONE, *overrides)).settings


def genesis_of(*overrides: str) -> ModelsGenesis:
    settings = settings_of(*overrides)
    torch.manual_seed(0)
    return ModelsGenesis(settings, build_encoder(settings.model))


def case_of(folder: Path, name: str = "one", seed: int = 0) -> Case:
    path = folder / f"{name}.b2nd"
    write_volume(path, (31, 29, 20), WHOLE, seed)
    return Case(name, StoredVolume(path))


def only(**options: float) -> GenesisOptions:
    return NOTHING.model_copy(update=options)


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made_crop(*shape: int) -> Tensor:
    """All values differ."""
    count = int(np.prod(shape))
    return (torch.randperm(count, generator=noise(9)) / count).view(shape)


def test_the_same_seed_is_the_same_corruption_and_every_part_can_be_left_out() -> None:
    crop = made_crop(20, 18, 16)
    first, again, other = (corrupt(crop, seed, GenesisOptions())[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    corrupted, clean = corrupt(crop, 3, NOTHING)
    assert torch.equal(corrupted, crop)
    assert torch.equal(clean, crop)


def test_flips_are_of_both_and_as_often_as_their_probability() -> None:
    """One flip with 0.4, two with 0.4^2, three with 0.4^3; the same axis twice is back again."""
    crop = made_crop(3, 4, 5)
    moved = 0
    for seed in range(600):
        corrupted, clean = corrupt(crop, seed, only(flip_prob=0.4))
        assert torch.equal(corrupted, clean)
        found = [axes for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
                 if torch.equal(crop.flip(axes), clean)]  # fmt: skip
        assert len(found) == 1
        moved += found != [()]
    none = 0.6 + 0.4**2 * 0.6 / 3
    assert moved / 600 == pytest.approx(1 - none, abs=0.06)


def test_a_box_is_shuffled_and_the_rest_stays() -> None:
    crop = made_crop(6, 7, 8)
    shuffled = shuffle_boxes(crop, np.array([[[1, 2, 3], [3, 2, 4]]]), noise(0))
    box = (slice(1, 4), slice(2, 4), slice(3, 7))
    assert sorted(shuffled[box].flatten().tolist()) == sorted(crop[box].flatten().tolist())
    assert not torch.equal(shuffled[box], crop[box])
    assert int((shuffled != crop).sum()) <= 24
    outside = torch.ones(6, 7, 8, dtype=torch.bool)
    outside[box] = False
    assert torch.equal(shuffled[outside], crop[outside])


def test_every_order_is_as_likely() -> None:
    crop = torch.tensor([0.0, 1, 2]).view(3, 1, 1)
    boxes = np.array([[[0, 0, 0], [3, 1, 1]]])
    orders = [tuple(shuffle_boxes(crop, boxes, noise(seed)).flatten().tolist()) for seed in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert all(count == pytest.approx(200, abs=60) for count in counts)


def test_boxes_read_the_crop_as_it_was_and_the_later_is_seen() -> None:
    """Of two boxes the second hides a part of the first; each alone keeps its values, so the two have them together."""
    crop = made_crop(8, 1, 1)
    boxes = np.array([[[0, 0, 0], [6, 1, 1]], [[4, 0, 0], [4, 1, 1]]])
    for seed in range(50):
        shuffled = shuffle_boxes(crop, boxes, noise(seed)).flatten()
        assert set(shuffled[4:].tolist()) == set(crop[4:].flatten().tolist())
        assert set(shuffled[:4].tolist()) <= set(crop[:6].flatten().tolist())
        assert len(set(shuffled[:4].tolist())) == 4


def test_intensity_maps_by_hand() -> None:
    """Control points on the diagonal leave everything, or turn it round; y(1/2) = (0 + 3 y1 + 3 y2 + 1) / 8."""
    straight = np.array([[1 / 3, 1 / 3], [2 / 3, 2 / 3]])
    torch.testing.assert_close(intensity_map(straight, decreasing=False), LINE)
    torch.testing.assert_close(intensity_map(straight, decreasing=True), 1 - LINE)
    bent = intensity_map(np.array([[1 / 3, 0.1], [2 / 3, 0.2]]), decreasing=False)
    assert bent[510].item() == pytest.approx((3 * 0.1 + 3 * 0.2 + 1) / 8, abs=1e-5)


@pytest.mark.parametrize("points", [((1, 0), (0, 1)), ((0, 1), (1, 0)), ((1, 1), (0, 0)), ((0.9, 0.1), (0.2, 0.7))])
def test_intensity_maps_are_monotone_and_stay_between_0_and_1(points: tuple[tuple[float, float], ...]) -> None:
    for decreasing, sign in ((False, 1), (True, -1)):
        curve = intensity_map(np.array(points), decreasing=decreasing)
        assert (curve.min().item(), curve.max().item()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
        assert bool((sign * curve.diff() >= -1e-6).all())


def test_a_mapped_crop_keeps_or_turns_round_the_order_of_its_voxels() -> None:
    crop = torch.arange(256).view(4, 8, 8) / 255
    signs = set()
    for seed in range(20):
        steps = corrupt(crop, seed, only(intensity_prob=1))[0].flatten().diff()
        assert bool((steps >= -1e-6).all()) or bool((steps <= 1e-6).all())
        signs.add(bool(steps.sum() > 0))
    assert signs == {True, False}


def test_painting_puts_noise_inside_or_everywhere_else() -> None:
    crop = torch.full((10, 10, 10), 2.0)
    boxes = np.array([[[1, 2, 3], [3, 3, 3]], [[2, 2, 3], [3, 3, 3]]])
    inside = paint(crop, boxes, noise(0), inside=True) < 2
    assert int(inside.sum()) == 27 + 9
    assert bool(inside[1:5, 2:5, 3:6].all())
    assert torch.equal(paint(crop, boxes, noise(0), inside=False) < 2, ~inside)
    values = paint(crop, boxes, noise(0), inside=False)[~inside]
    assert (values.min().item() >= 0, values.max().item() < 1) == (True, True)
    assert values.mean().item() == pytest.approx(0.5, abs=0.05)


def test_how_much_is_painted() -> None:
    """In-painting: up to five boxes of 1/6 to 1/3 an edge; out-painting keeps one to five windows of 3/7 to 4/7."""
    crop = torch.full((42, 42, 42), 2.0)
    inner = [float((corrupt(crop, seed, only(painting_prob=1, inpainting_share=1))[0] < 2).float().mean())
             for seed in range(40)]  # fmt: skip
    outer = [float((corrupt(crop, seed, only(painting_prob=1, inpainting_share=0))[0] == 2).float().mean())
             for seed in range(40)]  # fmt: skip
    assert max(inner) <= 5 / 27
    assert min(outer) >= (3 / 7) ** 3 - 1e-6
    assert max(outer) <= 5 * (4 / 7) ** 3
    shares = [float((corrupt(crop, seed, only(painting_prob=0.9))[0] < 2).float().mean()) for seed in range(300)]
    assert np.mean([share == 0 for share in shares]) == pytest.approx(0.1, abs=0.06)
    assert np.mean([0 < share <= 5 / 27 for share in shares]) == pytest.approx(0.18, abs=0.07)


def test_the_loss_is_the_mean_of_squares_over_all_voxels(tmp_path: Path) -> None:
    objective = genesis_of()
    inputs = objective.prepare(objective.sampler.collate([objective.sampler.draw(case_of(tmp_path), 1)]), CPU)
    assert [tuple(one.shape) for one in inputs] == [(4, 1, 18, 18, 18)] * 2
    restored = objective.restored(inputs[0]).flatten().tolist()
    expected = sum((a - b) ** 2 for a, b in zip(restored, inputs[1].flatten().tolist(), strict=True)) / len(restored)
    terms = objective(*inputs)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    terms["loss"].backward()
    assert all(one.grad is not None and float(one.grad.abs().sum()) > 0 for one in objective.restorer.parameters())


def test_the_loss_by_hand() -> None:
    """Restored is 0.25 everywhere; the clean crop has halves of 0 and 1: (1/16 + 9/16) / 2."""
    objective = genesis_of()
    for one in objective.restorer.parameters():
        nn.init.zeros_(one)
    nn.init.constant_(objective.restorer.output.bias, 0.25)  # type: ignore[union-attr]
    clean = torch.zeros(2, 1, 18, 18, 18)
    clean[1] = 1
    assert objective(torch.rand(2, 1, 18, 18, 18), clean)["loss"].item() == pytest.approx(5 / 16)


class Handed(nn.Module):
    """An answer that needs no learning: the input itself, or 0.5."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.back = back

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0] if self.back else torch.full_like(maps[0], 0.5)


@pytest.mark.parametrize("back", [True, False])
def test_trivial_answers_have_their_figures(back: bool, tmp_path: Path) -> None:
    objective = genesis_of()
    objective.encoder.feature_maps = lambda crops: [crops]  # type: ignore[assignment]
    objective.restorer = Handed(back)
    objective.hold_out([case_of(tmp_path, name, seed) for seed, name in enumerate(("one", "two"))])
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    inputs = zip(*(objective.prepare(batch, CPU) for _, batch in objective.held_out), strict=True)
    corrupted, clean = (torch.cat(parts).double().numpy() for parts in inputs)
    input_mse, mean_mse = ((corrupted - clean) ** 2).mean(), clean.var((1, 2, 3, 4)).mean()
    assert found.figures["input_mse"] == pytest.approx(input_mse, rel=1e-4)
    assert found.figures["mean_mse"] == pytest.approx(mean_mse, rel=1e-4)
    mse = input_mse if back else ((clean - 0.5) ** 2).mean()
    assert found.figures["mse"] == pytest.approx(mse, rel=1e-4)
    assert found.figures["ratio"] == pytest.approx(mse / min(input_mse, mean_mse), rel=1e-4)
    assert objective.figure_infos["ratio"].chance == 1
    picture = found.picture
    assert isinstance(picture, ImageGrid)
    assert (len(picture.rows), len(picture.rows[0]), len(picture.captions)) == (2, 4, 2)
    np.testing.assert_allclose(picture.rows[1][0], clean[3, 0, :, :, 9], atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "status", "words"), [(0.4, "learned", "Learned to restore: "), (0.8, "not yet", "Not yet: ")]
)
def test_the_verdict(ratio: float, status: str, words: str, tmp_path: Path) -> None:
    objective = genesis_of()
    objective.hold_out([case_of(tmp_path)])
    now = {"ratio": ratio, "mse": 0.05 * ratio, "input_mse": 0.2, "mean_mse": 0.05}
    verdict = objective.verdict({"mse": 0.3}, now)
    assert verdict.status == status
    assert verdict.sentence.startswith(words)
    assert "on 1 held-out scan (3 crops)" in verdict.sentence
    assert f"is {0.05 * ratio:.4f} (step 0: 0.3000, the input handed back: 0.2000, each crop's mean: 0.0500)" in (
        verdict.sentence
    )


def test_the_decoder_that_a_segmenter_has_is_given_away_and_needs_crops_that_fit() -> None:
    assert genesis_of().decoder is None
    objective = genesis_of(
        "objective.genesis.decoder=segmentation", "crops.size=32x32x32", "preprocess.resize_vox=null"
    )
    assert objective.decoder is objective.restorer
    with pytest.raises(UsageError, match=r"objective.genesis.decoder segmentation needs crops .* not as 18x18x18"):
        settings_of("objective.genesis.decoder=segmentation")
