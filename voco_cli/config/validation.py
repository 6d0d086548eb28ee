"""The one settings model, and the rules that hold between its sections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator

from voco_cli.config.backbones import BACKBONES
from voco_cli.config.objective_schema import Objectives, cube_edge
from voco_cli.config.schema import (
    Augment,
    Cache,
    Crops,
    Data,
    Health,
    Model,
    Preprocess,
    Run,
    Section,
    Train,
)
from voco_cli.config.task_schema import Evaluate, Predict, Task


def multiples(size: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Return a size that a network takes: the nearest multiples of each edge, but none that leaves a single voxel."""
    fitting = [max(1, math.floor(edge / multiple + 0.5)) * multiple for edge in size]
    if all(edge == multiple for edge in fitting):
        fitting[:2] = [2 * multiple] * 2
    return tuple(fitting)


OF_STAGES = ("objective", "crops", "augment", "train", "health")
"""Sections that a stage of a pre-training can have for its own."""


def _extent(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


class Settings(Section):
    """Everything that a command does can be read off this model."""

    recipe: str = Field(
        "cvpr",
        description="recipe that the other settings start from, where there is no task: cvpr, tpami, paper, rotation, "
        "mae, contrast, genesis, fusion, supervised, semi, weak, omni, voco-semi, voco-omni, debug or a YAML file",
    )
    seed: NonNegativeInt = Field(0, description="seed of every random draw")
    run: Run = Field(default_factory=Run, description="where a run writes and what it runs on")
    data: Data = Field(default_factory=Data, description="which scans, and how they are fed")
    preprocess: Preprocess = Field(default_factory=Preprocess, description="deterministic preprocessing")
    cache: Cache = Field(default_factory=Cache, description="the store of preprocessed volumes")
    crops: Crops = Field(default_factory=Crops, description="base crops and random crops")
    augment: Augment = Field(default_factory=Augment, description="random changes of each crop")
    model: Model = Field(default_factory=Model, description="encoder and projector")
    objective: Objectives = Field(default_factory=Objectives, description="what is minimised")
    train: Train = Field(default_factory=Train, description="optimizer, schedule, bookkeeping")
    health: Health = Field(default_factory=Health, description="what counts as having learned")
    task: Task = Field(default_factory=Task, description="the labelled task of a fine-tuning")
    predict: Predict = Field(default_factory=Predict, description="applying a network to whole scans")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="measuring predictions")
    stages: tuple[dict[str, Any], ...] = Field(
        (),
        description="pre-training in stages, each a mapping of the settings that it has for its own; a stage starts "
        "from the weights of the one before, with an optimizer and a schedule of its own",
    )

    @property
    def input_size_vox(self) -> tuple[int, int, int]:
        """Return the size of what goes through the network at a time: a crop, a patch or a whole scan, voxels."""
        if self.task.preset is None:
            return self.crops.network_size_vox
        if self.task.is_voxelwise:
            return self.task.patch_size
        assert self.preprocess.resize_vox is not None  # refused below
        return self.preprocess.resize_vox

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.stages and self.task.preset is None:
            problems = self._stage_problems()
        elif self.task.preset is None:
            problems = [*self._crop_problems(), *self._model_problems(), *self._objective_problems()]
        else:
            problems = self._task_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _crop_problems(self) -> list[str]:
        crops, problems = self.crops, []
        grid_is_used = "voco" in self.objective.active()
        if grid_is_used and set(crops.grid) == {1}:
            problems.append(f"crops.grid {_extent(crops.grid)} has one base crop, and nothing to tell it from")
        region, volume = self.objective.region_vox(crops), self.preprocess.resize_vox
        if any(c > r for c, r in zip(crops.size, region, strict=True)):
            problems.append(f"crops.size {_extent(crops.size)} is larger than the region {_extent(region)} of the grid")
        if volume and any(r > v for r, v in zip(region, volume, strict=True)):
            problems.append(
                f"crops.grid {_extent(crops.grid)} of base crops {_extent(crops.base_size_vox)} spans "
                f"{_extent(region)} voxels and does not fit into preprocess.resize_vox {_extent(volume)}"
            )
        if crops.base_size and crops.base_size != crops.size and crops.input_size is None:
            problems.append("crops.base_size differs from crops.size, so crops.input_size must be given")
        if self.augment.rotate_prob > 0 and crops.network_size_vox[0] != crops.network_size_vox[1]:
            problems.append(
                f"augment.rotate_prob above 0 needs crops that are square in the plane, not "
                f"{_extent(crops.network_size_vox)}"
            )
        return problems

    def _model_problems(self) -> list[str]:
        model, size, problems = self.model, self.crops.network_size_vox, self._width_problems()
        rules, name = BACKBONES[model.backbone], model.backbone
        multiple = rules.multiple(model.levels)
        if rules.any_size:
            if any(edge <= multiple for edge in size):
                problems.append(
                    f"crops reach the network as {_extent(size)}, less than {multiple + 1} voxels an edge ({name})"
                )
        elif any(edge % multiple for edge in size):
            problems.append(f"crops reach the network as {_extent(size)}, not multiples of {multiple} voxels ({name})")
        elif set(size) == {multiple}:  # one voxel at the last level, which has no variance for its norm
            least = _extent((2 * multiple, multiple, multiple))
            problems.append(f"crops reach the network as {_extent(size)}, and the least is {least} ({name})")
        return problems

    def _width_problems(self) -> list[str]:
        model, multiple = self.model, BACKBONES[self.model.backbone].width_multiple
        if model.feature_size % multiple == 0:
            return []
        return [f"model.feature_size {model.feature_size} is not a multiple of {multiple} ({model.backbone})"]

    def _objective_problems(self) -> list[str]:
        active, voco, problems = self.objective.active(), self.objective.voco, []
        if not active:
            *names, last = (f"objective.{name}.weight" for name in type(self.objective).model_fields)
            return [f"{', '.join(names)} and {last} are all 0, and nothing is left to learn"]
        if "voco" in active:
            if voco.inter_weight > 0 and self.train.batch_size < 2:
                problems.append(
                    "objective.voco.inter_weight compares volumes of a step, so train.batch_size must be at least 2"
                )
            if voco.teacher == "none" and (voco.symmetric or voco.inter_weight > 0):
                problems.append(
                    "objective.voco.symmetric and objective.voco.inter_weight need a teacher, but "
                    "objective.voco.teacher is none"
                )
        if "contrast" in active:
            problems += self._contrast_problems()
        if "fusion" in active and self.train.batch_size * self.crops.random_per_volume < 2:
            problems.append(
                "objective.fusion mixes two crops of a step, so train.batch_size or crops.random_per_volume must be at "
                "least 2"
            )
        if "rotation" in active:
            size, orientations = self.crops.size, self.objective.rotation.orientations
            if size[0] != size[1] or (orientations == 24 and size[1] != size[2]):
                shape = "cubes" if orientations == 24 else "square in the plane"
                problems.append(
                    f"objective.rotation.orientations {orientations} needs crops that are {shape}, not {_extent(size)}"
                )
        if "mae" in active:
            problems += self._mae_problems()
        if "supervised" in active:
            problems += self._supervised_problems()
        elif "pseudo" in active:
            problems.append("objective.pseudo needs objective.supervised, from which its teacher learns")
        for name in active:
            if getattr(getattr(self.objective, name), "decoder", None) == "segmentation":
                problems += self._decoder_problems(name)
        return problems

    def _mae_problems(self) -> list[str]:
        mae, size = self.objective.mae, self.crops.network_size_vox
        edge, suits = cube_edge(mae.cube_vox, size), cube_edge("auto", size)
        hint = f", where {suits} would do" if suits > 1 else ""
        reached = f"crops that reach the network as {_extent(size)}"
        problems = []
        if mae.cube_vox == "auto" and edge == 1:
            problems.append(f"objective.mae.cube_vox auto finds no cubes that tile {reached}")
        elif edge > min(size):
            problems.append(f"objective.mae.cube_vox {edge} is larger than {reached}{hint}")
        elif any(one % edge for one in size):
            problems.append(f"objective.mae.cube_vox {edge} does not divide {reached}{hint}")
        else:
            cubes = math.prod(size) // edge**3
            if int(mae.share * cubes) == 0:
                problems.append(f"objective.mae.share {mae.share:g} hides none of the {cubes} cubes of a crop")
        if mae.masking == "sparse" and not BACKBONES[self.model.backbone].sparse:
            able = ", ".join(name for name, rules in BACKBONES.items() if rules.sparse)
            problems.append(
                f"objective.mae.masking sparse needs a network that can leave voxels out ({able}), not "
                f"{self.model.backbone}"
            )
        return problems

    def _supervised_problems(self) -> list[str]:
        options, crops, problems = self.objective.supervised, self.crops, []
        if crops.network_size_vox != crops.size:
            sizes = (_extent(crops.network_size_vox), _extent(crops.size))
            problems.append(
                f"objective.supervised takes crops as they are, and crops.input_size {sizes[0]} is not crops.size "
                f"{sizes[1]}"
            )
        pseudo = self.objective.pseudo
        is_released = pseudo.rule == "argmax" and pseudo.threshold == 0.5 and not pseudo.thresholds
        if options.loss == "softmax" and pseudo.weight > 0 and not is_released:
            problems.append(
                "objective.supervised.loss softmax needs pseudo-labels of all voxels: objective.pseudo.rule argmax, "
                "threshold 0.5 and no thresholds"
            )
        most = BACKBONES[self.model.backbone].most_supervision(self.model.levels)
        if options.deep_supervision > most:
            problems.append(
                f"objective.supervised.deep_supervision {options.deep_supervision} is more than the {most} of "
                f"{self.model.backbone}"
            )
        return problems

    def _decoder_problems(self, objective: str) -> list[str]:
        """Return what keeps an objective from training the decoder of the segmentation network."""
        model, size = self.model, self.crops.network_size_vox
        multiple = BACKBONES[model.backbone].multiple(model.levels)
        if all(edge % multiple == 0 for edge in size):
            return []
        return [
            f"objective.{objective}.decoder segmentation needs crops that reach the network in multiples of {multiple} "
            f"voxels ({model.backbone}), not as {_extent(size)}"
        ]

    def _stage_problems(self) -> list[str]:
        """Return what is wrong with any stage, as settings of its own."""
        problems = []
        for number, stage in enumerate(self.stages, 1):
            if odd := [key for key in stage if key not in OF_STAGES]:
                network = ", as all stages share one network" if "model" in odd else ""
                problems.append(f"stage {number} sets {odd[0]}, and a stage has only {', '.join(OF_STAGES)}{network}")
                continue
            try:
                in_stage(self, stage)
            except ValidationError as error:
                for one in error.errors():
                    place = ".".join(map(str, one["loc"]))
                    problems.append(
                        f"stage {number}: {place}{': ' if place else ''}{one['msg'].removeprefix('Value error, ')}"
                    )
        return problems

    def _contrast_problems(self) -> list[str]:
        """Return what keeps a view from having any that it is told from."""
        negatives, views, scans = self.objective.contrast.negatives, self.crops.random_per_volume, self.train.batch_size
        enough, compared, needed = {
            "across": (scans > 1, "scans", "train.batch_size"),
            "within": (views > 1, "views of a scan", "crops.random_per_volume"),
            "both": (scans * views > 1, "all views", "train.batch_size or crops.random_per_volume"),
        }[negatives]
        told = f"objective.contrast.negatives {negatives} compares {compared} in a step, so {needed} must be at least 2"
        return [] if enough else [told]

    def _task_problems(self) -> list[str]:
        """Return what is wrong between the settings of a labelled task."""
        task, model, problems = self.task, self.model, []
        if not task.is_voxelwise and self.preprocess.resize_vox is None:
            return [f"preprocess.resize_vox must be given: a {task.kind} sees whole scans of one size"]
        key, size = "task.patch_size" if task.is_voxelwise else "preprocess.resize_vox", self.input_size_vox
        rules = BACKBONES[model.backbone]
        multiple, most = rules.multiple(model.levels), rules.most_supervision(model.levels)
        if any(edge % multiple for edge in size):
            problems.append(
                f"the network gets {_extent(size)} voxels, not multiples of {multiple} ({model.backbone}), "
                f"where {key}={_extent(multiples(size, multiple))} would do"
            )
        elif set(size) == {multiple}:  # one voxel at the last level, which has no variance for its norm
            problems.append(
                f"the network gets {_extent(size)} voxels, and the last level of {model.backbone} only one, "
                f"where {key}={_extent(multiples(size, multiple))} would do"
            )
        problems += self._width_problems()
        if task.deep_supervision > most:
            problems.append(
                f"task.deep_supervision {task.deep_supervision} is more than the {most} of {model.backbone}"
            )
        if task.freeze_encoder and model.weights is None:
            problems.append("task.freeze_encoder needs model.weights, or the encoder would stay random")
        if len(task.channels) > 1 and self.preprocess.foreground_above is not None:
            problems.append("preprocess.foreground_above must be none, or the channels would be cut differently")
        if task.cases is not None and task.fraction < 1:
            problems.append("task.cases and task.fraction both say how much is used: give one")
        if self.augment.rotate_prob > 0 and size[0] != size[1]:
            problems.append(
                f"augment.rotate_prob above 0 needs patches that are square in the plane, not {_extent(size)}"
            )
        if task.tumours.share > 0:
            problems += self._tumour_problems()
        return problems

    def _tumour_problems(self) -> list[str]:
        """Return what keeps tumours from being painted onto the patches of a task."""
        task, tumours = self.task, self.task.tumours
        if not task.is_voxelwise:
            return [f"task.tumours.share paints label maps, and the task is a {task.kind}"]
        problems = []
        names = [one.name for one in task.classes]
        given = {"task.tumours.organs": tumours.organs, "task.tumours.lesion": (tumours.lesion,) * bool(tumours.lesion)}
        if lacking := [key for key, named in given.items() if not named]:
            verb = "names" if len(lacking) == 1 else "name"
            problems.append(f"task.tumours.share is above 0, and {' and '.join(lacking)} {verb} no class")
        for key, named in given.items():
            if unknown := [one for one in named if one not in names]:
                problems.append(f"{key} names {unknown[0]!r}, and the classes are {', '.join(names)}")
        if tumours.lesion in tumours.organs:
            problems.append(f"task.tumours.lesion {tumours.lesion!r} is one of task.tumours.organs, too")
        if self.preprocess.intensity != "window":
            problems.append("task.tumours paints Hounsfield units, so preprocess.intensity must be window")
        if len(task.channels) > 1:
            problems.append(f"task.tumours paints scans of one channel, and the task has {len(task.channels)}")
        return problems


def in_stage(settings: Settings, stage: Mapping[str, Any]) -> Settings:
    """Return the settings of one stage of a pre-training.

    Raises:
        ValidationError: they do not fit each other.
    """
    values = settings.model_dump(exclude={"stages"})
    values["model"]["trust_pickle"] = settings.model.trust_pickle  # left out of what is dumped
    return Settings.model_validate(_updated(values, stage))


def _updated(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with nested changes."""
    changed = dict(values)
    for key, value in changes.items():
        is_section = isinstance(value, Mapping) and isinstance(values.get(key), Mapping)
        changed[key] = _updated(values[key], value) if is_section else value
    return changed


def field_descriptions(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted key and description of every single setting, in the order of the model."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from field_descriptions(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.description or ""
