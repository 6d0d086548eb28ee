"""Options that stand for a setting: the description of the setting is their help, and nothing loads it in vain."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import typer

from voco_cli.cli.app import SettingOption, app
from voco_cli.cli.options import setting_help
from voco_cli.config.load import field_descriptions

ROOT: Any = typer.main.get_command(app)


def help_of(command: str, option: str) -> str:
    (found,) = (one for one in ROOT.commands[command].params if option in one.opts)
    assert isinstance(found, SettingOption)
    return found.help


def test_the_help_is_the_description_of_the_setting() -> None:
    description = dict(field_descriptions())["task.freeze_encoder"]
    assert help_of("finetune", "--freeze-encoder") == f"{description[0].upper()}{description[1:]}."
    steps = "Optimizer steps of the whole run (by default the recipe's or the task's)."
    assert help_of("pretrain", "--steps") == help_of("finetune", "--steps") == steps


def test_a_setting_and_what_holds_without_the_option() -> None:
    assert setting_help("setting seed") == "Seed of every random draw."
    assert setting_help("setting seed (by default 0)") == "Seed of every random draw (by default 0)."


def test_what_holds_without_the_option_is_said_once() -> None:
    assert setting_help("setting cache.dir") == (
        "Cache folder, or s3://BUCKET/FOLDER (by default .voco-cache beside data.json)."
    )
    split = "Split that comes with the package, JSON file of cases, or seeded: drawn by patient"
    assert setting_help("setting task.split (by default the task's)") == f"{split} (by default the task's)."


def test_a_list_of_commands_loads_no_settings() -> None:
    code = (
        "import sys\nsys.argv = ['voco', '--help']\nfrom voco_cli.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print({'pydantic', 'yaml', 'voco_cli.config.schema'} & set(sys.modules), file=sys.stderr)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stderr.strip() == "set()"
