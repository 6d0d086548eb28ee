"""Whether an encoder can start from the weights that were given, and what to choose where it cannot."""

from __future__ import annotations

from contextlib import suppress

from voco_cli.config import Settings, load_settings, recipe_names
from voco_cli.config.schema import Model
from voco_cli.errors import UsageError
from voco_cli.models.backbone import Architecture
from voco_cli.models.build import build_encoder
from voco_cli.models.weights import LoadReport, OtherNetwork
from voco_cli.models.weights.load import check_start
from voco_cli.models.weights.objectives import find_start


def require_fitting_weights(settings: Settings) -> None:
    """Refuse weights that the encoder cannot start from.

    Raises:
        UsageError, DataError: as `check_start`; or another patch merging.
    """
    model = settings.model
    start = model.weights and find_start(model.weights)
    try:
        report = check_start(lambda: build_encoder(model), model.model_copy(update={"weights": start}))
    except OtherNetwork as other:
        raise UsageError(other.message, _network_hint(other.theirs) or other.hint) from other
    require_same_merging(report, model)


def require_same_merging(report: LoadReport | None, model: Model) -> None:
    """Refuse weights whose transformer merges patches otherwise than the run's.

    Raises:
        UsageError: they do.
    """
    if report is not None and report.patch_merging not in (None, model.patch_merging):
        raise UsageError(
            f"{model.weights} was trained with the {report.patch_merging} patch merging, and the run has the "
            f"{model.patch_merging} one.",
            f"--set model.patch_merging={report.patch_merging}",
        )


def _network_hint(theirs: Architecture) -> str | None:
    """A recipe that can hold the network of the weights: its crops must suit it, too."""
    words = theirs.settings_words()
    if not words:
        return None
    overrides = [word for word in words.split() if word != "--set"]
    plain = {}
    for recipe in recipe_names():
        with suppress(UsageError):
            plain[recipe] = load_settings(recipe).settings.model
    for recipe in sorted(plain, key=lambda name: (plain[name].backbone != theirs.backbone, name != "cvpr")):
        try:
            held = load_settings(recipe, None, overrides).settings.model
        except UsageError:
            continue
        needed = "" if plain[recipe] == held else f" {words}"
        return f"choose a recipe for the network of the weights: `--recipe {recipe}{needed}`"
    return None
