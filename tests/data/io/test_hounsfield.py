"""Which voxels can be Hounsfield units."""

from __future__ import annotations

import numpy as np
import pytest

from voco_cli.data.io.image import hounsfield_doubt, looks_like_ct

BODY = np.array([-1000, -990, -1010, -80, 0, 40, 60, 900] * 1000, np.int16).reshape(20, 20, 20)


@pytest.mark.parametrize(
    ("voxels", "is_ct", "doubt"),
    [
        (BODY, True, None),
        (np.where(BODY == -1010, -3024, BODY), True, None),  # what a scanner stores outside its field of view
        (BODY + 1024, False, "its lowest value is 14,"),
        (np.abs(BODY), False, "its lowest value is 0,"),
        (BODY - 1024, True, "25% of its values lie below -1200"),
    ],
    ids=["HU", "padded", "shifted up", "MR", "shifted twice"],
)
def test_values(voxels: np.ndarray, is_ct: bool, doubt: str | None) -> None:  # type: ignore[type-arg]
    assert looks_like_ct(voxels) is is_ct
    assert (hounsfield_doubt(voxels) or "").startswith(doubt or "")
    assert (hounsfield_doubt(voxels) is None) is (doubt is None)
