"""A painted tumour, with every rule: vessels, outline, texture, mass effect, capsule, labels; one thread.

The organ is a ball of noise with a vessel in a cube of 160 mm. What a patch takes once (its vessels) and a process once
(a tile of texture) are rows of their own, and a tumour's row has the vessels, too, as if it were alone in its patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.registry import Options
from benchmarks.rows import Figure, Row
from voco_cli.config.tumour_schema import TumourRules
from voco_cli.data.synthetic.tumour_parts import num_textures, texture_tile
from voco_cli.data.synthetic.tumours import paint_tumours, prepare

EXTENT_MM = 160
RADII_MM = (4.0, 8.0, 16.0, 32.0)
LIMITS_S = {4.0: 0.1, 8.0: 0.1, 16.0: 0.1, 32.0: 0.3}
ORGANS, LESION = {"liver": (1,)}, 2


def rows(options: Options) -> Iterator[Row]:
    """Each radius at 1 and at 1.5 mm."""
    rules, rounds = TumourRules(), options.rounds_or(15)
    for step_mm in (3.0,) if options.quick else (1.0, 1.5):
        spacing_mm = (step_mm, step_mm, step_mm)
        image, labels = made_organ(round(EXTENT_MM / step_mm))
        start = process_time()
        for number in range(num_textures(rules)):
            texture_tile(number, spacing_mm, rules)
        yield Figure(f"{step_mm:g} mm: a tile of texture, once", "s", [(process_time() - start) / num_textures(rules)])
        for radius_mm in RADII_MM:
            prepared, painted = [], []
            for seed in range(rounds):
                start = process_time()
                canvas = prepare(image, labels, spacing_mm, ORGANS, LESION, rules)
                half = process_time()
                found = paint_tumours(canvas, [radius_mm], np.random.default_rng(seed))
                end = process_time()
                if found.tumours:
                    prepared.append(half - start)
                    painted.append(end - start)
            words = f"{step_mm:g} mm: a tumour of {radius_mm:g} mm"
            yield Figure(f"{words}, of these the vessels", "s", prepared)
            yield Figure(words, "s", painted, LIMITS_S[radius_mm])


def made_organ(edge_vox: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A ball of 110 HU with noise and one vessel of 180 HU, in fat."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(0, 20, (edge_vox,) * 3).astype(np.float32), 1)
    x, y, z = (np.linspace(-1, 1, edge_vox, dtype=np.float32) for _ in range(3))
    ball = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2 < 0.95**2
    vessel = (ball & (((x - 0.6) ** 2)[:, None, None] + y[:, None] ** 2 < 0.04**2)).astype(bool)
    image = np.where(vessel, np.float32(180), np.where(ball, np.float32(110), np.float32(-100))) + noise
    return image, ball.astype(np.uint8)
