from __future__ import annotations

import numpy as np
import pytest

from voco_cli.config.task_schema import LabelClass
from voco_cli.tasks.targets import IGNORED, index_table, to_label_values, unlisted_values

HEART = (LabelClass(name="left ventricle", values=500), LabelClass(name="left atrium", values=(420, 421)))


def test_values_become_positions_and_go_back_to_the_first_value() -> None:
    raw = np.array([0, 500, 420, 421, 7])
    indices = index_table(HEART)[raw]
    assert indices.tolist() == [0, 1, 2, 2, 0]
    back = to_label_values(indices, HEART)
    assert back.tolist() == [0, 500, 420, 420, 0]
    assert back.dtype == np.uint16  # 500 does not fit into a byte


def test_small_values_stay_bytes() -> None:
    assert to_label_values(np.array([1, 0]), (LabelClass(name="a", values=4),)).dtype == np.uint8


def test_what_is_in_no_class_is_found() -> None:
    assert unlisted_values([0, 7, 421, 500, 3], HEART) == [3, 7]


def test_a_byte_holds_at_most_255_classes() -> None:
    many = [LabelClass(name=str(value), values=value) for value in range(1, 257)]
    with pytest.raises(ValueError, match="256 classes"):
        index_table(many)


def test_an_ignored_value_is_neither_background_nor_class_nor_unlisted() -> None:
    indices = index_table(HEART, ignore_value=9)[np.array([0, 500, 9, 7])]
    assert indices.tolist()[2] == IGNORED
    assert indices.tolist()[3] == 0
    assert indices.tolist() == [0, int(index_table(HEART)[500]), 255, 0]
    assert unlisted_values([0, 7, 421, 500, 9], HEART, 9) == [7]
    most = [LabelClass(name=str(value), values=value) for value in range(1, 256)]
    with pytest.raises(ValueError, match="255 classes does not fit"):
        index_table(most, ignore_value=300)
