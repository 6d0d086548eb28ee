"""`voco plan`: what a run will need here, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from voco_cli.cli.options import (
    CasesOption,
    ConfigOption,
    DataOption,
    DeviceOption,
    FractionOption,
    FreezeEncoderOption,
    JsonOption,
    MinLoadedOption,
    RecipeOption,
    SetOption,
    SplitOption,
    StepsOption,
    TaskOption,
    TrustPickleOption,
    WeightsOption,
    data_flags,
    given_words,
    require_agreement,
    settings_words,
    spoken_recipe,
)
from voco_cli.cli.output import TELLER, note, shell_words

DEFAULT = "pretrain"


class _PretrainByDefault(TyperGroup):
    """`voco plan data.json` is `voco plan pretrain data.json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PretrainByDefault,
    help="Say what a run will need here, before it runs.\n\nDisk, memory, GPU memory and time, measured from a few "
    "scans and steps, against what is free. The options are those of the run itself; `voco plan data.json` plans a "
    "pre-training. Where something does not fit, it says what to change, and the exit code is 1.",
    no_args_is_help=True,
)

SecondsOption = Annotated[
    float, typer.Option("--seconds", metavar="N", min=1, help="About how long the trial may take.")
]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", "-o", help="Run folder of the run; nothing is written there.")
]


@app.command("pretrain")
def plan_pretrain(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")] = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    override: SetOption = None,
    run_dir: RunDirOption = None,
    steps: StepsOption = None,
    weights: WeightsOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    seconds: SecondsOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Plan a pre-training; the word pretrain may be left out."""
    from voco_cli.settings import load_settings

    flags = {"data.file": data, "run.dir": run_dir, "train.steps": steps, "model.weights": weights}
    flags |= {"model.trust_pickle": trust_pickle or None, "run.device": device}
    require_agreement({**flags, "recipe": recipe}, override or ())
    resolved = load_settings(recipe, config, override or (), flags)

    from voco_cli.cli.plan_output import show_plan
    from voco_cli.planning.pretraining_plan import plan_pretraining
    from voco_cli.pretraining.before import before_pretraining

    if resolved.settings.data.file is not None:
        resolved, _ = before_pretraining(resolved, TELLER)
    plan = plan_pretraining(resolved.settings, seconds, note)
    words = [
        *settings_words(recipe or spoken_recipe(resolved), config, override),
        *given_words({"-o": run_dir, "--steps": steps, "--weights": weights, "--device": device}),
        *(["--trust-pickle"] if trust_pickle else []),
    ]
    show_plan(plan, as_json, shell_words("voco", "pretrain", *([data] if data else []), *words))


@app.command("finetune")
def plan_finetune(
    task: TaskOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    run_dir: RunDirOption = None,
    config: ConfigOption = None,
    override: SetOption = None,
    steps: StepsOption = None,
    cases: CasesOption = None,
    fraction: FractionOption = None,
    split: SplitOption = None,
    freeze_encoder: FreezeEncoderOption = False,
    min_loaded: MinLoadedOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    seconds: SecondsOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Plan a fine-tuning, its last prediction and measurement included."""
    from voco_cli.settings import load_settings

    place, list_off = data_flags(data)
    flags: dict[str, Any] = {
        **place,
        "model.weights": weights,
        "run.dir": run_dir,
        "train.steps": steps,
        "task.cases": cases,
        "task.fraction": fraction,
        "task.split": split,
        "task.freeze_encoder": freeze_encoder or None,
        "model.min_loaded": min_loaded,
        "model.trust_pickle": trust_pickle or None,
        "run.device": device,
    }
    require_agreement({**flags, "task.preset": task}, override or ())
    resolved = load_settings(None, config, [*list_off, *(override or ())], flags, task=task)

    from voco_cli.cli.plan_output import show_plan
    from voco_cli.finetuning.before import before_finetuning
    from voco_cli.planning.finetuning_plan import plan_finetuning

    resolved, _ = before_finetuning(resolved, TELLER)
    plan = plan_finetuning(resolved.settings, seconds, note)
    given: dict[str, Any] = {"--data": data, "--weights": weights, "-o": run_dir, "--steps": steps, "--cases": cases}
    given |= {"--fraction": fraction, "--split": split, "--min-loaded": min_loaded, "--device": device}
    switches = {"--freeze-encoder": freeze_encoder, "--trust-pickle": trust_pickle}
    words = [
        *settings_words(None, config, override),
        *given_words(given),
        *(name for name, on in switches.items() if on),
    ]
    show_plan(plan, as_json, shell_words("voco", "finetune", "--task", task, *words))


@app.command("predict")
def plan_predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco finetune.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Scans: NIfTI, NRRD, MetaImage, DICOM series, folders, data.json."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions; nothing is written.")
    ] = Path("predictions"),
    flips: Annotated[
        bool | None,
        typer.Option("--flips", help="Average over the eight flips of each window, which takes eight times as long."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of a window that the next one covers (by default the run's)."),
    ] = None,
    override: SetOption = None,
    device: DeviceOption = None,
    seconds: SecondsOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Plan the prediction of scans with a fine-tuned network."""
    from voco_cli.cli.plan_output import show_plan
    from voco_cli.planning.prediction_plan import plan_prediction

    asked = {"flips": flips, "overlap": overlap}
    plan = plan_prediction(run, inputs, output, seconds, note, device=device, overrides=override or (), predict=asked)
    words = [
        *settings_words(None, None, override),
        *given_words({"--overlap": overlap, "--device": device}),
        *(["--flips"] if flips else []),
    ]
    show_plan(plan, as_json, shell_words("voco", "predict", run, *inputs, "-o", output, *words))
