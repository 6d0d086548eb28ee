"""The one training loop, for everything that trains."""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from statistics import fmean
from types import FrameType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor

from voco_cli.config.schema import Train
from voco_cli.errors import DataError, Interrupted, ResourceError, VocoError
from voco_cli.operating_system import STOPPING
from voco_cli.training.callbacks import Callback, Values
from voco_cli.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    remove_unfinished,
    rotate,
    save_checkpoint,
)
from voco_cli.training.distributed import device_context, run_on_all, run_on_main
from voco_cli.training.errors import translate_errors, translate_machine_errors
from voco_cli.training.loggers import Loggers
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import TrainingTask


def rate_multiplier(step: int, total: int, warmup: int, start: float = 0.0) -> float:
    """Rise linearly from ``start`` to 1, then follow a cosine to 0 at ``total``; both ends as the released schedule.

    Args:
        step: optimizer step that the rate is used for, from 0.
        total: steps of the whole run.
        warmup: steps of the warm-up; the rate is highest at this step.
        start: share of the highest rate at step 0.
    """
    if step < warmup:
        return start + (1.0 - start) * step / warmup
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))


def learning_rate(step: int, train: Train) -> float:
    """Return the learning rate of an optimizer step under the settings."""
    warmup = round(train.warmup_share * train.steps)
    return train.lr * rate_multiplier(step, train.steps, warmup, train.warmup_start)


@dataclass(frozen=True)
class RemainingWork:
    """The steps, validations and checkpoints that are still to come of a run.

    Attributes:
        steps: optimizer steps.
        validations: of held-out cases, that at the beginning not among them.
        checkpoints: that are written whatever the validations say.
        most_checkpoints: if every validation is the best so far.
    """

    steps: int
    validations: int
    checkpoints: int
    most_checkpoints: int


