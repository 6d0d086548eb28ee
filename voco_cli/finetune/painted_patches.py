"""Tumours on patches of healthy scans, painted while the network trains; the cache stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.config.tumour_schema import Tumours
from voco_cli.data.cache.volume import FULL_SCALE
from voco_cli.data.synthetic.tumours import draw_radii, paint_tumours, prepare
from voco_cli.errors import UsageError
from voco_cli.objectives.draws import counter_generator
from voco_cli.tasks.cases import StoredCase


@dataclass(frozen=True)
class PaintPlan:
    """What is to be painted into a patch.

    Attributes:
        radii_mm: nominal radii, falling.
        margin_vox: what is decoded around the patch, so that the tissue there is pushed as in the whole scan.
        spacing_mm: of the voxels.
        generator: draws everything else.
    """

    radii_mm: list[float]
    margin_vox: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    generator: np.random.Generator


class PatchPainter:
    """Paints what `task.tumours` says; all of it depends on seed, batch number, case and patch alone.

    Args:
        settings: seed, task, preprocessing.
        points: class index to voxels, of each training case.
    Raises:
        UsageError: no training case can be painted on.
    """

    def __init__(self, settings: Settings, points: Mapping[str, Mapping[int, NDArray[np.int16]]]) -> None:
        self.settings = settings
        tumours = settings.task.tumours
        names = [one.name for one in settings.task.classes]
        self.organs = {name: (names.index(name) + 1,) for name in tumours.organs}
        self.lesion = names.index(tumours.lesion) + 1
        indices = [index for values in self.organs.values() for index in values]
        self.paintable = {
            case
            for case, found in points.items()
            if any(index in found for index in indices) and not (tumours.healthy_only and self.lesion in found)
        }
        if not self.paintable:
            without = f" without {tumours.lesion}" if tumours.healthy_only else ""
            raise UsageError(
                f"task.tumours paints into {' and '.join(tumours.organs)}, and none of the {len(points)} training "
                f"cases has it{without}.",
                "task.tumours.healthy_only=false paints onto the others, task.tumours.share=0 onto none",
            )

    def plan(self, case: StoredCase, number: int, name: str, patch: int) -> PaintPlan | None:
        """Draw whether a patch is painted on, and the sizes of its tumours; none leaves it as it is."""
        tumours: Tumours = self.settings.task.tumours
        if case.name not in self.paintable:
            return None
        generator = counter_generator(self.settings.seed, number, name, f"tumours-{patch}")
        if generator.random() >= tumours.share:
            return None
        radii = draw_radii(generator, tumours.sizes, tumours.mixed)
        spacing_mm = case.volumes[0].metadata.record.spacing_mm
        x, y, z = (int(np.ceil(tumours.rules.reach * radii[0] / step)) for step in spacing_mm)
        return PaintPlan(radii, (x, y, z), spacing_mm, generator)

    def paint(
        self, image_CXYZ: NDArray[Any], indices_XYZ: NDArray[np.uint8], plan: PaintPlan
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Paint tumours whose middles lie in the patch, and cut the margin off.

        Args:
            image_CXYZ: stored numbers of one channel, patch and margin.
            indices_XYZ: class indices.
        Returns:
            image_CXYZ of the patch, in stored numbers; voxels that no tumour reaches are the stored ones. Its indices.
        """
        patch = tuple(slice(more, n - more) for more, n in zip(plan.margin_vox, indices_XYZ.shape, strict=True))
        within = (patch[0], patch[1], patch[2])
        low, high = self.settings.preprocess.window_hu
        stored = image_CXYZ[0]
        hu_per_step = (high - low) / FULL_SCALE[stored.dtype.name]
        tumours: Tumours = self.settings.task.tumours
        image_hu = stored.astype(np.float32) * np.float32(hu_per_step) + np.float32(low)
        canvas = prepare(image_hu, indices_XYZ, plan.spacing_mm, self.organs, self.lesion, tumours.rules)
        painted = paint_tumours(canvas, plan.radii_mm, plan.generator, within)
        changed = painted.image_hu[within] != image_hu[within]
        result = stored[within].copy()
        values = np.clip((painted.image_hu[within][changed] - low) / hu_per_step, 0, FULL_SCALE[stored.dtype.name])
        result[changed] = values if stored.dtype.kind == "f" else np.rint(values)
        return result[None], painted.labels[within]
