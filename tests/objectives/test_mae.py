"""Cubes that are hidden, and a network that fills them in; the trivial solution is the mean of the visible voxels."""

from __future__ import annotations

import json
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.objectives.voco.test_sampling import WHOLE, write_volume
from tests.pretrain.tiny_run import At, tiny_run, write_data
from tests.training.made_job import numbers, state, weights
from voco_cli.config import Settings, load_settings
from voco_cli.config.objective_schema import MaeOptions, cube_edge
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.errors import Interrupted, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.unet import UNetEncoder
from voco_cli.objectives.mae import (
    MaskedAutoencoder,
    MaskedBatch,
    by_cube,
    draw_hidden,
    hidden_errors,
    of_voxels,
    reconstruction_loss,
)
from voco_cli.objectives.objective import Case, ImageGrid

CPU = torch.device("cpu")
ONLY = ("objective.voco.weight=0", "objective.mae.weight=1")
PLAIN = ("augment.flip_prob=0", "augment.rotate_prob=0", "augment.shift_prob=0")


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*ONLY, *PLAIN, "model.levels=3", *overrides)).settings


def objective_of(*overrides: str) -> MaskedAutoencoder:
    settings = settings_of(*overrides)
    torch.manual_seed(0)
    return MaskedAutoencoder(settings, build_encoder(settings.model))


def batch_of(objective: MaskedAutoencoder, crops: int = 2) -> MaskedBatch:
    """Crops of noise, hidden as the settings have it."""
    sampler, generator = objective.sampler, np.random.default_rng(3)
    stored = generator.integers(0, 255, (crops, *sampler.size_vox), dtype=np.uint8)
    hidden = draw_hidden(generator, crops, sampler.cubes, sampler.num_hidden)
    still = torch.zeros(crops, 3, dtype=torch.bool), torch.zeros(crops, dtype=torch.int64), torch.zeros(crops)
    return MaskedBatch(torch.from_numpy(stored), torch.from_numpy(hidden), *still)


def literal_loss(
    predicted: NDArray[np.float64], crops: NDArray[np.float64], hidden: NDArray[np.bool_], options: MaeOptions
) -> float:
    """The loss, cube by cube and voxel by voxel."""
    edge = crops.shape[1] // hidden.shape[1]
    errors = []
    for number, *cube in product(range(len(crops)), *map(range, hidden.shape[1:])):
        box = (number, *(slice(edge * one, edge * (one + 1)) for one in cube))
        target = crops[box]
        if options.normalise_cubes:
            target = (target - target.mean()) / np.sqrt(target.var() + 1e-6)
        for one, other in zip(predicted[box].ravel(), target.ravel(), strict=True):
            if hidden[(number, *cube)] or options.loss_over == "all":
                errors.append((one - other) ** 2 if options.loss == "l2" else abs(one - other))
    return sum(errors) / len(errors)


@pytest.mark.parametrize("loss", ["l2", "l1"])
@pytest.mark.parametrize("loss_over", ["hidden", "all"])
@pytest.mark.parametrize("normalise_cubes", [False, True])
def test_the_loss_is_that_of_a_slow_plain_version(loss: str, loss_over: str, normalise_cubes: bool) -> None:
    generator = np.random.default_rng(0)
    predicted, crops = generator.random((2, 2, 8, 12, 4))
    hidden = generator.random((2, 2, 3, 1)) < 0.5
    options = MaeOptions.model_validate({"loss": loss, "loss_over": loss_over, "normalise_cubes": normalise_cubes})
    found = reconstruction_loss(torch.tensor(predicted), torch.tensor(crops), torch.tensor(hidden), options)
    assert float(found) == pytest.approx(literal_loss(predicted, crops, hidden, options), rel=1e-5)


