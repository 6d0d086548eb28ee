"""The sections of the settings. A default has its one home here; help, docs and schema are made from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    WithJsonSchema,
)
from pydantic_core import PydanticKnownError

from voco_cli.config.backbones import BACKBONES
from voco_cli.errors import UsageError
from voco_cli.object_stores import location

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the settings: frozen, and strict about keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def split_extent(value: Any) -> Any:
    """Read ``"4x4"``, ``"4x4x2"`` or ``"96,96,96"`` as a tuple; leave everything else to pydantic."""
    if isinstance(value, str):
        return tuple(part.strip() for part in re.split(r"[xX,]", value.strip("[]() ")))
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError(f"the lower end {value[0]:g} is not below the upper end {value[1]:g}")
    return value


def _switch(value: Any) -> Any:
    """Return ``on`` or ``off`` for the truth value that YAML makes of either."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
"""On, off, or whatever suits."""

SizeXYZ = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], BeforeValidator(split_extent)]
"""Extent in voxels along x, y, z; ``96x96x96`` on a command line."""

SpacingXYZ = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(split_extent)]
"""Distance of voxel centres in millimetres along x, y, z."""

GridShape = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3), BeforeValidator(split_extent)]
"""Base crops along x, y and, where given, z; ``4x4`` or ``4x4x2`` on a command line."""

Interval = Annotated[tuple[float, float], BeforeValidator(split_extent), AfterValidator(_ordered)]
"""Lower and upper end; ``-175,250`` on a command line."""

Counts = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(split_extent), AfterValidator(_ordered)]
"""Least and most; ``10,40`` on a command line."""

Shares = Annotated[tuple[Fraction, Fraction], BeforeValidator(split_extent), AfterValidator(_ordered)]
"""Least and most share; ``0.1,0.5`` on a command line."""


def _place(path: Path) -> Path:
    try:
        return location(path)
    except UsageError as error:
        raise ValueError(error.message.rstrip(".")) from error


Place = Annotated[Path, AfterValidator(_place)]
"""A folder or file, or the URL of one in an object store."""

Auto = Literal["auto"]


class Run(Section):
    """Where a run writes and what it runs on."""

    dir: Path = Field(Path("runs/pretrain"), description="run folder; the same command on the same folder resumes")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="device to compute on: auto (a GPU if there is one), cpu, cuda, cuda:N or mps",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format of the networks; auto is bf16 on a GPU that has it, else fp32"
    )
    compile: bool = Field(
        False,
        description="pre-training on a GPU: torch.compile makes one graph of the encoder; the first step takes minutes",
    )
    keep_memory: bool = Field(
        True,
        description="keep freed memory in the process (glibc): faster on a CPU, at the price of a higher footprint",
    )
    threads: PositiveInt | Auto = Field("auto", description="CPU threads of the tensor library; auto leaves its choice")
    loggers: tuple[Literal["tensorboard"], ...] = Field(
        ("tensorboard",), description="where the numbers of a run go beside metrics.jsonl"
    )


Mix = Literal["proportional", "sqrt", "equal"]
"""How often sets of different size are drawn."""


class Data(Section):
    """Which scans, and how they are fed."""

    file: Path | None = Field(None, description="data.json as `voco index` writes it")
    root: Path | None = Field(
        None, description="folder with the data sets of tasks (also VOCO_DATA); none is ./data where it exists"
    )
    workers: NonNegativeInt | Auto = Field(
        "auto", description="loader processes a process; auto is its cores - 1, at most 8"
    )
    prefetch: PositiveInt = Field(4, description="batches that each loader process prepares ahead")
    mix: Mix = Field(
        "proportional",
        description="pre-training: how often label sets, and data sets without labels, are drawn: by their scans, by "
        "the square root of these, or alike",
    )
    scratch_gb: PositiveFloat = Field(
        50.0, description="local copies of files in object stores, GB in all; the least recently used goes first"
    )
    scratch_dir: Path | None = Field(
        None, description="folder of those copies; none is voco-scratch-USER in the folder for temporary files"
    )


class Preprocess(Section):
    """Deterministic steps, in this order: RAS, spacing, intensity to [0, 1], foreground box, padding, resize."""

    spacing_mm: SpacingXYZ | None = Field(None, description="resample to this voxel spacing, mm; none keeps the scan's")
    intensity: Literal["window", "percentiles"] = Field(
        "window", description="what maps to [0, 1]: window_hu (CT) or percentiles of the scan itself (MR)"
    )
    window_hu: Interval = Field((-175.0, 250.0), description="intensity window, HU, used by intensity=window")
    percentiles: Interval = Field((0.5, 99.5), description="percentiles of the scan, used by intensity=percentiles")
    foreground_above: Fraction | None = Field(
        0.0, description="cut to the box of voxels above this value in [0, 1]; none keeps the whole scan"
    )
    min_size_vox: SizeXYZ | None = Field(
        None, description="pad with zeros, evenly on both sides, up to this size, voxels"
    )
    resize_vox: SizeXYZ | None = Field(None, description="resize to this size, voxels (trilinear, corners aligned)")