def remaining_work(train: Train, resumed_step: int = 0) -> RemainingWork:
    """Count what comes after a step."""
    last = train.steps
    if resumed_step >= last:
        return RemainingWork(0, 0, 0, 0)

    def multiples(every: int) -> int:
        return last // every - resumed_step // every + (last % every > 0)

    validations, checkpoints = multiples(train.validate_every), multiples(train.checkpoint_every)
    first = (resumed_step // train.validate_every + 1) * train.validate_every
    only_best = sum(1 for step in range(first, last, train.validate_every) if step % train.checkpoint_every)
    return RemainingWork(last - resumed_step, validations, checkpoints, checkpoints + only_best)


class StopRequest:
    """Context in which SIGTERM, SIGINT, SIGHUP and SIGUSR2 set a flag; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@dataclass
class MetricAccumulator:
    """Terms and cases of the last few steps, and where their time went."""

    terms: list[Mapping[str, Tensor]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    cases: list[Sequence[str]] = field(default_factory=list)
    waited_s: float = 0.0
    began_s: float = field(default_factory=time.perf_counter)
    began_cpu_s: float = field(default_factory=time.process_time)

    def add(self, step: int, terms: Mapping[str, Tensor], cases: Sequence[str]) -> None:
        """Remember a batch of step ``step``, counted from 1; its tensors stay where they are."""
        self.terms.append({name: value.detach() for name, value in terms.items()})
        self.steps.append(step)
        self.cases.append(cases)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count time spent inside as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited_s += time.perf_counter() - start

    def means(self) -> dict[str, float]:
        """Return the mean of each term; this is where training waits for the device.

        Raises:
            DataError: a loss or a gradient was not finite; names the step and the cases.
        """
        table = {name: torch.stack([terms[name].float() for terms in self.terms]) for name in self.terms[0]}
        values = dict(zip(table, torch.stack(list(table.values())).cpu(), strict=True))
        # A gradient that is not finite has spoilt the weights before the next loss shows it.
        for name, what in (("loss", "loss"), ("grad_norm", "gradient norm")):
            bad = (~values[name].isfinite()).nonzero()
            if len(bad):
                first = int(bad[0])
                raise DataError(
                    f"The {what} became {values[name][first].item()} at step {self.steps[first]}, "
                    f"with the cases {', '.join(self.cases[first])}.",
                    "look at these scans, or lower train.lr or set train.clip_norm; the last checkpoint is good",
                )
        return {name: float(row.mean()) for name, row in values.items()}

    def timing(self) -> dict[str, float]:
        """Return the seconds of computing, cases a second, and the share of time spent waiting for data.

        On a processor the seconds are CPU time over threads, which other programs on the machine do not change.
        """
        elapsed = time.perf_counter() - self.began_s
        on_cpu = self.terms[0]["loss"].device.type == "cpu"
        computed = (time.process_time() - self.began_cpu_s) / torch.get_num_threads()
        return {
            "compute_s": computed if on_cpu else elapsed,
            "cases_per_s": sum(map(len, self.cases)) / elapsed,
            "data_wait": self.waited_s / elapsed,
        }


@dataclass
class Trainer:
    """One run of a task from its last checkpoint to its last step.

    Every process runs it; the main one writes.
    """

    task: TrainingTask
    train: Train
    folder: RunFolder
    accelerator: Accelerator
    callback: Callback
    logger_names: Sequence[str] = ("tensorboard",)
    step: int = 0
    score: float | None = None
    scored_step: int = -1
    best_score: float = math.inf
    saved_step: int = -1
    loggers: Loggers | None = None
    recent: MetricAccumulator = field(default_factory=MetricAccumulator)

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal came; a checkpoint was written.
            DataError: the loss is not finite, a cached scan or a checkpoint is damaged.
            ResourceError: the disk or the memory is full.
        """
        try:
            with translate_machine_errors(), StopRequest() as stop:
                self._prepare()
                self.callback.started(self.step, self.train.steps)
                if self.step == 0:
                    self._validate()
                self._write_state("running")
                self._train(stop)
            self._write_state("done")
        except BaseException as error:
            self._write_failure(error)
            raise
        finally:
            self.callback.ended()
            if self.loggers is not None:
                self.loggers.close()

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _prepare(self) -> None:
        task, train = self.task, self.train
        task.model.to(self.accelerator.device)
        self.groups = task.parameter_groups()
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        optimizer = torch.optim.AdamW(
            [{"params": group.parameters} for group in self.groups],
            lr=train.lr,
            weight_decay=train.weight_decay,
            amsgrad=train.amsgrad,
            foreach=True,
        )
        checkpoints = list_checkpoints(self.folder.checkpoints)
        if checkpoints:
            task.restore(load_checkpoint(checkpoints[-1], task.model, optimizer))
            self.step, self.score = checkpoints[-1].step, checkpoints[-1].score
            self.saved_step = self.scored_step = self.step
            self.best_score = min((one.score for one in checkpoints if one.score is not None), default=math.inf)
        with warnings.catch_warnings():
            # The name of an option that is to change in torch; what it means to us stays the same.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        task.start(device_context(self.accelerator))
        run_on_main(self.accelerator, self._prepare_files)

    def _prepare_files(self) -> None:
        self.folder.remove_unfinished()
        remove_unfinished(self.folder.checkpoints)
        if self.saved_step == self.step:
            self.task.export(self.folder.weights, self.step)  # a kill may have come between checkpoint and weights
        self.loggers = Loggers(self.folder.path, self.step, self.logger_names)

    def _train(self, stop: StopRequest) -> None:
        train = self.train
        self.recent = MetricAccumulator()
        # Closing ends the loader processes, whatever happens in between.
        with closing(self.task.batches(self.step * train.accumulate, train.steps * train.accumulate)) as batches:
            while self.step < train.steps:
                self._advance(batches, stop)

    def _advance(self, batches: Iterator[Any], stop: StopRequest) -> None:
        """Take one step, and do what is due after it."""
        train = self.train
        self._optimizer_step(batches)
        self.step += 1
        self.callback.advanced(self.step)
        last = self.step == train.steps
        if last or self.step % train.log_every == 0:
            self._log()
        if last or self.step % train.validate_every == 0:
            self._validate()
        if last or self.step % train.checkpoint_every == 0 or self._is_best():
            self._checkpoint()
        if not last and self._asked_to_stop(stop):
            self._checkpoint()
            raise Interrupted(
                f"Stopped by {stop.signal.name if stop.signal else 'a signal'} after step {self.step}; "
                f"a checkpoint was written.",
                "run the same command again to go on",
            )

    def _optimizer_step(self, batches: Iterator[Any]) -> None:
        """Take one optimizer step from ``train.accumulate`` batches."""
        train = self.train
        rate = learning_rate(self.step, train)
        for group, spec in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = rate * spec.rate_at(self.step)
        for part in range(train.accumulate):
            with self.recent.waiting():
                batch = next(batches)
            if isinstance(batch, VocoError):
                raise batch
            is_last = part == train.accumulate - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                terms = dict(self.task.train_step(self.model, batch, first_of_step=part == 0))
                self.accelerator.backward(terms["loss"] / train.accumulate)
            if is_last:
                terms["grad_norm"] = self._gradient_norm()
            else:
                terms["grad_norm"] = torch.zeros_like(terms["loss"])
            self.recent.add(self.step + 1, terms, self.task.cases(batch))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _gradient_norm(self) -> Tensor:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self.train.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.train.clip_norm, norm, foreach=True)
        return norm

    def _log(self) -> None:
        """Write means over processes and over the steps since the last time.

        Raises:
            DataError: a loss was not finite, on any process.
        """
        recent = self.recent
        if not recent.terms:
            return
        of_processes = run_on_all(self.accelerator, lambda: {**recent.means(), **recent.timing()})
        values = {name: fmean(one[name] for one in of_processes) for name in of_processes[0]}
        values["lr"] = learning_rate(self.step - 1, self.train)
        values["grad_norm"] *= self.train.accumulate  # its mean is over batches, all but the last of a step being 0
        values["cases_per_s"] *= len(of_processes)
        self._write_metrics("train", values)
        self.callback.trained(self.step, values)
        self.recent = MetricAccumulator()

    def _validate(self) -> None:
        self._log()
        figures = self.task.validate(self.step)
        if figures:
            self.score, self.scored_step = figures.get(self.task.score_name), self.step
            self._write_metrics("validation", figures)
            self.callback.validated(self.step, figures)
        self.recent = MetricAccumulator()

    def _is_best(self) -> bool:
        """Return whether this step scored better than any before; the main process decides for all."""
        if self.scored_step != self.step or self.score is None:
            return False
        score = self.score
        return run_on_main(self.accelerator, lambda: score < self.best_score)

    def _write_metrics(self, split: str, values: Values) -> None:
        if self.loggers is not None:
            self.loggers.write(split, self.step, values)

    def _checkpoint(self) -> None:
        self._log()  # raises before a checkpoint is written if a loss was not finite
        if self.saved_step != self.step:
            run_on_main(self.accelerator, self._save)
        self.saved_step = self.step
        self.recent = MetricAccumulator()

    def _save(self) -> None:
        if self.loggers is not None:
            self.loggers.flush()
        bare, optimizer = self.accelerator.unwrap_model(self.model), self.optimizer.optimizer
        score = self.score if self.scored_step == self.step else None
        save_checkpoint(self.folder.checkpoints, self.step, bare, optimizer, score, self.task.state())
        self.saved_step = self.step
        self.best_score = min(self.best_score, math.inf if score is None else score)
        rotate(self.folder.checkpoints, self.train.keep_checkpoints)
        with translate_errors(self.folder.path, f"the weights of step {self.step} could not be written"):
            self.task.export(self.folder.weights, self.step)
        self._write_state("running")

    def _write_state(self, status: str, reason: str | None = None) -> None:
        if self._is_main:
            step = self.step if status in ("running", "done") else max(self.saved_step, 0)
            self.folder.write_state(status, step, reason)

    def _write_failure(self, error: BaseException) -> None:
        status = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        reason = error.message if isinstance(error, VocoError) else f"{type(error).__name__}: {error}"
        with suppress(ResourceError, OSError):  # a full disk, or too many open files, is what is being reported
            self._write_state(status, reason)

    def _asked_to_stop(self, stop: StopRequest) -> bool:
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        if self.step % self.train.log_every:
            return False  # all processes must agree, and asking costs a synchronisation
        flag = torch.tensor(float(stop.signal is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)