def test_the_loss_is_nnssls() -> None:
    """Blocks drawn at their size and blown up; sum of squares times the mask of hidden voxels, over its sum."""
    torch.manual_seed(0)
    x, prediction = torch.rand(2, 2, 1, 32, 32, 48).unbind()
    keep = torch.ones(2, 1, 2, 2, 3)
    for one in keep:
        one.view(-1)[torch.randperm(12)[: int(0.75 * 12)]] = 0
    mask = keep.repeat_interleave(16, 2).repeat_interleave(16, 3).repeat_interleave(16, 4)
    expected = ((prediction - x) ** 2 * (1 - mask)).sum() / (1 - mask).sum()
    found = reconstruction_loss(prediction[:, 0], x[:, 0], keep[:, 0] == 0, MaeOptions())
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_loss_by_hand() -> None:
    """Two cubes of one crop, 0 and 1; the second is hidden, and predicted as 0.25."""
    crops = torch.cat([torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)], dim=1)
    hidden = torch.tensor([False, True]).view(1, 2, 1, 1)
    predicted = torch.full((1, 4, 2, 2), 0.25)

    def loss(**options: str) -> float:
        return float(reconstruction_loss(predicted, crops, hidden, MaeOptions.model_validate(options)))

    assert loss() == 0.75**2
    assert loss(loss="l1") == 0.75
    assert loss(loss_over="all") == (0.25**2 + 0.75**2) / 2
    assert loss(loss="l1", loss_over="all") == 0.5
    own, trivial = hidden_errors(predicted, crops, hidden, MaeOptions()).tolist()
    assert (own, trivial) == (0.75**2, 1.0)  # the visible cube's mean is 0


def test_normalised_cubes_are_held_against_their_mean() -> None:
    """It is 0, and their variance 1, so that predicting 0 has the error 1."""
    crops = torch.rand(3, 8, 8, 8)
    hidden = torch.rand(3, 2, 2, 2) < 0.5
    errors = hidden_errors(torch.zeros_like(crops), crops, hidden, MaeOptions(normalise_cubes=True))
    assert errors.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_exactly_the_share_is_hidden_and_every_cube_as_often() -> None:
    hidden = draw_hidden(np.random.default_rng(0), 4000, (3, 3, 2), 13)
    assert (hidden.sum((1, 2, 3)) == 13).all()
    assert hidden.mean(0) == pytest.approx(13 / 18, abs=0.04)
    assert objective_of("objective.mae.cube_vox=3").sampler.num_hidden == 162  # 0.75 of 6^3
    assert objective_of("objective.mae.share=0.6").sampler.num_hidden == 16  # of 3^3, rounded down


