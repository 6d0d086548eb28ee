"""Whether voxels are in Hounsfield units: air is near -1000 HU, and nothing in a body lies far below it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SURELY_CT_BELOW = -500
"""A scan with values below this is CT: no other modality stores such values by convention."""
WARMEST_AIR_HU = -800
BELOW_AIR_HU = -1200
FEW = 0.01
LOOKED_AT_VOXELS = 500_000


def looks_like_ct(array_zyx: NDArray[Any]) -> bool:
    """Whether the least value can only be air in HU (or what is stored outside the field of view)."""
    return float(array_zyx.min()) <= SURELY_CT_BELOW


def hounsfield_doubt(array_zyx: NDArray[Any]) -> str | None:
    """Why the voxels of a CT may not be in HU, in half a sentence; None where nothing speaks against it.

    A CT that was cut inside the body holds no air and is doubted, too: nothing tells it from one whose values were
    shifted.
    """
    lowest = float(array_zyx.min())
    if lowest > WARMEST_AIR_HU:
        return f"its lowest value is {lowest:g}, and air in a CT is near -1000 HU"
    some = array_zyx.reshape(-1)[:: max(1, array_zyx.size // LOOKED_AT_VOXELS)]
    # One value far below air is what scanners store outside their field of view; a whole range of them is air.
    share = float(np.mean((some < BELOW_AIR_HU) & (some != lowest)))
    if share > FEW:
        return f"{share:.0%} of its values lie below {BELOW_AIR_HU}, and air in a CT is near -1000 HU"
    return None