class Cache(Section):
    """The store of preprocessed volumes."""

    dir: Place | None = Field(
        None, description="cache folder, or s3://BUCKET/FOLDER; none is .voco-cache beside data.json"
    )
    dtype: Literal["uint8", "int16", "float16"] = Field(
        "uint8", description="number format of [0, 1] on disk; uint8 holds a CT window in 256 steps"
    )
    codec: Literal["zstd", "lz4"] = Field("zstd", description="zstd is smaller, lz4 faster to read")
    level: int = Field(1, ge=1, le=9, description="compression level; higher is smaller and slower to write")
    chunk_vox: SizeXYZ = Field((96, 96, 96), description="chunk of the stored array, voxels: the unit of reading")
    block_vox: SizeXYZ = Field((48, 48, 48), description="block inside a chunk, voxels: the unit of decompression")
    workers: PositiveInt | Auto = Field("auto", description="processes that build the cache; auto is one a core")
    full_hash: bool = Field(False, description="key scans by a hash of the whole file, not by size, time and header")


class Crops(Section):
    """Base crops that tile a volume, and the random crops that are located among them."""

    grid: GridShape = Field((4, 4), description="base crops along x, y and, if given, z")
    size: SizeXYZ = Field((96, 96, 96), description="random crop, voxels of the preprocessed volume")
    base_size: SizeXYZ | None = Field(None, description="base crop, voxels; none is the size of a random crop")
    input_size: SizeXYZ | None = Field(
        None, description="crops are resized to this before the network, voxels; none keeps their size"
    )
    random_per_volume: PositiveInt = Field(2, description="random crops of a volume in a step")
    odd_box: Literal["whole", "floored"] = Field(
        "whole",
        description="box of a crop of odd size in its label: whole, or floored in the plane to an even size as "
        "released (labels then sum to less than 1)",
    )

    @property
    def base_size_vox(self) -> tuple[int, int, int]:
        """Size of a base crop, voxels."""
        return self.base_size or self.size

    @property
    def grid_xyz(self) -> tuple[int, int, int]:
        """Base crops along x, y, z; a plane grid has one along z."""
        return (self.grid[0], self.grid[1], self.grid[2] if len(self.grid) == 3 else 1)

    @property
    def region_vox(self) -> tuple[int, int, int]:
        """The part of a volume that the base crops tile, voxels."""
        grid, size = self.grid_xyz, self.base_size_vox
        return (grid[0] * size[0], grid[1] * size[1], grid[2] * size[2])

    @property
    def network_size_vox(self) -> tuple[int, int, int]:
        """Size of a crop as the network gets it, voxels."""
        return self.input_size or self.size


class Augment(Section):
    """Random changes of every crop, random and base, each with its own draw; labels stay."""

    flip_prob: Fraction = Field(0.2, description="probability of a flip, for each of the three axes")
    rotate_prob: Fraction = Field(0.2, description="probability of 1, 2 or 3 quarter turns in the x-y plane")
    shift_prob: Fraction = Field(0.1, description="probability of an intensity shift")
    shift_max: NonNegativeFloat = Field(0.1, description="largest intensity shift, of the range [0, 1]")
    scale_prob: Fraction = Field(0.0, description="fine-tuning: probability of an intensity scaling")
    scale_max: Fraction = Field(0.1, description="fine-tuning: largest intensity scaling, 0.1 is 0.9 to 1.1")
    noise_prob: Fraction = Field(0.0, description="fine-tuning: probability of white noise")
    noise_sd: NonNegativeFloat = Field(0.1, description="fine-tuning: largest standard deviation of the noise")
    affine_prob: Fraction = Field(0.0, description="fine-tuning: probability of a rotation, zoom and shift in space")
    affine_degrees: NonNegativeFloat = Field(15.0, description="fine-tuning: largest rotation about each axis, degrees")
    affine_zoom: Fraction = Field(0.2, description="fine-tuning: largest zoom, 0.2 is 0.8 to 1.2")
    affine_shift: Fraction = Field(0.1, description="fine-tuning: largest shift, share of the patch")


