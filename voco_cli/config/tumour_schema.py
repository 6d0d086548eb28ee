"""The settings of painted tumours: when a fine-tuning paints them, and the constants of the painter."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from voco_cli.config.schema import Fraction, NonNegativeFloat, PositiveFloat, Section, split_extent


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    """Return a range whose ends may be equal."""
    if value[0] > value[1]:
        raise ValueError(f"the lower end {value[0]:g} is above the upper end {value[1]:g}")
    return value


Span = Annotated[tuple[PositiveFloat, PositiveFloat], BeforeValidator(split_extent), AfterValidator(_rising)]
"""Least and most of a positive length or share; ``5,20`` on a command line."""

Number = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(split_extent), AfterValidator(_rising)]
"""Fewest and most; ``1,3`` on a command line."""


class TumourSize(Section):
    """A class of sizes."""

    radius_mm: Span = Field(description="range of radii, mm; one is drawn evenly for each tumour")
    number: Number = Field(description="fewest and most tumours of a scan or patch")


class OrganContrast(Section):
    """A contrast of one organ alone."""

    organ: str = Field(description="name of the organ")
    contrast_hu: Span = Field(description="what is subtracted where the texture is 1, HU")


class TumourRules(Section):
    """Constants of the painter; lengths are mm where the sources count voxels of 1 mm.

    Sources: [1] Hu et al., "Label-Free Liver Tumor Segmentation", CVPR 2023, and its code
    MrGiovanni/SyntheticTumors (983dbee): shape, texture, contrast, place. [2] A reproduction of the rules of that paper
    which the code leaves out of training: vessels, range of means, mass effect, capsule. [3] Lai et al., "From Pixel to
    Cancer", MICCAI 2024: the same contrast in liver, pancreas and kidney.
    """

    half_axes: Span = Field((0.75, 1.25), description="half axes of the ellipsoid, of the radius [1]")
    unevenness: Span = Field(
        (0.125, 0.3125),
        description="standard deviation of the noise of the surface, of the radius: the displacements of [1], 0.5-1, "
        "1-2, 3-6 and 5-10 voxels at radii of 4, 8, 16 and 32",
    )
    waves: PositiveInt = Field(8, description="plane waves that make up the noise of the surface")
    wave_number: PositiveFloat = Field(
        1.5, description="standard deviation of their wave numbers, radians along a sphere of radius 1: a few bumps"
    )
    edge_mm: Span = Field((0.6, 1.2), description="standard deviation of the blur of the border, mm [2]")
    grain_mm: tuple[PositiveFloat, ...] = Field(
        (4.0, 7.0), min_length=1, description="scales of the grain of the texture, standard deviations of blurs, mm [1]"
    )
    patches_mm: tuple[PositiveFloat, ...] = Field(
        (3.0, 6.0, 9.0, 12.0, 15.0), min_length=1, description="scales of the patches in which the grain is denser [1]"
    )
    density: Span = Field((0.04, 0.06), description="share of specks where the grain is thinnest [1]")
    density_range: Span = Field((0.19, 0.21), description="by how much more it is where the grain is densest [1]")
    texture_mean: Span = Field((0.5, 0.55), description="mean of the texture where it is above texture_from [1]")
    texture_from: Fraction = Field(0.12, description="texture that counts for texture_mean [1]")
    tile_vox: Annotated[int, Field(ge=16, le=256)] = Field(
        128, description="edge of a tile of texture, voxels; a tile repeats without a seam"
    )
    contrast_hu: Span = Field((65.0, 145.0), description="what is subtracted where the texture is 1, HU [1, 3]")
    organ_contrasts: tuple[OrganContrast, ...] = Field(
        (), description="the same for organs that differ, each with organ (its name) and contrast_hu"
    )
    least_mean_hu: float = Field(
        30.0, description="mean of a tumour at least, HU [2]: in organs without contrast agent tumours are fainter"
    )
    least_drop_hu: NonNegativeFloat = Field(
        10.0, description="least difference of the means of organ and tumour, HU [2]"
    )
    vessel_above_hu: float = Field(
        15.0, description="a vessel is above the mean of the organ by more than this, HU [2]"
    )
    vessel_blur: tuple[NonNegativeFloat, NonNegativeFloat] = Field(
        (0.5, 0.025), description="blur before: standard deviation in voxels, and what each HU of the organ's adds [2]"
    )
    middle: tuple[Fraction, Fraction] = Field(
        (0.3, 0.7), description="part of the organ's extent along the last axis in which centres lie [1]"
    )
    inset_mm: NonNegativeFloat = Field(
        2.0, description="least distance of a centre from the border of the organ in the first two axes, mm [1]"
    )
    tries: PositiveInt = Field(100, description="places that are tried before a tumour is left out")
    reach: Annotated[float, Field(ge=1)] = Field(1.3, description="reach of the mass effect, of the radius [2]")
    push: Fraction = Field(0.3, description="intensity of the mass effect: the centre grows by 1 / (1 - push) [2]")
    capsule_share: Fraction = Field(1.0, description="share of tumours that have a capsule")
    capsule_hu: NonNegativeFloat = Field(80.0, description="what the capsule adds, HU, before it is blurred [2]")
    capsule_band: Span = Field((0.4, 0.7), description="part of the blurred border that is capsule [2]")
    capsule_blur_mm: PositiveFloat = Field(0.8, description="standard deviation of the blur of the capsule, mm [2]")

    @model_validator(mode="after")
    def _ranges_lie_in_order(self) -> Self:
        if self.middle[0] >= self.middle[1]:
            raise ValueError("middle has no extent")
        if self.capsule_band[1] >= 1:
            raise ValueError("capsule_band reaches 1, which no border has")
        if self.push >= 1:
            raise ValueError("push must be below 1")
        return self


SIZES = (
    TumourSize(radius_mm=(4, 4), number=(3, 10)),
    TumourSize(radius_mm=(8, 8), number=(3, 10)),
    TumourSize(radius_mm=(16, 16), number=(2, 5)),
    TumourSize(radius_mm=(32, 32), number=(1, 3)),
)
"""Tiny, small, medium and large, as [1] has them."""


class Tumours(Section):
    """Tumours that are painted onto healthy scans while a segmentation is trained."""

    share: Fraction = Field(
        0.0, description="share of the patches of healthy scans that tumours are painted into; 0 is none, [1] has 0.9"
    )
    organs: tuple[str, ...] = Field((), description="names of the classes that tumours grow in")
    lesion: str = Field("", description="name of the class that a painted voxel gets")
    sizes: tuple[TumourSize, ...] = Field(
        SIZES, min_length=1, description="classes of sizes, drawn with equal chance: radii in mm, and how many"
    )
    mixed: Fraction = Field(0.2, description="share of patches whose tumours have each a class of sizes of its own [1]")
    healthy_only: bool = Field(
        True, description="leave cases alone whose label map has the lesion class already; else all are painted on"
    )
    rules: TumourRules = Field(
        default_factory=TumourRules,
        description="constants of the painter; sources: [1] Hu et al., CVPR 2023, [2] a "
        "reproduction of all rules of [1], [3] Lai et al., MICCAI 2024",
    )
