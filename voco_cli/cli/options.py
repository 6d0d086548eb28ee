"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Recipe that the settings start from: cvpr, tpami, paper, debug or a YAML file."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see `voco config init`.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.steps=100; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
