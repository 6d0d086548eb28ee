"""Whether a GPU seems to be here, told in no time: for hints of commands that load no tensor library."""

from __future__ import annotations

import os
import platform
from pathlib import Path

DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""What the drivers of NVIDIA, of AMD, and of Windows below Linux put there."""


def seems_to_have_gpu() -> bool:
    """Whether a driver of a GPU is loaded, or this is a Mac with a GPU of its own, and none is hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    is_mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    return is_mac or any(driver.exists() for driver in DRIVERS)
