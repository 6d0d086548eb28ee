"""VoCo pre-training as a job of the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.data.index.patients import case_of
from voco_cli.data.index.trained_on import MANIFEST_FILE, TrainingManifest, write_manifest
from voco_cli.errors import UsageError
from voco_cli.figures.location import LocatedCrop, LocationPanel, draw_location
from voco_cli.models.build import build_encoder, compile_encoder
from voco_cli.models.memory import plan_grouping, training_bytes
from voco_cli.models.weights import LoadReport, write_encoder
from voco_cli.models.weights.load import load_start
from voco_cli.objectives.voco.augment import network_input, to_unit
from voco_cli.objectives.voco.model import Projector, VolumeContrast
from voco_cli.pretrain.dataset import Case, CropBatch, CropDataset, collate
from voco_cli.pretrain.starting_weights import require_same_merging
from voco_cli.pretrain.validation import HealthCheck, Look
from voco_cli.training.dataloader import BatchPlan, load_batches
from voco_cli.training.distributed import in_half
from voco_cli.training.errors import translate_errors
from voco_cli.training.task import DeviceContext, ParameterGroup, Values, one_group

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


def build_model(settings: Settings, device: torch.device) -> VolumeContrast:
    """The model of the settings, with weights from their seed.

    Args:
        device: where it will run; decides how crops go through the encoder.
    """
    crops, model = settings.crops, settings.model
    num_bases = crops.grid_xyz[0] * crops.grid_xyz[1] * crops.grid_xyz[2]
    rows = settings.train.batch_size * (crops.random_per_volume + num_bases)
    torch.manual_seed(settings.seed)
    contrast = VolumeContrast(
        lambda: build_encoder(model),
        lambda features: Projector(features, model.projector_hidden, model.projector_out),
        settings.objective,
    )
    learning = sum(p.numel() for p in contrast.parameters() if p.requires_grad)
    kept = sum(tensor.numel() for tensor in contrast.state_dict().values())
    taken = training_bytes(kept, learning, amsgrad=settings.train.amsgrad)
    half = in_half(settings.run, device)
    grouping = plan_grouping(model, rows, crops.network_size_vox, device, half=half, network_bytes=taken)
    contrast.group_size, contrast.recompute = grouping.size, grouping.recompute
    if settings.run.compile and device.type == "cuda":
        for encoder in (contrast.encoder, contrast.teacher_encoder):
            if encoder is not None:
                compile_encoder(encoder)
    return contrast


class PretrainingTask:
    """Model, batches, loss and health check of a pre-training run.

    Args:
        settings: the resolved settings.
        training, held_out: cases to train on and to look at.
        device: where it will run.
        seen: gives what the weights will have been trained on; asked once, when it is written beside them, as the
            digests of many patients take minutes.
        pictures: where the main process draws each look at the held-out scans; None draws none.
    """

    score_name = "rank"

    def __init__(
        self,
        settings: Settings,
        training: Sequence[Case],
        held_out: Sequence[Case],
        device: torch.device,
        seen: Callable[[], TrainingManifest],
        pictures: Path | None = None,
    ) -> None:
        self.settings = settings
        self.seen = seen
        self.pictures = pictures
        self.training = training
        self.model: nn.Module = build_model(settings, device)
        self.health = HealthCheck(held_out, settings)
        self.history: dict[str, dict[str, float]] = {}
        self.place: DeviceContext | None = None

    @property
    def voco(self) -> VolumeContrast:
        """The model, by its own type."""
        assert isinstance(self.model, VolumeContrast)
        return self.model

    def load_start(self) -> LoadReport | None:
        """Fill the student's encoder, and a teacher's of its own, with the weights that the settings name.

        Raises:
            UsageError, DataError: as `load_start`; or weights whose patch merging is not the settings'.
        """
        model = self.settings.model
        report = load_start(self.voco.encoder, model)
        if report is None:
            return None
        require_same_merging(report, model)
        if self.voco.teacher_encoder is not None:
            self.voco.teacher_encoder.load_state_dict(self.voco.encoder.state_dict())
        return report

    def parameter_groups(self) -> list[ParameterGroup]:
        """Everything at one rate."""
        return one_group(self.model)

    def start(self, place: DeviceContext) -> None:
        """Remember where we run."""
        self.place = place

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Batches of this process, from a loader whose processes end when the generator is closed."""
        assert self.place is not None
        settings, place = self.settings, self.place
        plan = batch_plan(settings, len(self.training), place.process, place.num_processes)
        dataset = CropDataset(self.training, settings, self.voco.embedding_features)
        yield from load_batches(dataset, plan, (first, last), collate, settings.data, place)

    def cases(self, batch: CropBatch) -> Sequence[str]:
        """Names of the scans of a batch."""
        return batch.names

    def loss(self, model: nn.Module, batch: CropBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Copy stored crops to the device, make them what the network gets, and compute the terms there."""
        assert self.place is not None
        device, split = self.place.device, len(batch.random_RXYZ)
        size = self.settings.crops.network_size_vox
        parts = [
            network_input(
                stored.to(device, non_blocking=True),
                batch.flips_N3[rows],
                batch.turns_N[rows],
                batch.shifts_N[rows],
                size,
            )
            for stored, rows in ((batch.random_RXYZ, slice(split)), (batch.bases_RXYZ, slice(split, None)))
        ]
        keep = batch.keep_NE.to(device, non_blocking=True) if self.settings.objective.dropout > 0 else None
        labels = batch.labels_BSK.to(device, non_blocking=True)
        terms: Mapping[str, Tensor] = model(torch.cat(parts), labels, keep, first_of_step)
        return terms

    def validate(self, step: int) -> Values:
        """Figures on the held-out scans; at step 0 the student is its own teacher, so that the start is comparable."""
        assert self.place is not None
        look = self.health.look(self.voco, self.place, own_teacher=step == 0)
        if look is None:
            return {}
        self.history[str(step)] = dict(look.figures)
        if self.pictures is not None and self.place.process == 0:
            path = self.pictures / f"step-{step:06d}.png"
            with translate_errors(self.pictures.parent.parent, f"the picture of step {step} could not be written"):
                draw_location(location_panel(self.health, look, step), path)
        return look.figures

    def state(self) -> dict[str, Any]:
        """The history of figures, for the verdict after a resume, and a fingerprint of the scans."""
        return {"history": self.history, "num_scans": len(self.training), "scans": self._scans}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            UsageError: other scans can be used now, so that the batches would be others.
        """
        if state["scans"] != self._scans:
            raise UsageError(
                f"The run was trained on {state['num_scans']} usable scans and would go on with {len(self.training)} "
                f"that are not the same.",
                "see what was left out and mend it, or start anew in another run.dir",
            )
        self.history = state["history"]

    @property
    def _scans(self) -> str:
        names = "\n".join(case.name for case in self.training)
        return hashlib.blake2b(names.encode(), digest_size=16).hexdigest()

    def export(self, folder: Path, step: int) -> None:
        """Write the student's encoder with the proof of what it learned, and once what it was trained on."""
        settings = self.settings
        looks = sorted(int(looked) for looked in self.history if int(looked) <= step)
        start, last = (self.history[str(looked)] for looked in (looks[0], looks[-1])) if looks else ({}, {})
        about = {
            "step": step,
            "branch": "student",
            "model": settings.model.model_dump(mode="json"),
            "preprocess": settings.preprocess.model_dump(mode="json"),
            "crops": settings.crops.model_dump(mode="json"),
            "recipe": settings.recipe,
            "seed": settings.seed,
            "figures": self.history.get(str(step), {}),
            "start_figures": start,
            "verdict": asdict(self.health.verdict(start, last)) if looks else None,
        }
        if not (folder / MANIFEST_FILE).is_file():
            write_manifest(self.seen(), folder / MANIFEST_FILE)
        write_encoder(folder, self.voco.encoder, about)


def batch_plan(settings: Settings, num_cases: int, process: int, num_processes: int) -> BatchPlan:
    """Who sees which scan when.

    Raises:
        UsageError: there are fewer scans than a step needs.
    """
    return BatchPlan(num_cases, settings.train.batch_size, settings.seed, process, num_processes)
