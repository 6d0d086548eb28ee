"""Pre-training as a task of the trainer: an objective over one encoder, whichever it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voco_cli.config import Settings
from voco_cli.data.index.trained_on import MANIFEST_FILE, TrainingManifest, write_manifest
from voco_cli.data.mixing import SetMix, set_mix
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder, compile_encoder
from voco_cli.models.memory import plan_grouping, training_bytes
from voco_cli.models.weights import LoadReport, write_encoder, write_model
from voco_cli.models.weights.load import load_as_asked, read_start
from voco_cli.models.weights.load_objectives import load_objectives
from voco_cli.models.weights.objectives import find_start
from voco_cli.objectives import build_objective
from voco_cli.objectives.objective import Case, Objective, Verdict, WeightedSum
from voco_cli.objectives.pseudo import Pseudo
from voco_cli.objectives.supervised import Supervised
from voco_cli.pretrain.dataset import PretrainingBatch, PretrainingDataset
from voco_cli.pretrain.labelled_scans import ScanMeasure
from voco_cli.pretrain.pictures import draw_validation
from voco_cli.pretrain.starting_weights import require_same_merging
from voco_cli.training.callbacks import Values
from voco_cli.training.dataloader import BatchPlan, load_batches
from voco_cli.training.distributed import in_half
from voco_cli.training.errors import translate_errors
from voco_cli.training.task import TrainingTask


class PretrainingTask(TrainingTask):
    """Objective, batches and validation of a pre-training run.

    Args:
        settings: the resolved settings.
        objective: of the settings, see `build_model`.
        training, held_out: cases to train on and to validate on.
        seen: gives what the weights will have been trained on; asked once, when it is written beside them, as the
            digests of many patients take minutes.
        pictures: where the main process draws each validation; None draws none.
        label_maps: files of the label maps of held-out cases, by name.
    """

    def __init__(
        self,
        settings: Settings,
        objective: Objective,
        training: Sequence[Case],
        held_out: Sequence[Case],
        seen: Callable[[], TrainingManifest],
        pictures: Path | None = None,
        label_maps: Mapping[str, Path] | None = None,
    ) -> None:
        self.settings = settings
        self.seen = seen
        self.pictures = pictures
        self.training = training
        self.objective = objective
        self.mix = set_mix([case.set_name for case in training], settings.data.mix)
        self.objective.train_on(training)
        self.objective.hold_out(held_out)
        for part in self._parts.values():
            if isinstance(part, Supervised):
                part.measure_scan = ScanMeasure(settings, label_maps or {}, part.inside)
        self.model = self.objective
        self.score_name = self._score_name()
        self.history: dict[str, dict[str, float]] = {}

    def _score_name(self) -> str:
        """Return the held-out figure that marks the best checkpoint.

        Raises:
            UsageError: ``health.best_by`` is no figure of these objectives whose lowest value is the best.
        """
        wanted, infos = self.settings.health.best_by, self.objective.figure_infos
        falling = [name for name, info in infos.items() if info.better == "lower"]
        if wanted is not None and wanted not in falling:
            raise UsageError(
                f"health.best_by {wanted} is no held-out figure that is best at its lowest.",
                f"those of these objectives are {', '.join(falling)}",
            )
        return wanted or self.objective.score_name

    def load_start(self) -> LoadReport | None:
        """Fill the encoder with the weights that the settings name, and what they hold of the objectives beside it.

        A teacher that they do not hold starts from the student.

        Raises:
            UsageError, DataError: as `voco_cli.models.weights.load.load_start`; or weights whose patch merging is not
                the settings'.
        """
        model = self.settings.model
        if model.weights is None:
            return None
        weights = read_start(find_start(model.weights), model)
        report = load_as_asked(self.objective.encoder, weights, model)
        require_same_merging(report, model)
        self.objective.encoder_started()
        if model.transfer == "encoder":
            return report
        report = load_objectives(self._parts, weights, report, model.input_channels)
        for part in self._parts.values():
            if isinstance(part, Pseudo):
                part.begin()  # the weights may hold how far another run was
        return report

    @property
    def _parts(self) -> Mapping[str, Objective]:
        """Each objective by its name, of one or of a sum."""
        objective = self.objective
        if isinstance(objective, WeightedSum):
            return objective.objectives
        return dict.fromkeys(self.settings.objective.active(), objective)

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Yield the batches of this process, from a loader whose processes end when the generator is closed."""
        plan = batch_plan(self.settings, len(self.training), self.here.process, self.here.num_processes, self.mix)
        dataset = PretrainingDataset(self.training, self.objective.sampler)
        yield from load_batches(dataset, plan, (first, last), dataset.collate, self.settings.data, self.here)

    def train_step(self, model: nn.Module, batch: PretrainingBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Make the stored numbers what the network gets, on the device, and compute the terms of the loss there."""
        inputs = self.objective.prepare(batch.drawn, self.here.device)
        terms: Mapping[str, Tensor] = model(*inputs, first_of_step=first_of_step)
        return terms

    def validate(self, step: int) -> Values:
        """Return the figures on the held-out scans, and draw what they look like."""
        found = self.objective.validate(self.here.device, self.here.autocast, at_start=step == 0)
        if found is None:
            return {}
        self.history[str(step)] = dict(found.figures)
        if self.pictures is not None and self.here.process == 0:
            path = self.pictures / f"step-{step:06d}.png"
            with translate_errors(self.pictures.parent.parent, f"the picture of step {step} could not be written"):
                draw_validation(found.picture, step, found.figures, path)
        return found.figures

    def verdict(self) -> Verdict | None:
        """Return what the last validation says against the first; None where there was none."""
        if not self.history:
            return None
        steps = sorted(map(int, self.history))
        return self.objective.verdict(self.history[str(steps[0])], self.history[str(steps[-1])])

    def state(self) -> dict[str, Any]:
        """Return the history of figures, for the verdict after a resume, and a fingerprint of the scans."""
        return {"history": self.history, "num_scans": len(self.training), "scans": self._scans}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state.

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

    @cached_property
    def _scans(self) -> str:
        names = "\n".join(case.name for case in self.training)
        return hashlib.blake2b(names.encode(), digest_size=16).hexdigest()

    def export(self, folder: Path, step: int) -> None:
        """Write the encoder with the proof of what it learned, and once what it was trained on.

        Where the decoder of the segmentation network is trained, the whole network is written beside it.
        """
        settings = self.settings
        verdict, start = self.verdict(), min(map(int, self.history), default=0)
        about = {
            "step": step,
            "branch": "student",
            "model": settings.model.model_dump(mode="json"),
            "preprocess": settings.preprocess.model_dump(mode="json"),
            "crops": settings.crops.model_dump(mode="json"),
            "recipe": settings.recipe,
            "seed": settings.seed,
            "objectives": settings.objective.active(),
            "classes": self.objective.classes,
            "figures": self.history.get(str(step), {}),
            "start_figures": self.history.get(str(start), {}),
            "verdict": asdict(verdict) if verdict else None,
        }
        if not (folder / MANIFEST_FILE).is_file():
            write_manifest(self.seen(), folder / MANIFEST_FILE)
        write_encoder(folder, self.objective.encoder, about)
        if (decoder := self.objective.decoder) is not None:
            chosen = {"chosen": f"those of step {step}, the last that were kept"} if self.objective.classes else {}
            write_model(folder, (self.objective.encoder, decoder), {**about, **chosen})


def build_model(settings: Settings, device: torch.device) -> Objective:
    """Return the objective of the settings over its encoder, with weights from their seed.

    Args:
        device: where it will run; decides how crops go through the encoder.
    """
    crops, model = settings.crops, settings.model
    torch.manual_seed(settings.seed)
    objective = build_objective(settings, build_encoder(model))
    rows = settings.train.batch_size * objective.crops_per_volume
    learning = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    kept = sum(tensor.numel() for tensor in objective.state_dict().values())
    taken = training_bytes(kept, learning, amsgrad=settings.train.amsgrad)
    half = in_half(settings.run, device)
    decoder = settings.objective.decoder
    grouping = plan_grouping(
        model, rows, crops.network_size_vox, device, half=half, network_bytes=taken, decoder=decoder
    )
    objective.set_grouping(grouping.size, grouping.recompute)
    if settings.run.compile and device.type == "cuda":
        for encoder in objective.encoders():
            compile_encoder(encoder)
    return objective


def batch_plan(
    settings: Settings, num_cases: int, process: int, num_processes: int, mix: SetMix | None = None
) -> BatchPlan:
    """Return who sees which scan when.

    Args:
        mix: of the sets of the cases; none shuffles all.
    Raises:
        UsageError: there are fewer scans than a step needs.
    """
    return BatchPlan(num_cases, settings.train.batch_size, settings.seed, process, num_processes, mix)
