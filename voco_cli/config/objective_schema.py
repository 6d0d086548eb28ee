"""The section ``objective`` of the settings: an entry for each pretext task, with its weight in the loss."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from voco_cli.config.schema import Auto, Counts, Crops, Fraction, NonNegativeFloat, PositiveFloat, Section, Shares
from voco_cli.config.task_schema import LabelRegion, Names

DecoderKind = Literal["light", "segmentation"]
"""What stands over the encoder: a few channels at every level, or the decoder of the backbone's segmenter."""


class VocoOptions(Section):
    """Volume contrast: what is minimised. Weights of 0 leave a term out."""

    weight: NonNegativeFloat = Field(1.0, description="share of volume contrast in the loss; 0 leaves it out")
    prediction: Literal["cvpr", "tpami", "paper"] = Field("cvpr", description="formula of the prediction loss")
    teacher: Literal["network", "projector", "none"] = Field(
        "network", description="what has a moving-average twin: encoder and projector, the projector, or nothing"
    )
    teacher_start: Literal["own", "copy"] = Field(
        "own", description="the teacher starts from its own random draw (as released) or as a copy of the student"
    )
    ema: Fraction = Field(0.9, description="share of its old value that the teacher keeps in a step")
    symmetric: bool = Field(
        True, description="average student crops against teacher bases with teacher crops against student bases"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout of the student's embedding before the projector")
    dropout_unit: Literal["crops", "features"] = Field(
        "crops", description="what the dropout drops: whole crops (as released) or single features"
    )
    prediction_weight: NonNegativeFloat = Field(1.0, description="weight of the prediction loss")
    regularisation_weight: NonNegativeFloat = Field(1.0, description="weight of the term that pushes base crops apart")
    inter_weight: NonNegativeFloat = Field(0.0, description="weight of the inter-volume term; needs two volumes a step")

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        together = crops.random_per_volume + crops.grid_xyz[0] * crops.grid_xyz[1] * crops.grid_xyz[2]
        return together, together if self.teacher == "network" else 0


class RotationOptions(Section):
    """Telling how a crop was turned."""

    weight: NonNegativeFloat = Field(0.0, description="share of rotation prediction in the loss; 0 leaves it out")
    orientations: Literal[4, 24] = Field(
        24, description="4: quarter turns in the x-y plane; 24: all rotations of a cube onto itself"
    )
    min_accuracy: Fraction = Field(
        0.5, description="learned: share of held-out crops whose orientation is told, at least"
    )

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


def cube_edge(cube_vox: int | Auto, size_vox: tuple[int, int, int]) -> int:
    """Return the edge of the cubes that are hidden in crops of a size, as ``objective.mae.cube_vox`` asks.

    What auto finds is 1 where no larger cube tiles the crops.
    """
    if cube_vox != "auto":
        return cube_vox
    common, most = math.gcd(*size_vox), min(16, min(size_vox) // 3)
    return max((edge for edge in range(1, most + 1) if common % edge == 0), default=1)


class MaeOptions(Section):
    """Filling in what was hidden of a crop."""

    weight: NonNegativeFloat = Field(0.0, description="share of the masked autoencoder in the loss; 0 leaves it out")
    cube_vox: PositiveInt | Auto = Field(
        "auto",
        description="edge of the cubes that are hidden, voxels of a crop as the network gets it; auto is the largest "
        "divisor of its edges up to 16 that leaves three cubes along each",
    )
    share: float = Field(0.75, gt=0.0, lt=1.0, description="share of the cubes of a crop that is hidden")
    token: Literal["learned", "zero"] = Field(
        "learned", description="what stands in hidden voxels: one learned number (sparse: one for each channel), or 0"
    )
    masking: Literal["input", "sparse"] = Field(
        "input", description="hide voxels in the crop, or also at every level of the encoder (unet)"
    )
    decoder: DecoderKind = Field(
        "light", description="a light decoder, or that of the segmentation network, which is then exported too"
    )
    loss: Literal["l2", "l1"] = Field("l2", description="squared or absolute error of a voxel")
    loss_over: Literal["hidden", "all"] = Field("hidden", description="voxels whose error is minimised")
    normalise_cubes: bool = Field(
        False, description="predict each cube with its own mean 0 and standard deviation 1, not the intensities"
    )
    max_error_ratio: PositiveFloat = Field(
        0.75, description="learned: squared error in hidden voxels against that of the visible voxels' mean, at most"
    )

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


class ContrastOptions(Section):
    """Telling which two views are of one place; flips, quarter turns and shifts of views are those of ``augment``."""

    weight: NonNegativeFloat = Field(0.0, description="share of contrast in the loss; 0 leaves it out")
    negatives: Literal["across", "within", "both"] = Field(
        "across", description="views that a view is told from: those of other scans of the step, of its own scan, both"
    )
    temperature: PositiveFloat = Field(0.5, description="cosines are divided by this")
    min_overlap: Fraction = Field(
        0.5, description="least share of an edge, of each axis, that two views have in common"
    )
    gamma_prob: Fraction = Field(0.3, description="probability of a power of the intensity")
    gamma_max: float = Field(
        1.5, ge=1.0, allow_inf_nan=False, description="largest power; the least is 1 divided by it"
    )
    blur_prob: Fraction = Field(0.2, description="probability of a blur")
    blur_max_vox: PositiveFloat = Field(1.0, description="largest standard deviation of the blur, voxels")
    low_res_prob: Fraction = Field(0.25, description="probability of a low resolution")
    low_res_min: PositiveFloat = Field(0.5, le=1.0, description="coarsest grid, edge as a share of the view's")
    noise_prob: Fraction = Field(0.3, description="probability of white noise")
    noise_sd: NonNegativeFloat = Field(0.1, description="largest standard deviation of the noise")
    min_accuracy: Fraction = Field(
        0.5, description="learned: share of held-out views whose partner is found among all others, at least"
    )

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return 2 * crops.random_per_volume, 0


class GenesisOptions(Section):
    """Restoring crops (Models Genesis): what makes them unlike themselves, in this order."""

    weight: NonNegativeFloat = Field(0.0, description="share of restoration in the loss; 0 leaves it out")
    decoder: DecoderKind = Field(
        "light", description="light, or segmentation: the decoder of the backbone's segmenter, which then transfers too"
    )
    flip_prob: Fraction = Field(0.4, description="probability of a flip along some axis, and of one more, up to three")
    shuffle_prob: Fraction = Field(0.5, description="probability that voxels are shuffled within boxes")
    shuffle_boxes: PositiveInt = Field(10_000, description="boxes in which voxels are shuffled")
    shuffle_max: Fraction = Field(0.1, description="largest edge of such a box, share of the crop's, but 2 voxels")
    intensity_prob: Fraction = Field(0.9, description="probability that intensities are mapped by a Bezier curve")
    decreasing_prob: Fraction = Field(0.5, description="probability that the curve makes bright dark")
    painting_prob: Fraction = Field(0.9, description="probability that parts are painted over with noise")
    inpainting_share: Fraction = Field(
        0.2, description="how often painting fills up to 5 boxes; else it fills everything but up to 5 windows"
    )
    max_ratio: PositiveFloat = Field(
        0.5, description="learned: held-out error against that of the best trivial answer, at most"
    )

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


class FusionOptions(Section):
    """Telling how two crops were mixed (volume fusion)."""

    weight: NonNegativeFloat = Field(0.0, description="share of volume fusion in the loss; 0 leaves it out")
    decoder: DecoderKind = Field(
        "light", description="light, or segmentation: the decoder of the backbone's segmenter, which then transfers too"
    )
    levels: PositiveInt = Field(4, le=255, description="K: the share of the foreground is one of 0, 1/K, ..., 1")
    boxes: Counts = Field((10, 40), description="boxes in a crop, least and most; elsewhere the share is 0")
    box_size: Shares = Field((0.1, 0.5), description="edge of a box, least and most, share of the crop's")
    min_dice: Fraction = Field(0.5, description="learned: mean Dice of the levels on held-out crops, at least")

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


class SupervisedOptions(Section):
    """Telling the classes of voxels, from label maps each of which may be complete for some classes only."""

    weight: NonNegativeFloat = Field(0.0, description="share of supervised learning in the loss; 0 leaves it out")
    classes: Names = Field(
        (), description="classes that are told, in the order of the outputs; none takes those of data.json"
    )
    regions: tuple[LabelRegion, ...] = Field(
        (), description="classes that contain others, each with all that lie inside it; data.json's go with its classes"
    )
    foreground_share: Fraction = Field(
        0.75, description="share of crops centred on a class, each class of the case as often as another"
    )
    loss: Literal["sigmoid", "softmax"] = Field(
        "sigmoid",
        description="Dice and cross entropy of each class by itself, or of one softmax over all (as released), where a "
        "class that a case is not labelled for counts as background",
    )
    deep_supervision: NonNegativeInt = Field(
        0, description="coarser outputs of unet or resenc that are trained too, each at half the weight of the former"
    )
    min_dice: Fraction = Field(0.5, description="learned: mean Dice of the classes on held-out scans, at least")

    @property
    def decoder(self) -> DecoderKind:
        """Return what stands over the encoder: what predicts, and goes over into a fine-tuning."""
        return "segmentation"

    @property
    def inside(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return each class that contains others, with these, by their places among the classes."""
        place = {name: number for number, name in enumerate(self.classes)}
        return [(place[one.name], tuple(place[name] for name in one.classes)) for one in self.regions]

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


class ClassThreshold(Section):
    """How sure a teacher has to be of a class."""

    name: str = Field(min_length=1, description="of the class")
    threshold: float = Field(ge=0.5, le=1.0, description="least probability of its answer, there or not there")


class PseudoOptions(Section):
    """Learning classes that a scan is not labelled for from what a teacher tells; needs the supervised objective."""

    weight: NonNegativeFloat = Field(0.0, description="share of pseudo-labels in the loss; 0 leaves it out")
    teacher: Literal["ema", "frozen"] = Field(
        "ema",
        description="a moving average of the student, or one copy of it at from_share of the steps (released)",
    )
    ema: Fraction = Field(0.999, description="share of its old value that the teacher keeps in a step")
    from_share: Fraction = Field(0.1, description="share of the steps before the first pseudo-label")
    ramp_share: Fraction = Field(0.2, description="share of the steps in which the weight then rises; 0 as released")
    strong: bool = Field(
        True, description="the student's view is changed as those of objective.contrast; false as released: one view"
    )
    threshold: float = Field(
        0.9, ge=0.5, le=1.0, description="least probability of the teacher's answer, there or not; 0.5 keeps all"
    )
    thresholds: tuple[ClassThreshold, ...] = Field((), description="classes with a threshold of their own")
    rule: Literal["sigmoid", "argmax"] = Field(
        "sigmoid", description="a voxel is of every class above 1/2, or of the likeliest one (as released)"
    )
    min_dice: Fraction = Field(
        0.5, description="classes whose teacher has a lower Dice on held-out labelled scans are not used; 0 uses all"
    )
    trains_encoder: bool = Field(
        True, description="pseudo-labels train encoder and decoder, or the decoder alone (voco-omni, as released)"
    )

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, crops.random_per_volume


class WeakOptions(Section):
    """Telling which classes are somewhere in a scan, from labels of whole scans, some of which are known."""

    weight: NonNegativeFloat = Field(0.0, description="share of weak supervision in the loss; 0 leaves it out")
    classes: Names = Field(
        (), description="classes that are told, in the order of the outputs; none takes scan_classes of data.json"
    )
    pooling: Literal["mean", "max"] = Field(
        "mean", description="a scan's logit: the mean, or the largest, over all places of its crops' deepest features"
    )
    min_auc: Fraction = Field(0.7, description="learned: mean AUC of the classes on held-out scans, at least")

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through its teacher."""
        return crops.random_per_volume, 0


class Objectives(Section):
    """The objectives of a pre-training; those with a weight above 0 are summed over one encoder."""

    voco: VocoOptions = Field(default_factory=VocoOptions, description="volume contrast")
    rotation: RotationOptions = Field(default_factory=RotationOptions, description="rotation prediction")
    mae: MaeOptions = Field(default_factory=MaeOptions, description="masked autoencoder")
    contrast: ContrastOptions = Field(default_factory=ContrastOptions, description="contrast of overlapping views")
    genesis: GenesisOptions = Field(default_factory=GenesisOptions, description="restoration of crops")
    fusion: FusionOptions = Field(default_factory=FusionOptions, description="volume fusion")
    supervised: SupervisedOptions = Field(default_factory=SupervisedOptions, description="classes of label maps")
    pseudo: PseudoOptions = Field(default_factory=PseudoOptions, description="classes that a teacher tells")
    weak: WeakOptions = Field(default_factory=WeakOptions, description="classes of labels of whole scans")

    def active(self) -> dict[str, float]:
        """Return the weight of each objective that is part of the loss, by its name."""
        weights = {name: getattr(self, name).weight for name in type(self).model_fields}
        return {name: weight for name, weight in weights.items() if weight > 0}

    @property
    def needs_labels(self) -> bool:
        """Return whether something is learned from label maps."""
        return self.supervised.weight > 0

    @property
    def decoder(self) -> DecoderKind | None:
        """The larger of the decoders that are trained beside the encoder; None where there is none."""
        kinds = {getattr(getattr(self, name, None), "decoder", None) for name in self.active()}
        return "segmentation" if "segmentation" in kinds else "light" if "light" in kinds else None

    def decoded_share(self, crops: Crops) -> float:
        """Return the share of the crops through the encoder that go through a decoder, too."""
        passes: dict[str, int] = {name: getattr(self, name).encoder_passes(crops)[0] for name in self.active()}
        decoded = sum(count for name, count in passes.items() if getattr(getattr(self, name), "decoder", None))
        return decoded / max(1, sum(passes.values()))

    def encoder_passes(self, crops: Crops) -> tuple[int, int]:
        """Return the crops of a volume that go through the encoder, and those that go through teachers, in all."""
        each = [getattr(self, name).encoder_passes(crops) for name in self.active()]
        return sum(own for own, _ in each), sum(teacher for _, teacher in each)

    def region_vox(self, crops: Crops) -> tuple[int, int, int]:
        """Return the least volume that can be trained on: the region of the base grid where that is used."""
        return crops.region_vox if "voco" in self.active() else crops.size