def test_a_cube_is_where_its_voxels_are() -> None:
    values = torch.arange(4 * 6 * 2).view(1, 4, 6, 2)
    cubes = by_cube(values, 2)
    assert cubes.shape == (1, 2, 2, 3, 2, 1, 2)
    assert cubes[0, 1, 0, 2, 1, 0, 1] == values[0, 2, 5, 1]
    spread = of_voxels(torch.arange(6).view(1, 2, 3, 1), 2)
    assert spread.shape == (1, 4, 6, 2)
    assert all(spread[0, x, y, z] == 3 * (x // 2) + y // 2 for x in range(4) for y in range(6) for z in range(2))


def test_draws_replay_and_differ_by_step_and_case(tmp_path: Path) -> None:
    stored = write_volume(tmp_path / "one.b2nd", (31, 29, 20), WHOLE)
    volume = StoredVolume(tmp_path / "one.b2nd")
    sampler = MaskedAutoencoder(settings_of("augment.flip_prob=0.5"), UNetEncoder(1, 8, 3)).sampler
    drawn = sampler.draw(Case("one", volume), 5)
    others = [sampler.draw(case, step) for case, step in ((Case("one", volume), 6), (Case("two", volume), 5))]
    again = sampler.draw(Case("one", volume), 5)
    for one, same in zip((*drawn[:2], *vars(drawn[2]).values()), (*again[:2], *vars(again[2]).values()), strict=True):
        np.testing.assert_array_equal(one, same)
    for other in others:
        assert not np.array_equal(drawn.hidden_SABC, other.hidden_SABC)
        assert not np.array_equal(drawn.crops_SXYZ, other.crops_SXYZ)
    windows = np.lib.stride_tricks.sliding_window_view(stored, (18, 18, 18))
    assert all((windows == crop).all((3, 4, 5)).any() for crop in drawn.crops_SXYZ)
    assert (drawn.hidden_SABC.sum((1, 2, 3)) == 20).all()


class Seen(nn.Module):
    """An encoder that keeps what it was given."""

    out_features, map_widths = 1, (1,)

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        self.given = crops_N1XYZ
        return [crops_N1XYZ]


@pytest.mark.parametrize("token", ["learned", "zero"])
def test_the_network_sees_what_is_visible_and_a_token_elsewhere(token: str) -> None:
    seen = Seen()
    objective = MaskedAutoencoder(settings_of(f"objective.mae.token={token}"), seen)
    nn.init.constant_(objective.tokens[0], 0.5 if token == "learned" else 0.0)
    batch = batch_of(objective)
    crops, hidden = objective.prepare(batch, CPU)
    terms = objective(crops, hidden)
    voxels = of_voxels(hidden, 6)[:, None]
    torch.testing.assert_close(crops[:, 0], batch.crops_NXYZ / 255)
    assert torch.equal(seen.given[~voxels], crops[~voxels])
    assert bool((seen.given[voxels] == (0.5 if token == "learned" else 0.0)).all())
    terms["loss"].backward()
    given = objective.tokens[0].grad
    assert (given is not None and float(given.abs()) > 0) is (token == "learned")


def test_what_is_hidden_has_no_influence_on_what_sparse_masking_sees() -> None:
    """Exactly: the same bits, whatever stands in hidden voxels; and the visible ones do matter."""
    torch.manual_seed(0)
    encoder = UNetEncoder(1, 4, 4)
    crops = torch.rand(2, 1, 24, 24, 24)
    hidden = of_voxels(torch.from_numpy(draw_hidden(np.random.default_rng(0), 2, (3, 3, 3), 20)), 8)[:, None]
    visible = (~hidden).float()
    levels, masks = encoder.visible_maps(crops, visible)
    others, _ = encoder.visible_maps(torch.where(hidden, 1000 * torch.randn(2, 1, 24, 24, 24), crops), visible)
    changed, _ = encoder.visible_maps(torch.where(hidden, crops, 1 - crops), visible)
    for level, other, new, mask in zip(levels, others, changed, masks, strict=True):
        assert torch.equal(level, other)
        assert not torch.equal(level, new)
        assert mask.shape[2:] == level.shape[2:]
        assert bool((level * (1 - mask) == 0).all())
        assert float(mask.mean()) == pytest.approx(7 / 27)  # cubes of 8 voxels are whole at every level
    ordinary = encoder.feature_maps(crops)
    others = encoder.feature_maps(torch.where(hidden, 0.5, crops))
    assert not any(torch.equal(one, other) for one, other in zip(ordinary, others, strict=True))


def test_sparse_masking_of_nothing_is_the_ordinary_encoder() -> None:
    torch.manual_seed(0)
    encoder = UNetEncoder(1, 4, 4).double()
    crops = torch.rand(2, 1, 18, 20, 17, dtype=torch.float64)
    levels, _ = encoder.visible_maps(crops, torch.ones_like(crops))
    for level, ordinary in zip(levels, encoder.feature_maps(crops), strict=True):
        torch.testing.assert_close(level, ordinary)


def test_norms_of_sparse_masking_are_of_visible_voxels() -> None:
    """Before the affine step each channel of the visible voxels has mean 0 and variance 1, by a loop over them."""
    torch.manual_seed(0)
    encoder = UNetEncoder(1, 3, 3).double()
    crops = torch.rand(1, 1, 8, 8, 8, dtype=torch.float64)
    visible = of_voxels(torch.tensor([1, 0, 0, 1, 0, 0, 1, 0]).view(1, 2, 2, 2), 4)[:, None].double()
    (first, *_), _ = encoder.visible_maps(crops, visible)
    block: nn.Module = encoder.input_block
    x = crops * visible
    for conv, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2)):
        assert callable(conv)
        x = conv(x) * visible
        for channel in x[0]:
            there = channel[visible[0, 0] == 1]
            channel.data[visible[0, 0] == 1] = (there - there.mean()) / (there.var(correction=0) + 1e-5).sqrt()
        x = nn.functional.leaky_relu(x, 0.01)
        assert bool((norm.weight == 1).all())
    torch.testing.assert_close(first, x)


