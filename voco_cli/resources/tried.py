"""What a trial is asked and what it tells, which travels between processes: to read it needs no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.config import Settings
from voco_cli.tasks.cases import StoredCase

TRY_TRAINING = "voco_cli.resources.trial:try_training"
"""From `TrialRequest` to `Trial`, for `run_apart`."""
FLOAT_BYTES = 4
PROCESS_BYTES = int(0.6e9)
"""A process with its libraries before it does anything; measured with torch on a CPU, and rounded up."""


@dataclass(frozen=True)
class Sweep:
    """A scan, as the sliding window goes over it.

    Attributes:
        windows: that the scan needs.
        window_s: of the network for one of them, flips included.
        rest_s: of everything else: sums, and the way back to the scan's grid.
        source_vox: voxels of the scan.
    """

    windows: int
    window_s: float
    rest_s: float
    source_vox: int

    @property
    def total_s(self) -> float:
        """Of the whole scan."""
        return self.windows * self.window_s + self.rest_s


@dataclass(frozen=True)
class Reads:
    """Reading what a step needs of a case: from the disk, and again from memory; and the size of a batch."""

    cold_s: float
    warm_s: float
    batch_bytes: int


@dataclass(frozen=True)
class Looks:
    """Looks at held-out cases.

    Attributes:
        case_s: of a validation, for each case.
        picture_s, picture_bytes: of drawing a validation, and of the file.
        survey_s: of the labels of a case, once before training.
        sweep: of one scan, where the network goes over whole scans.
        measure_s: of one prediction against its label map, once after training.
    """

    case_s: float = 0.0
    picture_s: float = 0.0
    picture_bytes: int = 0
    survey_s: float = 0.0
    sweep: Sweep | None = None
    measure_s: float = 0.0


@dataclass(frozen=True)
class Parameters:
    """Numbers in a model.

    Attributes:
        kept: parameters and buffers, a teacher's among them: what a checkpoint holds of the model.
        trained: parameters that the optimizer moves.
        exported: what the weights hold that are written beside the checkpoints.
    """

    kept: int
    trained: int
    exported: int

    def optimizer_bytes(self, amsgrad: bool) -> int:
        """First and second moments, and with AMSGrad the largest second moments."""
        return FLOAT_BYTES * self.trained * (3 if amsgrad else 2)

    def checkpoint_bytes(self, amsgrad: bool) -> int:
        """A checkpoint on disk: the model and the optimizer's state; headers and random states are small."""
        return FLOAT_BYTES * self.kept + self.optimizer_bytes(amsgrad)

    def training_bytes(self, amsgrad: bool) -> int:
        """In memory: the model, gradients and the optimizer's state."""
        return FLOAT_BYTES * (self.kept + (4 if amsgrad else 3) * self.trained)


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training takes: of the machine, and of the device where it has its own memory."""

    host_bytes: int
    device_bytes: int
    parameters: Parameters


@dataclass(frozen=True)
class TrialRequest:
    """What to try.

    Attributes:
        settings: of the run.
        training, held_out: preprocessed cases that stand for all.
        folder: for the files of the trial; it will be removed.
        steps: to be measured, after those that warm up.
        budget_s: time after which no further step is begun, one having been measured.
    """

    settings: Settings
    training: tuple[StoredCase, ...]
    held_out: tuple[StoredCase, ...]
    folder: Path
    steps: int
    budget_s: float


@dataclass(frozen=True)
class Steps:
    """What the steps took.

    Attributes:
        setup_s: making the model, its optimizer and loaders, and what the first step took longer than others.
        step_s: each measured step.
        step_cpu_s: of the processor, in this process, for a step; no busy machine stretches it.
        wait_share: of them, the time spent waiting for data.
        host_bytes: largest memory of the process and its loaders.
        device_bytes: largest memory of tensors on the device.
        checkpoint_bytes: of one, as it was written, or of its tensors.
        checkpoint_s: of writing one; none where that was not tried.
    """

    setup_s: float
    step_s: tuple[float, ...]
    step_cpu_s: float
    wait_share: float
    host_bytes: int
    device_bytes: int
    checkpoint_bytes: int
    checkpoint_s: float | None


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        device, precision: as the run would have them.
        footprint: what was expected.
        free_host_bytes, free_device_bytes: before anything was made; no memory of its own is 0.
        loaders: loader processes.
        steps, reads, looks: none where the trial was not run, as it would not have been safe, or ran out of memory.
        exhausted: the device ran out of memory.
    """

    device: str
    precision: str
    footprint: Footprint
    free_host_bytes: int
    free_device_bytes: int
    loaders: int
    steps: Steps | None = None
    reads: Reads | None = None
    looks: Looks = field(default_factory=Looks)
    exhausted: bool = False
