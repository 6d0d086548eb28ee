"""What a pre-training refuses before anything is built: settings, run folder and weights, in seconds."""

from __future__ import annotations

from voco_cli.config import Resolved
from voco_cli.data.index.datalist import Datalist
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.intensity import suit_intensity
from voco_cli.data.index.labelled import suit_classes, suit_scan_labels
from voco_cli.errors import UsageError
from voco_cli.training.callbacks import Callback
from voco_cli.training.dataloader import BatchPlan
from voco_cli.training.run_contents import judge_as_before
from voco_cli.training.run_dir import RunFolder


def before_pretraining(resolved: Resolved, callback: Callback) -> tuple[Resolved, Datalist]:
    """Read the list, suit the settings to its modality, and refuse what the run would refuse later.

    Raises:
        UsageError: no data file; a mix of modalities; fewer scans than a step needs; a run folder with other settings;
            weights of another network; classes that nobody labels, where classes are learned.
        DataError: the list or the weights cannot be read.
    """
    data = resolved.settings.data.file
    if data is None:
        raise UsageError("No data file was given.", "voco pretrain data.json; `voco index FOLDER` writes one")
    if resolved.settings.run.device not in ("auto", "cpu"):
        from voco_cli.training.distributed import require_device  # late: the tensor library says what there is

        require_device(resolved.settings.run)
    datalist = read_datalist(data)
    folder = RunFolder(resolved.settings.run.dir)
    entries = [entry for _, entry in datalist.entries()]
    suited = suit_intensity(resolved, entries, [data], judge_as_before(folder))
    resolved, left_out = suit_scan_labels(suit_classes(suited.resolved, datalist, data), datalist, data)
    if datalist.training:  # an empty list has a sentence of its own
        BatchPlan(len(datalist.training), resolved.settings.train.batch_size, resolved.settings.seed)
    folder.refuse_other_settings(resolved.settings)
    if resolved.settings.model.weights is not None and not folder.has_checkpoints():
        from voco_cli.pretrain.starting_weights import require_fitting_weights  # late, as above

        require_fitting_weights(resolved.settings)
    for note in (*suited.notes, *filter(None, [left_out])):
        callback.say(note)
    for warning in suited.warnings:
        callback.warn(warning, style="yellow")
    return resolved, datalist