def test_tokens_of_sparse_masking_stand_where_nothing_is_visible() -> None:
    objective = objective_of("objective.mae.masking=sparse", "objective.mae.cube_vox=6", "crops.size=24x24x18")
    for number, token in enumerate(objective.tokens):
        nn.init.constant_(token, number + 1.0)
    given: list[list[Tensor]] = []
    objective.reconstruct.register_forward_pre_hook(lambda module, levels: given.append(levels[0]))
    crops, hidden = objective.prepare(batch_of(objective), CPU)
    objective(crops, hidden)["loss"].backward()
    levels, masks = objective.encoder.visible_maps(crops, (~of_voxels(hidden, 6)[:, None]).float())  # type: ignore[operator]
    for number, (filled, level, mask) in enumerate(zip(given[0], levels, masks, strict=True)):
        assert bool((filled[(mask == 0).expand_as(filled)] == number + 1).all())
        there = (mask == 1).expand_as(filled)
        assert torch.equal(filled[there], level[there])
    assert all(token.grad is not None for token in objective.tokens)


@pytest.mark.parametrize("masking", ["input", "sparse"])
@pytest.mark.parametrize("decoder", ["light", "segmentation"])
def test_groups_and_recomputing_change_no_gradient(masking: str, decoder: str) -> None:
    objective = objective_of(
        f"objective.mae.masking={masking}", f"objective.mae.decoder={decoder}", "crops.size=24x24x16"
    ).double()
    crops, hidden = objective.prepare(batch_of(objective, 3), CPU)
    found = []
    for grouping in ((None, False), (2, True)):
        objective.set_grouping(*grouping)
        objective.zero_grad()
        objective(crops.double(), hidden)["loss"].backward()
        found.append([p.grad.clone() for p in objective.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_predicting_the_visible_mean_has_the_figures_of_chance(tmp_path: Path) -> None:
    stored = write_volume(tmp_path / "one.b2nd", (18, 18, 18), WHOLE)
    objective = objective_of("health.crops_per_case=3")
    objective.hold_out([Case("one", StoredVolume(tmp_path / "one.b2nd"))])
    hidden = of_voxels(objective.held_out[0][1].hidden_NABC, 6).numpy()
    values = stored / 255.0
    means = [values[~one].mean() for one in hidden]
    predicted = torch.tensor(means, dtype=torch.float32).view(3, 1, 1, 1).expand(3, 18, 18, 18)
    objective.predict = lambda *inputs: predicted  # type: ignore[method-assign]
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    error = np.mean([(values[one] - mean) ** 2 for one, mean in zip(hidden, means, strict=True)])
    assert found.figures == {"error_ratio": pytest.approx(1.0), "hidden_error": pytest.approx(error, rel=1e-5)}
    assert objective.figure_infos["error_ratio"].chance == 1.0


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_the_picture_shows_what_was_seen_what_was_made_of_it_and_the_error(tmp_path: Path, normalise: str) -> None:
    stored = write_volume(tmp_path / "one.b2nd", (18, 18, 18), WHOLE)
    objective = objective_of(f"objective.mae.normalise_cubes={normalise}")
    objective.hold_out([Case("one", StoredVolume(tmp_path / "one.b2nd"))])
    objective.predict = lambda crops, hidden: torch.zeros(crops[:, 0].shape)  # type: ignore[method-assign]
    found = objective.validate(CPU, nullcontext, at_start=False)
    assert found is not None
    picture = found.picture
    assert isinstance(picture, ImageGrid)
    assert (len(picture.columns), picture.captions) == (4, ["one"])
    whole, masked, filled, error = picture.rows[0]
    hidden = of_voxels(objective.held_out[0][1].hidden_NABC[:1], 6)[0, :, :, 9].numpy()
    np.testing.assert_allclose(whole, stored[:, :, 9] / 255, rtol=1e-6)
    np.testing.assert_array_equal(masked, np.where(hidden, 0, whole))
    cubes = (stored / 255).reshape(3, 6, 3, 6, 3, 6).mean((1, 3, 5)).repeat(6, 0).repeat(6, 1)[:, :, 1]
    expected = np.where(hidden, cubes if normalise == "true" else 0, whole)
    np.testing.assert_allclose(filled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(error, np.abs(expected - whole), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "status", "words"),
    [(0.6, "learned", "Learned to fill in what is hidden: "), (0.9, "not yet", "Not yet: ")],
)
def test_the_verdict(ratio: float, status: str, words: str) -> None:
    verdict = objective_of().verdict({"error_ratio": 6.5}, {"error_ratio": ratio})
    assert verdict.status == status
    assert verdict.sentence.startswith(words)
    assert f"is {ratio:.2f} of that of the visible voxels' mean (step 0: 6.50)" in verdict.sentence


@pytest.mark.parametrize(
    ("size", "edge"),
    [
        ((96, 96, 96), 16),
        ((64, 64, 64), 16),
        ((48, 48, 48), 16),
        ((24, 24, 24), 8),
        ((18, 18, 18), 6),
        ((96, 96, 24), 8),
    ],
)
def test_cubes_have_16_voxels_an_edge_where_crops_allow_it(size: tuple[int, int, int], edge: int) -> None:
    assert cube_edge("auto", size) == edge
    assert cube_edge(4, size) == 4


REACHED = "crops that reach the network as 18x18x18"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("objective.mae.cube_vox=32", f"objective.mae.cube_vox 32 is larger than {REACHED}, where 6 would do"),
        ("objective.mae.cube_vox=4", f"objective.mae.cube_vox 4 does not divide {REACHED}, where 6 would do"),
        ("objective.mae.share=0.01", "objective.mae.share 0.01 hides none of the 27 cubes of a crop"),
        ("objective.mae.decoder=segmentation", "in multiples of 4 voxels (unet), not as 18x18x18"),
        ("crops.size=17x17x17", "cube_vox auto finds no cubes that tile crops that reach the network as 17x17x17"),
    ],
)
def test_what_cannot_be_masked_is_refused_in_a_sentence(override: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(override)
    assert said in caught.value.message


def test_sparse_masking_is_refused_for_a_network_that_mixes_all_voxels() -> None:
    swin = ("model.backbone=swinunetr", "model.feature_size=12", "crops.size=64x32x32", "preprocess.resize_vox=null")
    with pytest.raises(UsageError) as caught:
        settings_of("objective.mae.masking=sparse", *swin)
    assert "objective.mae.masking sparse needs a network that can leave voxels out (unet), not swinunetr" in str(
        caught.value.message
    )


RUN = (*ONLY, "model.levels=3", "objective.mae.cube_vox=8", "augment.flip_prob=0.5")


@pytest.mark.parametrize("masking", ["input", "sparse"])
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path, masking: str) -> None:
    more = (*RUN, f"objective.mae.masking={masking}", "objective.mae.decoder=segmentation")
    data = write_data(tmp_path / "data", 4, 2)
    whole = tiny_run(data, tmp_path / "whole", *more)
    assert set(whole.end) == {"error_ratio", "hidden_error"}
    assert whole.verdict is not None
    assert (tmp_path / "whole" / "figures" / "validation" / "step-000012.png").is_file()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *more, callback=At(advanced=6, then=stop))
    tiny_run(data, tmp_path / "parts", *more)
    assert state(tmp_path / "parts")["status"] == "done"
    assert weights(tmp_path / "parts", 12) == weights(tmp_path / "whole", 12)
    assert numbers(tmp_path / "parts")[-1] == numbers(tmp_path / "whole")[-1]


