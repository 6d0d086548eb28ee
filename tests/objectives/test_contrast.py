"""Pairs of views that overlap, the loss that finds partners, and figures of guessing."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.objectives.voco.test_sampling import WHOLE, write_volume
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.errors import UsageError
from voco_cli.objectives.contrast import ViewContrast, contrast_logits, draw_pairs, nt_xent
from voco_cli.objectives.objective import Case, ImageGrid

CPU = torch.device("cpu")
Negatives = Literal["across", "within", "both"]
ALONE = ("objective.voco.weight=0", "objective.contrast.weight=1", "crops.size=18x18x18", "health.crops_per_case=3")
PLAIN = tuple(f"objective.contrast.{one}_prob=0" for one in ("gamma", "blur", "low_res", "noise"))


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*ALONE, *overrides)).settings


class Octants(nn.Module):
    """Features of a crop: the means of its eight octants."""

    out_features = 8

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool3d(crops_N1XYZ, 2).flatten(1)


def case_of(folder: Path, name: str = "one", seed: int = 0) -> tuple[Case, np.ndarray]:
    path = folder / f"{name}.b2nd"
    stored = write_volume(path, (31, 29, 20), WHOLE, seed)
    return Case(name, StoredVolume(path)), stored


@pytest.mark.parametrize(("least", "apart"), [(0.5, (9, 10, 2)), (0.75, (4, 5, 2)), (1.0, (0, 0, 0))])
def test_views_overlap_by_the_least_share_of_each_edge(least: float, apart: tuple[int, int, int]) -> None:
    """Edges of 18, 21 and 18 voxels; the volume leaves 2 voxels of room along z. All distances occur, none is more."""
    starts = draw_pairs(np.random.default_rng(0), (60, 61, 20), (18, 21, 18), 2000, least)
    assert starts.shape == (2000, 2, 3)
    assert starts.min() == 0
    assert starts.max((0, 1)).tolist() == [42, 40, 2]
    distance = np.abs(starts[:, 0] - starts[:, 1])
    assert distance.max(0).tolist() == list(apart)
    assert set(distance[:, 0].tolist()) == set(range(apart[0] + 1))


def test_views_are_voxels_of_the_volume_and_the_same_in_every_process(tmp_path: Path) -> None:
    case, stored = case_of(tmp_path)
    sampler = ViewContrast(settings_of("augment.flip_prob=0.5"), Octants()).sampler
    drawn, again = sampler.draw(case, 5), sampler.draw(case, 5)
    np.testing.assert_array_equal(drawn.crops_RXYZ, again.crops_RXYZ)
    assert all(torch.equal(one, other) for one, other in zip(drawn.draws, again.draws, strict=True))
    assert drawn.crops_RXYZ.shape == (8, 18, 18, 18)
    windows = np.lib.stride_tricks.sliding_window_view(stored, (18, 18, 18))
    assert all((windows == crop).all((3, 4, 5)).any() for crop in drawn.crops_RXYZ)
    other = sampler.draw(case, 6)
    assert not np.array_equal(drawn.crops_RXYZ, other.crops_RXYZ)
    assert not torch.equal(drawn.draws.seeds_R, other.draws.seeds_R)


def test_changes_are_as_often_as_their_probability_and_within_their_range(tmp_path: Path) -> None:
    case, _ = case_of(tmp_path)
    objective = ViewContrast(settings_of("crops.random_per_volume=1000", "crops.size=17x17x17"), Octants())
    draws = objective.sampler.draw(case, 0).draws
    for values, idle, prob, low, high in (
        (draws.gammas_R, 1.0, 0.3, 1 / 1.5, 1.5),
        (draws.blur_sd_vox_R, 0.0, 0.2, 0.0, 1.0),
        (draws.zooms_R, 1.0, 0.25, 0.5, 1.0),
        (draws.noise_sd_R, 0.0, 0.3, 0.0, 0.1),
    ):
        changed = values[values != idle]
        assert len(changed) / 2000 == pytest.approx(prob, abs=0.04)
        assert (changed.min() >= low, changed.max() <= high) == (True, True)
        assert changed.min() < low + 0.05 * (high - low)
        assert changed.max() > high - 0.05 * (high - low)
    assert len(set(draws.seeds_R.tolist())) == 2000


def test_what_the_network_gets_is_the_same_again_and_without_changes_the_crop_itself(tmp_path: Path) -> None:
    case, _ = case_of(tmp_path)
    changed = ViewContrast(settings_of(*(one.replace("prob=0", "prob=1") for one in PLAIN)), Octants())
    batch = changed.sampler.collate([changed.sampler.draw(case, 2), changed.sampler.draw(case, 3)])
    (views, scans), (again, _) = changed.prepare(batch, CPU), changed.prepare(batch, CPU)
    assert torch.equal(views, again)
    assert scans.tolist() == [0] * 8 + [1] * 8
    plain = ViewContrast(settings_of(*PLAIN, "augment.shift_prob=0"), Octants())
    batch = plain.sampler.collate([plain.sampler.draw(case, 2)])
    torch.testing.assert_close(plain.prepare(batch, CPU)[0][:, 0], batch.crops_RXYZ / 255)


def literal_loss(rows: list[list[float]], scans: list[int], negatives: Negatives, temperature: float) -> float:
    """Return NT-Xent one view after the other."""

    def cos(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    losses = []
    for i, row in enumerate(rows):
        partner = i + 1 if i % 2 == 0 else i - 1
        total = 0.0
        for k, other in enumerate(rows):
            wanted = {"across": scans[k] != scans[i], "within": scans[k] == scans[i], "both": True}[negatives]
            if k == partner or (wanted and k != i):
                total += math.exp(cos(row, other) / temperature)
        losses.append(-math.log(math.exp(cos(row, rows[partner]) / temperature) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.5, 0.07])
@pytest.mark.parametrize("negatives", ["across", "within", "both"])
def test_the_loss_is_that_of_the_plain_formula(negatives: Negatives, temperature: float) -> None:
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    scans = torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    found = nt_xent(contrast_logits(rows, scans, negatives, temperature)).item()
    assert found == pytest.approx(literal_loss(rows.tolist(), scans.tolist(), negatives, temperature), rel=1e-5)


def test_the_loss_by_hand() -> None:
    """Partners are alike, places at right angles: cosines 1 and 0, divided by 0.5, among two, one and two others."""
    rows = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 1, 0], [0, 0, 1], [0, 0, 4]])
    scans = torch.tensor([0, 0, 0, 0, 1, 1])
    two, four = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(math.e**2 / (math.e**2 + 4))
    for negatives, expected in (("across", (4 * two + 2 * four) / 6), ("within", 4 * two / 6), ("both", four)):
        assert nt_xent(contrast_logits(rows, scans, negatives, 0.5)).item() == pytest.approx(expected)


def test_the_loss_of_a_step_is_that_of_its_projected_features(tmp_path: Path) -> None:
    cases = [case_of(tmp_path, name, seed)[0] for seed, name in enumerate(("one", "two"))]
    torch.manual_seed(0)
    objective = ViewContrast(settings_of(), Octants())
    inputs = objective.prepare(objective.sampler.collate([objective.sampler.draw(case, 1) for case in cases]), CPU)
    terms = objective(*inputs)
    rows = objective.projector(Octants()(inputs[0])).tolist()
    assert terms["loss"].item() == pytest.approx(literal_loss(rows, inputs[1].tolist(), "across", 0.5), rel=1e-4)
    terms["loss"].backward()
    assert all(float(one.grad.abs().sum()) > 0 for one in objective.projector.parameters() if one.ndim > 1)


@pytest.mark.parametrize(("negatives", "choices"), [("across", 7), ("within", 5), ("both", 11)])
def test_guessing_has_the_figures_of_chance(negatives: Negatives, choices: int, tmp_path: Path) -> None:
    """Two scans of three pairs, whose embeddings are all of zeros: every choice is as likely."""
    objective = ViewContrast(settings_of(f"objective.contrast.negatives={negatives}"), Octants())
    nn.init.zeros_(objective.projector[-1].weight)
    nn.init.zeros_(objective.projector[-1].bias)
    objective.hold_out([case_of(tmp_path, name, seed)[0] for seed, name in enumerate(("one", "two"))])
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    assert found.figures["cross_entropy"] == pytest.approx(math.log(choices))
    infos = objective.figure_infos
    assert infos["cross_entropy"].chance == pytest.approx(math.log(choices))
    assert infos["accuracy"].chance == pytest.approx(1 / choices)
    assert found.figures["negative_cosine"] == pytest.approx(0, abs=1e-6)
    picture = found.picture
    assert isinstance(picture, ImageGrid)
    assert (len(picture.rows), len(picture.rows[0]), len(picture.captions)) == (2, 3, 2)
    assert picture.rows[0][2].shape == (3, 2)
    assert np.allclose(picture.rows[0][2], 0.5)


def test_a_network_that_knows_places_finds_every_partner(tmp_path: Path) -> None:
    """Views that are equal, as the overlap is whole and nothing is changed, have equal embeddings."""
    objective = ViewContrast(settings_of(*PLAIN, "augment.shift_prob=0", "objective.contrast.min_overlap=1"), Octants())
    objective.hold_out([case_of(tmp_path, name, seed)[0] for seed, name in enumerate(("one", "two"))])
    found = objective.validate(CPU, nullcontext, at_start=False)
    assert found is not None
    assert (found.figures["accuracy"], found.figures["error"]) == (1, 0)
    assert found.picture.captions == ["partner found, row 1: one", "partner found, row 2: two"]


@pytest.mark.parametrize(
    ("scans", "accuracy", "negative_cosine", "status", "words"),
    [
        (2, 0.6, 0.1, "learned", "Learned to tell views: "),
        (2, 0.4, 0.1, "not yet", "Not yet: "),
        (2, 0.6, 0.95, "collapsed", "Collapsed: views of different places look alike (mean cosine 0.95), and "),
        (1, 1.0, 0.0, "not yet", "Not yet: "),
    ],
)
def test_the_verdict(
    scans: int, accuracy: float, negative_cosine: float, status: str, words: str, tmp_path: Path
) -> None:
    """Of a single scan no view can be told from those of others."""
    objective = ViewContrast(settings_of(), Octants())
    objective.hold_out([case_of(tmp_path, name)[0] for name in ("one", "two")][:scans])
    verdict = objective.verdict({"accuracy": 0.2}, {"accuracy": accuracy, "negative_cosine": negative_cosine})
    assert verdict.status == status
    assert verdict.sentence.startswith(words)
    counts = "2 held-out scans (6 pairs)" if scans == 2 else "1 held-out scan (3 pairs)"
    choices, guessing = ("7", "14.3%") if scans == 2 else ("1", "100.0%")
    assert (
        f"on {counts} the partner of {accuracy:.0%} of views is found among {choices} (step 0: 20%, guessing: "
        f"{guessing})" in verdict.sentence
    )


@pytest.mark.parametrize(
    ("negatives", "scans", "views", "sentence"),
    [
        ("across", 1, 4, "across compares scans in a step, so train.batch_size must be at least 2"),
        ("within", 4, 1, "within compares views of a scan in a step, so crops.random_per_volume must be at least 2"),
        ("both", 1, 1, "both compares all views in a step, so train.batch_size or crops.random_per_volume must be at"),
    ],
)
def test_a_step_without_negatives_is_refused(negatives: Negatives, scans: int, views: int, sentence: str) -> None:
    wrong = (f"train.batch_size={scans}", f"crops.random_per_volume={views}")
    with pytest.raises(UsageError, match=f"objective.contrast.negatives {sentence}"):
        settings_of(f"objective.contrast.negatives={negatives}", *wrong)
