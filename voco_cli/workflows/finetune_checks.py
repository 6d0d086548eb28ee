"""Checks of a fine-tuning before anything is built: task, data, run folder and weights, in seconds."""

from __future__ import annotations

from voco_cli.config import Resolved
from voco_cli.data.index.intensity import Suited, suit_intensity
from voco_cli.errors import UsageError
from voco_cli.tasks.find_data import TaskData, find_task_data
from voco_cli.training.callbacks import Callback
from voco_cli.training.run_contents import judge_as_before
from voco_cli.training.run_dir import RunFolder


def before_finetuning(resolved: Resolved, callback: Callback) -> tuple[Resolved, TaskData]:
    """Find the data of the task, suit the settings to its modality, and refuse what the run would refuse later.

    Raises:
        UsageError: no task or no data for it; a mix of modalities; a run folder with other settings; weights of
            another network.
        DataError: a list or the weights cannot be read.
    """
    settings = resolved.settings
    if settings.task.preset is None:
        raise UsageError("No task was given.", "voco finetune --task btcv; `voco tasks list` shows them")
    if not settings.task.classes:
        raise UsageError(f"The task {settings.task.preset} has no classes.", "list them under task.classes")
    if settings.run.device not in ("auto", "cpu"):
        from voco_cli.training.distributed import require_device  # late: the tensor library says what there is

        require_device(settings.run)
    data, folder = find_task_data(settings), RunFolder(settings.run.dir)
    suited = Suited(resolved)
    if settings.data.file is not None:
        entries = [entry for _, entry in data.datalist.entries()]
        suited = suit_intensity(resolved, entries, [settings.data.file], judge_as_before(folder))
    folder.refuse_other_settings(suited.resolved.settings)
    if settings.model.weights is not None and not folder.has_checkpoints():
        from voco_cli.finetune.starting_weights import require_fitting_weights  # late, as above

        require_fitting_weights(suited.resolved.settings)
    for note in suited.notes:
        callback.say(note)
    for warning in suited.warnings:
        callback.warn(warning, style="yellow")
    return suited.resolved, data
