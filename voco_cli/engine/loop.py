"""The one training loop (design section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from voco_cli.engine.checkpoints import list_checkpoints, load_checkpoint, rotate, save_checkpoint
from voco_cli.engine.device import place_of
from voco_cli.engine.job import Job, Values, Watcher
from voco_cli.engine.metrics import MetricsWriter
from voco_cli.engine.recent import Recent
from voco_cli.engine.run_folder import RunFolder
from voco_cli.engine.schedule import learning_rate
from voco_cli.engine.signals import StopRequest
from voco_cli.errors import Interrupted, VocoError
from voco_cli.settings.sections import Train


@dataclass
class Loop:
    """One run of a job from its last checkpoint to its last step.

    Every process runs it; the main one writes.
    """

    job: Job
    train: Train
    folder: RunFolder
    accelerator: Accelerator
    watcher: Watcher
    step: int = 0
    score: float | None = None
    saved_step: int = -1
    recent: Recent = field(default_factory=Recent)

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal came; a checkpoint was written.
            DataError: the loss is not finite, a cached scan is damaged.
            ResourceError: the disk is full.
        """
        self._prepare()
        metrics = MetricsWriter(self.folder.metrics_file, self.folder.tensorboard, self.step) if self._is_main else None
        self.metrics = metrics
        try:
            with StopRequest() as stop:
                self.watcher.started(self.step, self.train.steps)
                if self.step == 0:
                    self._validate()
                self._write_state("running")
                self._train(stop)
            self._write_state("done")
        except VocoError as error:
            self._write_state("interrupted" if isinstance(error, Interrupted) else "failed", error.message)
            raise
        finally:
            if metrics is not None:
                metrics.close()

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _prepare(self) -> None:
        job, train = self.job, self.train
        job.model.to(self.accelerator.device)
        parameters = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=train.lr, weight_decay=train.weight_decay, amsgrad=train.amsgrad, foreach=True
        )
        checkpoints = list_checkpoints(self.folder.checkpoints)
        if checkpoints:
            job.restore(load_checkpoint(checkpoints[-1], job.model, optimizer))
            self.step, self.score = checkpoints[-1].step, checkpoints[-1].score
            self.saved_step = self.step
        self.parameters = parameters
        self.model, self.optimizer = self.accelerator.prepare(job.model, optimizer)
        job.start(place_of(self.accelerator))

    def _train(self, stop: StopRequest) -> None:
        train = self.train
        batches = iter(self.job.batches(self.step * train.accumulate, train.steps * train.accumulate))
        self.recent = Recent()
        while self.step < train.steps:
            self._optimize(batches)
            self.step += 1
            self.watcher.advanced(self.step)
            last = self.step == train.steps
            if last or self.step % train.log_every == 0:
                self._log()
            if last or self.step % train.validate_every == 0:
                self._validate()
            if last or self.step % train.checkpoint_every == 0:
                self._checkpoint()
            if not last and self._asked_to_stop(stop):
                self._checkpoint()
                raise Interrupted(
                    f"Stopped by {stop.signal.name if stop.signal else 'a signal'} after step {self.step}; "
                    f"a checkpoint was written.",
                    "run the same command again to go on",
                )

    def _optimize(self, batches: Iterator[Any]) -> None:
        """One optimizer step from ``train.accumulate`` batches."""
        train = self.train
        rate = learning_rate(self.step, train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for part in range(train.accumulate):
            with self.recent.waiting():
                batch = next(batches)
            if isinstance(batch, VocoError):
                raise batch
            is_last = part == train.accumulate - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                terms = dict(self.job.loss(self.model, batch, first_of_step=part == 0))
                self.accelerator.backward(terms["loss"] / train.accumulate)
            if is_last:
                terms["grad_norm"] = self._gradient_norm()
            else:
                terms["grad_norm"] = torch.zeros_like(terms["loss"])
            self.recent.add(self.step, terms, self.job.cases(batch))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _gradient_norm(self) -> Tensor:
        limit = self.train.clip_norm if self.train.clip_norm is not None else float("inf")
        norm: Tensor = torch.nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        return norm

    def _log(self) -> None:
        if not self.recent.terms:
            return
        values = {
            **self.recent.means(),
            "lr": learning_rate(self.step - 1, self.train),
            **self.recent.timing(),
        }
        values["grad_norm"] *= self.train.accumulate
        values["cases_per_s"] *= self.accelerator.num_processes
        self._tell("train", values)
        self.watcher.trained(self.step, values)
        self.recent = Recent()

    def _validate(self) -> None:
        self._log()
        figures = self.job.validate(self.step)
        if figures:
            self.score = figures.get(self.job.score_name)
            self._tell("validation", figures)
            self.watcher.validated(self.step, figures)
        self.recent = Recent()

    def _tell(self, split: str, values: Values) -> None:
        if self.metrics is not None:
            self.metrics.write(split, self.step, values)

    def _checkpoint(self) -> None:
        self._log()  # raises before a checkpoint is written if a loss was not finite
        if self._is_main and self.saved_step != self.step:
            bare = self.accelerator.unwrap_model(self.model)
            optimizer = self.optimizer.optimizer
            save_checkpoint(self.folder.checkpoints, self.step, bare, optimizer, self.score, self.job.state())
            rotate(self.folder.checkpoints, self.train.keep_checkpoints)
            self.job.export(self.folder.weights, self.step)
            self._write_state("running")
        self.saved_step = self.step
        self.accelerator.wait_for_everyone()

    def _write_state(self, status: str, reason: str | None = None) -> None:
        if not self._is_main:
            return
        try:
            self.folder.write_state(status, max(self.saved_step, 0) if status == "failed" else self.step, reason)
        except VocoError:
            if status != "failed":  # a full disk has been reported already
                raise

    def _asked_to_stop(self, stop: StopRequest) -> bool:
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        if self.step % self.train.log_every:
            return False  # all processes must agree, and asking costs a synchronisation
        flag = torch.tensor(float(stop.signal is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)
