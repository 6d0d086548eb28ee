"""`voco bench`: how fast this machine does what a run consists of, and what holds it up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from voco_cli.cli.options import ConfigOption, DeviceOption, JsonOption, RecipeOption, SetOption
from voco_cli.document.terminal import done, note, out, print_json
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.resources.bench import Speed


def bench(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="data.json as `voco index` writes it; generated scans without one."),
    ] = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    override: SetOption = None,
    task: Annotated[str, typer.Option("--task", help="Task whose network predicts; see `voco tasks list`.")] = "btcv",
    scan_size: Annotated[
        str, typer.Option("--scan-size", metavar="XxYxZ", help="Voxels of the scan that is predicted.")
    ] = "512x512x133",
    device: DeviceOption = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="About how long it may take.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains, and what holds it up.

    Disk, preprocessing, loader, steps and prediction, and which of them is the limit.

    Real steps of a recipe (cvpr by default; debug where the memory does not do), on your scans or on generated ones.
    On a CPU a step of cvpr takes minutes, whatever --minutes says; --recipe debug is quick. Nothing is left behind.
    """
    if data is not None and not data.is_file():
        raise DataError(f"{data} does not exist.", "make it with voco index")
    scan_vox = _voxels(scan_size)
    from voco_cli.config import load_settings

    flags: dict[str, Any] = {"data.file": data, "run.device": device}
    settings = load_settings(recipe, config, override or (), flags).settings
    small = load_settings("debug", None, (), flags).settings
    predicted = load_settings(None, None, (), {"run.device": device}, task=task).settings

    from voco_cli.resources.bench import BenchRequest, measure_machine

    speed = measure_machine(BenchRequest(settings, small, predicted, minutes * 60, scan_vox), note)
    if as_json:
        print_json(speed.to_json())
        return
    _print(speed)
    following = f"voco plan {data}" if data is not None else "voco bench --data data.json"
    done([], following)


def _voxels(size: str) -> tuple[int, int, int]:
    """Edges from text such as 512x512x133.

    Raises:
        UsageError: it is none.
    """
    parts = size.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--scan-size {size} is no size.", "give three edges in voxels, such as 512x512x133")
    x, y, z = map(int, parts)
    return x, y, z


def _print(speed: Speed) -> None:
    out.print(
        f"{speed.recipe} on {speed.device} in {speed.precision}, {speed.scans} scans, disk of {speed.place}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table("", "median", "range", "", box=None, header_style="bold", pad_edge=False)
    for one in speed.measured.values():
        low, high = one.spread
        spread = f"{low:.3g} to {high:.3g}" if len(one.values) > 1 else ""
        table.add_row(Text(one.name), f"{one.middle:.3g}", spread, Text(one.unit))
    out.print(table)
    for text in speed.notes:
        out.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)
    out.print(speed.limit, style="bold", markup=False, highlight=False, soft_wrap=True)
