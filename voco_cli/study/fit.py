"""Whether the weights of a study fit its network, which is asked before anything is trained."""

from __future__ import annotations

from voco_cli.finetuning import starting_weights
from voco_cli.study.plan import Plan, PlannedRun


def require_fitting_weights(plan: Plan) -> None:
    """Refuse weights of another network, which would end a study only after the runs from fresh weights.

    Raises:
        UsageError, DataError: weights that do not exist, are damaged, or do not load into the network of the task.
    """
    for arm in plan.arms:
        if arm.weights is not None:
            starting_weights.require_fitting_weights(
                plan.settings_of(PlannedRun(arm, plan.sizes[0], plan.seeds[0])).settings
            )
