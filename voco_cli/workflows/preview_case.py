"""`voco tasks preview` without its command line: a case as it is drawn, and whether its label map lies right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.config import load_settings
from voco_cli.data.cache.preprocess import intensity_window
from voco_cli.data.io.geometry import axis_codes
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError
from voco_cli.evaluate.label_check import LabelCheck, check_label
from voco_cli.evaluate.label_fit import LabelFit
from voco_cli.evaluate.patient_case import PatientCase, patient_case
from voco_cli.figures.case import default_window
from voco_cli.figures.case_scene import CaseScene, case_scene, unlisted_values
from voco_cli.figures.slices import shown_structures
from voco_cli.workflows.case_files import CaseFiles, NamedValues, ValueNames

MOST_UNNAMED = 256


@dataclass(frozen=True)
class CasePreview:
    """A case that is ready to be drawn.

    Attributes:
        scene: all that the picture shows.
        image: as it was read.
        maps: label map and prediction, as far as they are there, by what they are called.
        checks: what was found of each of them.
        names: of the structures that are looked for.
        origin: where the names come from, for people; empty where values are only numbered.
    """

    scene: CaseScene
    image: Scan
    maps: dict[str, Scan]
    checks: dict[str, LabelCheck]
    names: tuple[str, ...]
    origin: str

    def to_json(self, picture: Path | None) -> dict[str, Any]:
        """Return all of it as JSON holds it.

        Args:
            picture: where it was drawn.
        """
        return {
            "case": self.scene.name,
            "image": str(self.image.path),
            **{word.replace(" map", ""): str(scan.path) for word, scan in self.maps.items()},
            "picture": str(picture) if picture else None,
            "shape": self.image.shape_xyz,
            "spacing_mm": self.image.spacing_xyz_mm,
            "axes": axis_codes(self.image.direction),
            "not_finite": _not_finite(self.image),
            "window": self.scene.window,
            "names": self.origin or None,
            "structures": [asdict(one) for one in self.scene.volumes],
            "unlisted": self.scene.unlisted,
            "fit": {word: _fit_record(check.fit) for word, check in self.checks.items()},
            "warnings": [
                {"of": word, "kind": finding.kind, "sentence": finding.sentence}
                for word, check in self.checks.items()
                for finding in check.findings
            ],
        }


def preview_case(
    files: CaseFiles,
    known: ValueNames,
    prediction: Path | None,
    task: str | None,
    window: tuple[float, float] | None,
    slices: int,
    advance: Callable[[], None],
) -> CasePreview:
    """Put together what is drawn of a case, and judge whether its label maps lie right.

    Args:
        known: names of the label values.
        prediction: file of a predicted label map.
        task: that gives the window where none is given.
        window: intensities that become black and white.
        slices: axial slices of the strip.
        advance: called when the label maps are read, and when they are checked.
    Raises:
        DataError: a label map that cannot be read, or that is none.
        GeometryError: as `patient_case`.
    """
    maps, ignored = _read_maps(files.label, prediction, known.ignore)
    placed = patient_case(files.image, maps.get("label map"), maps.get("prediction"))
    names = known.structures or _numbered(placed, files.image)
    advance()
    named = dict(names) if known.origin else {}
    checks = {word: check_label(files.image, one, named, files.modality, word) for word, one in maps.items()}
    advance()
    shown, words = _shown_window(files.image, placed, files.modality, task, window)
    facts = _facts(files.image, maps, words, known.origin)
    if known.ignore is not None:
        facts.append(f"ignored: {ignored} voxels of value {known.ignore}, which nobody annotated")
    warnings = [finding.sentence for check in checks.values() for finding in check.findings]
    scene = case_scene(files.name, facts, placed, shown_structures(names), shown, slices, warnings)
    return CasePreview(scene, files.image, maps, checks, tuple(name for name, _ in names), known.origin)


def _read_maps(label: Path | None, prediction: Path | None, ignore: int | None) -> tuple[dict[str, Scan], int]:
    """Read the label maps that are there, by what they are called, without the voxels that nobody annotated.

    Returns:
        the maps, in which such voxels are background, also in the prediction; and the number of these voxels.
    """
    places = {"label map": label, "prediction": prediction}
    maps = {word: read_scan(path) for word, path in places.items() if path is not None}
    if ignore is None or label is None:
        return maps, 0
    ignored = maps["label map"].array_zyx == ignore
    same = {word: one for word, one in maps.items() if one.array_zyx.shape == ignored.shape}
    cleared = {word: replace(one, array_zyx=np.where(ignored, 0, one.array_zyx)) for word, one in same.items()}
    return {**maps, **cleared}, int(np.count_nonzero(ignored))


def _shown_window(
    image: Scan, case: PatientCase, modality: str, task: str | None, given: tuple[float, float] | None
) -> tuple[tuple[float, float], str]:
    """Return the window, as given, as the task has it, or by modality; and the same in words."""
    if given is not None:
        return given, f"{given[0]:g} to {given[1]:g}"
    if task is None:
        return default_window(case, modality)
    settings = load_settings(task=task).settings.preprocess
    found = intensity_window(image, settings)
    unit = " HU" if settings.intensity == "window" else ""
    return (found.low, found.high), f"{found.low:.4g} to {found.high:.4g}{unit}, as the task has it"


def _numbered(case: PatientCase, image: Scan) -> NamedValues:
    """Name every value that is there by its number."""
    values = sorted(unlisted_values(case, ()))
    if len(values) > MOST_UNNAMED:
        raise DataError(
            f"The label map of {image.path} holds {len(values)} values: is it one?", "name those meant with --classes"
        )
    return tuple((f"value {value}", (value,)) for value in values)


def _facts(image: Scan, maps: dict[str, Scan], window: str, origin: str) -> list[str]:
    voxels = "\N{MULTIPLICATION SIGN}".join(map(str, image.shape_xyz))
    spacing = "\N{MULTIPLICATION SIGN}".join(f"{step:.4g}" for step in image.spacing_xyz_mm)
    named = [f"{word}: {scan.path.name}" for word, scan in maps.items()] + ([f"names of {origin}"] if origin else [])
    facts = [
        f"image: {image.path.name} · {voxels} voxels of {spacing} mm · axes {axis_codes(image.direction)} · "
        f"window {window}"
    ]
    if lacking := _not_finite(image):
        facts.append(f"{lacking} voxels are no finite numbers: training and prediction refuse such an image")
    return facts + ([" · ".join(named)] if named else [])


def _not_finite(image: Scan) -> int:
    return int((~np.isfinite(image.array_zyx)).sum())


def _fit_record(fit: LabelFit | None) -> list[dict[str, Any]] | None:
    if fit is None:
        return None
    return [
        {"turn": str(one.turn), "jump": one.jump, "displaced": one.displaced, "above_sd": one.above_sd}
        for one in fit.fits
    ]
