"""Crops of labelled cases: where they lie, what their voxels mean, and who stands in for a case without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from voco_cli.config.schema import Augment, Cache
from voco_cli.data.cache.volume import StoredVolume, compress
from voco_cli.data.case_labels import IGNORED, CaseLabels
from voco_cli.data.mixing import single_draws
from voco_cli.objectives.draws import counter_generator
from voco_cli.objectives.label_crops import LabelSampler, class_points, stand_in
from voco_cli.objectives.objective import Case

STILL = Augment(flip_prob=0, rotate_prob=0, shift_prob=0)
NAMES = ("a1", "a2", "a3", "b1")
SHAPE = (20, 18, 16)
# A liver (7) with a tumour (9) inside, and voxels that nobody annotated (5): classes liver, tumour, spleen.
LABELS = CaseLabels(complete=(0, 1), values=((7, (0,)), (9, (0, 1))), ignore=5)
OTHER = CaseLabels(complete=(2,), values=((1, (2,)),))


def labelled_case(folder: Path, name: str, labels: CaseLabels | None, seed: int = 0) -> Case:
    cache = Cache()
    image = np.random.default_rng(seed).integers(0, 250, SHAPE).astype(np.uint8)
    label = np.zeros(SHAPE, np.uint8)
    if labels is LABELS:
        label[4:10, 4:10, 4:10], label[6, 6, 6:8], label[0, :, :] = 7, 9, 5
    else:
        label[15:18, 12:15, 10:14] = 1
    for kind, array in (("image", image), ("label", label)):
        (folder / f"{name}-{kind}.b2nd").write_bytes(compress(array, cache).to_cframe())
    label_path = folder / f"{name}-label.b2nd" if labels else None
    return Case(name, StoredVolume(folder / f"{name}-image.b2nd", label_path), labels)


def sampler(*cases: Case, share: float = 1.0, augment: Augment = STILL) -> LabelSampler:
    return LabelSampler(3, (6, 6, 6), 4, 3, share, augment, cases)


def test_stand_ins_are_drawn_as_the_mix_asks(tmp_path: Path) -> None:
    """Of the sets a (3 scans) and b (1), each has half of 400 draws; in proportion b has a quarter."""
    cases = tuple(Case(name, labelled_case(tmp_path, name, LABELS).volume, LABELS, (), name[0]) for name in NAMES)
    shares = single_draws([case.set_name for case in cases], "equal")
    for given, expected in ((shares, 200), ((), 100)):
        drawn = [stand_in(cases, given, counter_generator(0, step, "x", "test")).set_name for step in range(400)]
        assert abs(drawn.count("b") - expected) < 30  # three standard deviations


def test_the_rows_of_voxels_say_which_classes_they_are_of(tmp_path: Path) -> None:
    case = labelled_case(tmp_path, "a", LABELS)
    drawn = sampler(case).draw(case, 5)
    assert drawn.members_RK.tolist() == [[False, False, False], [True, False, False], [True, True, False]]
    assert drawn.complete_K.tolist() == [True, True, False]
    values = case.volume.read_label((0, 0, 0), SHAPE)
    expected = {0: 0, 7: 1, 9: 2, 5: IGNORED}
    assert LABELS.rows(values).ravel().tolist() == [expected[value] for value in values.ravel().tolist()]


def test_crops_and_their_labels_lie_at_one_place_and_are_turned_alike(tmp_path: Path) -> None:
    case = labelled_case(tmp_path, "a", LABELS)
    # The image is the label map, so that a crop says what its rows should be.
    case = Case("a", StoredVolume(case.volume.label_path, case.volume.label_path), LABELS)  # type: ignore[arg-type]
    own = sampler(case, augment=Augment(flip_prob=0.5, rotate_prob=0.8, shift_prob=0))
    batch = own.collate([own.draw(case, 1), own.draw(case, 2)])
    assert batch.turns_N.any()
    assert batch.flips_N3.any()
    from voco_cli.objectives.augment import orient

    values = orient(batch.crops_NXYZ, batch.flips_N3, batch.turns_N).numpy()
    assert np.array_equal(LABELS.rows(values), batch.moved_rows(torch.device("cpu")).numpy())


def test_centred_crops_hold_a_voxel_of_a_class_each_as_often(tmp_path: Path) -> None:
    case = labelled_case(tmp_path, "a", LABELS)
    assert {index: len(places) for index, places in class_points(case).items()} == {0: 200, 1: 2}
    rows = np.concatenate([sampler(case).draw(case, step).rows_SXYZ for step in range(50)])
    centres = rows[:, 3, 3, 3]  # nothing lies at an edge here that a crop would be moved off
    assert np.isin(centres, (1, 2)).all()
    assert 0.4 < float((centres == 2).mean()) < 0.65  # half of them, and a few of the liver's
    anywhere = np.concatenate([sampler(case, share=0.0).draw(case, step).rows_SXYZ for step in range(50)])
    assert float(np.isin(anywhere[:, 3, 3, 3], (1, 2)).mean()) < 0.2


def test_one_with_labels_stands_in_for_a_case_without_always_the_same(tmp_path: Path) -> None:
    cases = [labelled_case(tmp_path, "a", LABELS), labelled_case(tmp_path, "b", OTHER, 1)]
    bare = labelled_case(tmp_path, "c", None, 2)
    own = sampler(*cases)
    drawn = [own.draw(bare, step) for step in range(30)]
    known = {tuple(one.complete_K.tolist()) for one in drawn}
    assert known == {(True, True, False), (False, False, True)}
    for step, one in enumerate(drawn):
        again = own.draw(bare, step)
        assert np.array_equal(one.crops_SXYZ, again.crops_SXYZ)
        assert np.array_equal(one.rows_SXYZ, again.rows_SXYZ)
    # Two without labels in a step do not get the same crops.
    other = Case("d", bare.volume)
    assert not np.array_equal(own.draw(other, 0).crops_SXYZ, drawn[0].crops_SXYZ)


def test_a_batch_holds_cases_of_different_sets(tmp_path: Path) -> None:
    cases = [labelled_case(tmp_path, "a", LABELS), labelled_case(tmp_path, "b", OTHER, 1)]
    own = sampler(*cases)
    batch = own.collate([own.draw(case, 0) for case in cases])
    assert batch.complete_NK.tolist() == [[True, True, False]] * 4 + [[False, False, True]] * 4
    assert batch.members_NRK.shape == (8, 3, 3)
    assert batch.members_NRK[4].tolist() == [[False] * 3, [False, False, True], [False] * 3]
