"""Whether the weights of a study fit its network, which is asked before anything is trained."""

from __future__ import annotations

from torch import nn

from voco_cli.networks.classifier import build_classifier
from voco_cli.networks.segmenter import build_segmenter
from voco_cli.networks.weights.architecture import shapes_only
from voco_cli.networks.weights.start import load_start
from voco_cli.settings import Settings
from voco_cli.study.plan import Plan, PlannedRun


def require_fitting_weights(plan: Plan) -> None:
    """Refuse weights of another network, which would end a study only after the runs from fresh weights.

    Raises:
        UsageError, DataError: weights that do not exist, are damaged, or do not load into the network of the task.
    """
    for arm in plan.arms:
        if arm.weights is not None:
            settings = plan.settings_of(PlannedRun(arm, plan.sizes[0], plan.seeds[0])).settings
            with shapes_only():
                network = _network(settings)
            load_start(network, settings.model)


def _network(settings: Settings) -> nn.Module:
    task, channels = settings.task, len(settings.task.channels)
    if task.kind == "classification":
        return build_classifier(settings.model, channels, task.num_outputs)
    return build_segmenter(settings.model, channels, task.num_outputs, deep_supervision=task.deep_supervision)
