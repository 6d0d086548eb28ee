"""Values that arithmetic left inexact are labels; fractions are not."""

import numpy as np
import pytest

from voco_cli.data.io.image import rounding_note, whole_labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_near_whole_numbers_are_rounded(dtype: type) -> None:
    array = np.array([[[-0.0004, 0.9996, 2.0009, 255.0004]]], dtype)
    found = whole_labels(array)
    assert found.dtype == np.uint8
    assert found.tolist() == [[[0, 1, 2, 255]]]
    assert rounding_note(array) == "label values up to 0.0009 off whole numbers were rounded"


def test_what_is_whole_is_not_noted() -> None:
    for array in (np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.int16), np.zeros((0, 1, 1), np.float32)):
        assert rounding_note(array) is None
    assert whole_labels(np.full((1, 1, 1), 65_535.0)).dtype == np.uint16
    assert whole_labels(np.full((1, 1, 1), 256.0004)).item() == 256


@pytest.mark.parametrize("value", [0.5, 1.002, 0.998, -0.002, 65_535.5, np.nan, np.inf])
def test_fractions_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        whole_labels(np.array([[[1.0, value]]]))