TWO_STEPS = ("train.steps=2", "train.validate_every=2", "train.checkpoint_every=2")


def test_a_segmentation_decoder_is_taken_over_by_a_fine_tuning_and_a_light_one_is_not(tmp_path: Path) -> None:
    data, task = write_data(tmp_path / "data", 2, 1), make_data(tmp_path / "task")
    files = {}
    for decoder in ("light", "segmentation"):
        run = tmp_path / decoder
        tiny_run(data, run, *RUN, *TWO_STEPS, f"objective.mae.decoder={decoder}")
        files[decoder] = sorted(path.name for path in (run / "weights").glob("*.safetensors"))
        start = f"model.weights={run}"
        tiny_finetune(task, tmp_path / f"tuned {decoder}", *TWO_STEPS, start)
    tiny_finetune(task, tmp_path / "tuned encoder", *TWO_STEPS, start, "model.transfer=encoder")
    assert files == {"light": ["encoder.safetensors"], "segmentation": ["encoder.safetensors", "model.safetensors"]}

    def loaded(name: str) -> tuple[float, float, list[str]]:
        report = json.loads((tmp_path / name / "weights_report.json").read_text())
        parts = report["parts"]
        return parts["encoder blocks"]["share"], parts["decoder"]["share"], report["reinitialised"]

    assert loaded("tuned light") == loaded("tuned encoder") == (1.0, 0.0, [])
    encoder, decoder_share, fresh = loaded("tuned segmentation")
    assert (encoder, fresh) == (1.0, ["output_block.conv.conv.weight", "output_block.conv.conv.bias"])
    assert decoder_share > 0.9