def _registered(value: Any) -> Any:
    if not isinstance(value, str) or value not in BACKBONES:
        *others, last = map(repr, BACKBONES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return value


BackboneName = Annotated[str, BeforeValidator(_registered), WithJsonSchema({"enum": list(BACKBONES), "type": "string"})]
"""A key of `BACKBONES`."""


class Model(Section):
    """The encoder and its projector."""

    backbone: BackboneName = Field(
        "swinunetr", description="network: MONAI's SwinUNETR, its DynUNet, or nnU-Net's residual encoder U-Net"
    )
    feature_size: PositiveInt = Field(48, description="channels of the first level; swinunetr needs a multiple of 12")
    patch_merging: Literal["current", "legacy"] = Field(
        "current", description="swinunetr's slices: as MONAI has them since 2025, or with the duplicates of before"
    )
    projector_hidden: tuple[PositiveInt, ...] = Field(
        (2048, 2048), description="widths of the projector's hidden layers"
    )
    projector_out: PositiveInt = Field(2048, description="width of the embedding that is compared")
    levels: int = Field(5, ge=3, le=7, description="levels of unet and resenc; each but the first halves the volume")
    size: Literal["S", "M", "L"] = Field(
        "L",
        description="depth of resenc: L has nnU-Net's blocks, and so has M, whose patches alone are smaller there; S "
        "has fewer",
    )
    weights: str | None = Field(
        None,
        description="weights to start from: run folder, file, or URL such as hf://OWNER/REPO/FILE; none starts fresh",
    )
    weights_collection: str | None = Field(
        None,
        description="collection that the weights were trained on, for those that do not say it: a name of `voco "
        "collections list`, or a YAML file; none is what is known of the authors' files",
    )
    weights_branch: Literal["student", "teacher", "ema"] = Field(
        "student", description="which network of a checkpoint; ema is a copy averaged over the steps, student the raw"
    )
    weights_merging: Literal["auto", "current", "legacy"] = Field(
        "auto", description="patch merging that the weights were trained with; auto is what they say, else legacy"
    )
    transfer: Literal["all", "encoder"] = Field(
        "all",
        description="what is taken of the weights: decoder, and in a pre-training heads and teacher, where they hold "
        "them, or the encoder alone",
    )
    min_loaded: Fraction | None = Field(
        None,
        description="refuse weights that fill less than this share of the encoder's parameters; none is what their "
        "kind should fill",
    )
    input_channels: Literal["reinit", "repeat"] = Field(
        "reinit", description="first layers where the weights have fewer input channels: fresh, or repeated"
    )
    trust_pickle: bool = Field(
        False,
        exclude=True,  # a saved file that had it could not be given back: trust is typed each time
        description="DANGEROUS: read weights from a pickle that names foreign code, and run that code with your "
        "rights; only --trust-pickle sets it",
    )
    checkpointing: Switch = Field(
        "auto", description="recompute activations in the backward pass; auto where memory would not do without"
    )


class Train(Section):
    """Optimizer, schedule and bookkeeping, counted in optimizer steps."""

    steps: PositiveInt = Field(250_000, description="optimizer steps of the whole run")
    batch_size: PositiveInt = Field(2, description="volumes in a step of one process")
    accumulate: PositiveInt = Field(1, description="batches whose gradients are summed for one optimizer step")
    lr: PositiveFloat = Field(1e-4, description="highest learning rate")
    weight_decay: NonNegativeFloat = Field(0.01, description="decoupled weight decay")
    amsgrad: bool = Field(True, description="AdamW with the running maximum of second moments, as released")
    warmup_share: Fraction = Field(0.02, description="share of the steps in which the rate rises linearly")
    warmup_start: Fraction = Field(0.0, description="share of the rate at step 0; 0 as released wastes that step")
    clip_norm: PositiveFloat | None = Field(None, description="largest gradient norm; none does not clip, as released")
    checkpoint_every: PositiveInt = Field(1000, description="steps between checkpoints")
    keep_checkpoints: PositiveInt = Field(2, description="checkpoints that are kept beside the best")
    validate_every: PositiveInt = Field(1000, description="steps between health checks on held-out scans")
    log_every: PositiveInt = Field(10, description="steps between lines in metrics.jsonl")


class Health(Section):
    """The check on held-out scans, and what counts as having learned (see docs/guides/health.md)."""

    cases: PositiveInt = Field(12, description="held-out scans that are looked at, at most")
    crops_per_case: PositiveInt = Field(12, description="fixed random crops of each held-out scan")
    best_by: str | None = Field(
        None,
        description="held-out figure whose lowest value marks the best checkpoint, such as supervised/error; none is "
        "that of the first objective",
    )
    max_rank_ratio: PositiveFloat = Field(
        0.5, description="learned: mean rank of the true base against step 0, at most"
    )
    min_correlation: float = Field(0.5, ge=-1, le=1, description="learned: correlation of logits and labels, at least")
    max_base_cosine: float = Field(
        0.9,
        ge=0,
        le=1,
        description="collapsed: mean cosine of two base crops (contrast: of views of different places), above",
    )
    min_effective_rank: PositiveFloat = Field(
        10.0, description="collapsed: effective rank of the base embeddings below this or a quarter of their number"
    )
