"""The few held-out crops that are drawn at every validation, always the same."""

from __future__ import annotations

from pathlib import Path

from voco_cli.dataset.patient import case_of
from voco_cli.figures.location import LocatedCrop, LocationPanel
from voco_cli.method.augment import to_unit
from voco_cli.pretraining.health_check import HealthCheck, Look

MOST_CROPS = 6


def shown_crops(num_cases: int, num_crops: int, most: int = MOST_CROPS) -> list[tuple[int, int]]:
    """Case and crop of each that is drawn, spread evenly over the cases, from the first on within a case."""
    count = min(most, num_cases * num_crops)
    cases = [number * num_cases // count for number in range(count)]
    return [(case, cases[:number].count(case)) for number, case in enumerate(cases)]


def location_panel(health: HealthCheck, look: Look, step: int) -> LocationPanel:
    """What the picture of a look shows."""
    fixed, crops = health.fixed, health.crops
    num_cases, num_crops, _ = fixed.labels_VSK.shape
    shown, spacings = [], []
    for case, crop in shown_crops(num_cases, num_crops):
        x_mm, y_mm, _ = health.cases[case].volume.metadata.record.spacing_mm
        spacings.append((x_mm, y_mm))
        voxels = to_unit(fixed.random[case][crop])
        shown.append(
            LocatedCrop(
                scan=case_of(Path(health.cases[case].name)),
                slice_XY=voxels[:, :, voxels.shape[2] // 2].numpy(),
                pixel_mm=(x_mm, y_mm),
                label_K=fixed.labels_VSK[case, crop].float().numpy(),
                logits_K=look.logits_VSK[case, crop].float().numpy(),
                rank=float(look.ranks_VS[case, crop]),
            )
        )
    base_x, base_y, _ = crops.base_size_vox
    cell_mm = (base_x * spacings[0][0], base_y * spacings[0][1])
    figures = look.figures
    return LocationPanel(step, figures["rank"], figures["correlation"], crops.grid_xyz, cell_mm, shown)
