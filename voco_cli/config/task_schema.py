"""The sections of fine-tuning, prediction and evaluation: what a task preset fills in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from voco_cli.config.schema import Fraction, NonNegativeFloat, PositiveFloat, Section, SizeXYZ
from voco_cli.config.tumour_schema import Tumours

LARGEST_LABEL = 65_535


def _listed(value: Any) -> Any:
    """Return one value as a list of one."""
    return (value,) if isinstance(value, str | int) else value


def _pattern(value: str) -> str:
    """Return a relative path with ``{case}`` in it; refuse one that leaves the data folder."""
    if "{case}" not in value:
        raise ValueError(f"the pattern {value!r} has no {{case}}")
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise ValueError(f"the pattern {value!r} leaves the data folder")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class LabelClass(Section):
    """A structure, or a category of scans."""

    name: str = Field(min_length=1, description="what tables call it")
    values: Annotated[tuple[Annotated[int, Field(ge=0, le=LARGEST_LABEL)], ...], BeforeValidator(_listed)] = Field(
        min_length=1,
        description="what stands for it in label maps, or in the table of a classification; the first is written",
    )


class LabelRegion(Section):
    """A union of classes that is measured beside them, such as the whole tumour."""

    name: str = Field(min_length=1, description="what tables call it")
    classes: Names = Field(min_length=1, description="names of the classes that belong to it")


class Layout(Section):
    """Where the files of a case lie, from the data folder."""

    image: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = Field(
        min_length=1, description="a pattern for each channel, with {case}"
    )
    label: Pattern | None = Field(None, description="pattern of the label map; none for a classification")


class Task(Section):
    """What is learned from labels, on which data, and how it is fed."""

    preset: str | None = Field(
        None,
        description="labelled task that the other settings start from: a name of `voco tasks list`, or a YAML file "
        "such as `voco tasks new` writes",
    )
    name: str = Field("", description="short name of the task")
    title: str = Field("", description="full name of the task")
    kind: Literal["segmentation", "classification"] = Field("segmentation", description="what is predicted of a scan")
    source: str = Field("", description="where the data is to be had, and on which terms")
    notes: tuple[str, ...] = Field((), description="what a user of the data should know")
    public_set: str | None = Field(
        None,
        description="public set that the cases are of, by its name in `voco collections show`; it tells which of them "
        "published weights were trained on",
    )
    folders: Names = Field((), description="folders below data.root in which the data is looked for")
    layouts: tuple[Layout, ...] = Field(
        (), description="where images and labels lie in that folder; the first that fits a case is taken"
    )
    channels: Names = Field(("image",), description="names of the input channels, in their order")
    classes: tuple[LabelClass, ...] = Field(
        (), description="structures and their label values, background (0) left out; or categories of scans"
    )
    regions: tuple[LabelRegion, ...] = Field((), description="unions of classes that are measured as well")
    unlisted: Literal["refuse", "background"] = Field(
        "refuse",
        description="what label values outside the classes are: an error, or background; in a pre-training with "
        "labels, those that nobody names",
    )
    ignore_value: Annotated[int, Field(ge=1, le=LARGEST_LABEL)] | None = Field(
        None,
        description="label value of voxels that nobody annotated: left out of loss, patches, validation and measures",
    )
    table: Path | None = Field(
        None, description="CSV of a classification from the data folder: case, label, and patient, fold or split"
    )
    split: str | None = Field(
        None,
        description="split that comes with the package, JSON file of cases, or seeded: drawn by patient; none takes "
        "data.file's own",
    )
    fold: NonNegativeInt = Field(0, description="fold that validates, for splits with folds")
    validation_patients: PositiveFloat = Field(
        0.2, description="patients who validate in a seeded split: below 1 a share of those not tested, else a number"
    )
    test_patients: NonNegativeFloat = Field(
        0.0, description="patients who are tested in a seeded split: below 1 a share, else a number"
    )
    split_seed: NonNegativeInt = Field(
        0, description="seed of a seeded split; apart from seed, so that runs of several seeds are measured alike"
    )
    missing: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what cases of the split that are not in the folder are: an error, or left out aloud"
    )
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="train on that share of the training patients only; a smaller share is part of a larger"
    )
    cases: PositiveInt | None = Field(
        None,
        description="train on that many cases only, drawn by patient; a smaller draw is part of a larger; none is all",
    )
    patch_size: SizeXYZ = Field((96, 96, 96), description="part of a volume that the network sees, voxels")
    patches_per_volume: PositiveInt = Field(2, description="patches of a volume in a step")
    foreground_share: Fraction = Field(
        0.75, description="share of patches centred on a structure, each class that the case has as often as another"
    )
    dice_background: bool = Field(False, description="whether background counts in the Dice part of the loss")
    deep_supervision: NonNegativeInt = Field(
        0,
        description="coarser outputs of unet or resenc that are trained too, each at half the weight of the one before",
    )
    freeze_encoder: bool = Field(False, description="train the decoder or head only; the encoder stays as it is loaded")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="learning rate of a level of the encoder, of that of the level nearer to the output"
    )
    head_warmup: Fraction = Field(0.0, description="share of the steps in which the encoder stays still")
    choose: Literal["best", "last"] = Field(
        "best", description="weights that are kept as the result: best on validation, or of the last step"
    )
    tumours: Tumours = Field(
        default_factory=Tumours, description="tumours that are painted onto healthy scans while training"
    )

    @property
    def is_voxelwise(self) -> bool:
        """Return whether every voxel gets a class, 0 being background, and not the scan as a whole."""
        return self.kind == "segmentation"

    @property
    def num_outputs(self) -> int:
        """Return the outputs of the network: background and classes, or the categories alone."""
        return len(self.classes) + self.is_voxelwise

    @model_validator(mode="after")
    def _names_and_values_are_unique(self) -> Self:
        names = Counter([one.name for one in self.classes] + [one.name for one in self.regions])
        values = Counter(value for one in self.classes for value in one.values)
        twice = [f"the name {name!r}" for name, count in names.items() if count > 1]
        twice += [f"the label value {value}" for value, count in values.items() if count > 1]
        if twice:
            raise ValueError(f"the classes have {' and '.join(twice)} more than once")
        if self.is_voxelwise and 0 in values:
            raise ValueError("the label value 0 is background, and no class of its own")
        if self.ignore_value is not None and (not self.is_voxelwise or self.ignore_value in values):
            what = "belongs to a class" if self.is_voxelwise else f"has no meaning for a {self.kind}"
            raise ValueError(f"ignore_value {self.ignore_value} {what}")
        unknown = sorted({name for one in self.regions for name in one.classes} - set(names))
        if unknown:
            raise ValueError(f"the regions name {', '.join(unknown)}, which no class is called")
        channels = {len(one.image) for one in self.layouts} - {len(self.channels)}
        if channels:
            raise ValueError(
                f"a layout has {channels.pop()} images a case, and there are {len(self.channels)} channels"
            )
        return self


class Predict(Section):
    """How a trained network is applied to whole scans."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="share of a window that the next one covers")
    window_batch: PositiveInt = Field(1, description="windows that go through the network together")
    flips: bool = Field(
        False, description="average over the eight flips of each window: a little better, eight times as long"
    )
    suffix: Literal[".nii.gz", ".nii", ".nrrd", ".mha"] = Field(
        ".nii.gz", description="format of predicted label maps: .nii.gz, .nii, .nrrd or .mha"
    )


class Evaluate(Section):
    """How predictions are measured, in each scan's own space."""

    tolerance_mm: NonNegativeFloat = Field(2.0, description="tolerance of the normalised surface Dice, mm")
    empty: Literal["count", "perfect", "penalty", "brats", "released"] = Field(
        "count",
        description="rule for structures that are in neither map (absent), in the label alone (missed) or in the "
        "prediction alone (false positive): count (missed and false positive 0, absent left out), perfect (as count, "
        "but absent 1), penalty (as count, distances the scan's diagonal), brats (both), released (as the released "
        "code: false positives left out)",
    )
    resamples: Annotated[int, Field(ge=100)] = Field(2000, description="bootstrap resamples of the patients")
