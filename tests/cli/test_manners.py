"""How every command behaves, whatever it does: global options, completion, plain output, contradictions, examples."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.command import voco
from tests.waiting import wait_until
from voco_cli.cli.app import EXAMPLES, PANELS, app
from voco_cli.cli.options import require_agreement, settings_words
from voco_cli.config import load_settings, recipe_names
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.document.terminal import shell_words
from voco_cli.errors import UsageError

ROOT: Any = typer.main.get_command(app)
ESCAPE = re.compile(r"\x1b")


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, f"{path} {name}".strip())


ALL = dict(leaves(ROOT))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans of mine")
    write_cts(folder, 3, 1, (40, 36, 16))
    return folder


class TestQuietAndDebug:
    @pytest.mark.parametrize("where", ["before", "after", "short"])
    def test_quiet_goes_anywhere_and_leaves_results(self, scans: Path, tmp_path: Path, where: str) -> None:
        command = ["index", str(scans), "-o", "data.json"]
        arguments = {"before": ["--quiet", *command], "after": [*command, "--quiet"], "short": [*command, "-q"]}[where]
        shown = voco(*arguments, cwd=tmp_path)
        assert shown.returncode == 0
        assert "wrote data.json" in shown.stdout
        assert "3 scans of" in shown.stdout
        assert "next:" not in shown.stdout
        assert shown.stderr == ""

    def test_loud_again_after_quiet(self, scans: Path, tmp_path: Path) -> None:
        assert "next: voco pretrain data.json" in voco("index", scans, cwd=tmp_path).stdout

    def test_quiet_leaves_errors(self, tmp_path: Path) -> None:
        shown = voco("index", "gone", "--quiet", cwd=tmp_path)
        assert shown.stderr.startswith("error: gone does not exist.")

    @pytest.mark.parametrize("arguments", [["--debug", "index", "gone"], ["index", "gone", "--debug"]])
    def test_debug_goes_anywhere(self, tmp_path: Path, arguments: list[str]) -> None:
        shown = voco(*arguments, cwd=tmp_path)
        assert shown.returncode == 3
        assert "Traceback" in shown.stderr
        assert "error: gone does not exist." in shown.stderr
        assert re.search(r"^voco \S+, Python 3", shown.stderr, re.MULTILINE)

    def test_debug_by_the_environment(self, tmp_path: Path) -> None:
        assert "Traceback" in voco("index", "gone", cwd=tmp_path, VOCO_DEBUG="1").stderr
        assert "Traceback" not in voco("index", "gone", cwd=tmp_path, VOCO_DEBUG="0").stderr

    @pytest.mark.parametrize("path", ALL)
    def test_every_command_takes_them(self, path: str) -> None:
        options = {option for parameter in ALL[path].params for option in parameter.opts}
        assert {"--quiet", "-q", "--debug"} <= options


class TestCompletion:
    @staticmethod
    def of(line: str, tmp_path: Path) -> list[str]:
        """What bash gets for a line whose last word is being typed."""
        words = line.split(" ")
        shown = voco(cwd=tmp_path, _VOCO_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
        return shown.stdout.split()

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("voco preview-l", ["preview-labels"]),
            ("voco cache ve", ["verify"]),
            ("voco pretrain --recipe ", recipe_names()),
            ("voco finetune --task bt", ["btcv"]),
            ("voco tasks show msd_s", ["msd_spleen"]),
            ("voco predict a b --device cp", ["cpu"]),
            ("voco config show --set train.batch", ["train.batch_size="]),
            ("voco index --check f", ["full"]),
            ("voco pretrain --qu", ["--quiet"]),
        ],
    )
    def test_words(self, line: str, expected: list[str], tmp_path: Path) -> None:
        assert self.of(line, tmp_path) == expected

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_scripts(self, shell: str, tmp_path: Path) -> None:
        shown = voco(cwd=tmp_path, _VOCO_COMPLETE=f"source_{shell}")
        assert shown.returncode == 0
        assert f"_VOCO_COMPLETE=complete_{shell}" in shown.stdout

    def test_values_need_nothing_heavy(self, tmp_path: Path) -> None:
        code = (
            "import sys\nsys.argv = ['voco']\nfrom voco_cli.cli.app import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print({'torch', 'monai', 'scipy', 'matplotlib', 'SimpleITK'} & set(sys.modules), file=sys.stderr)\n"
        )
        environment = {"_VOCO_COMPLETE": "complete_bash", "COMP_WORDS": "voco pretrain --set t", "COMP_CWORD": "3"}
        shown = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        assert "train.steps=" in shown.stdout
        assert shown.stderr.strip() == "set()"


class TestPlainOutput:
    @pytest.mark.parametrize("arguments", [["--help"], ["config", "show"], ["tasks", "list"], ["config", "shw"]])
    @pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
    def test_no_escapes_without_a_terminal(
        self, arguments: list[str], environment: dict[str, str], tmp_path: Path
    ) -> None:
        shown = voco(*arguments, cwd=tmp_path, **environment)
        assert not ESCAPE.search(shown.stdout + shown.stderr)

    @pytest.mark.parametrize(("environment", "colours"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False)])
    def test_a_terminal(self, environment: dict[str, str], colours: bool, tmp_path: Path) -> None:
        assert bool(ESCAPE.search(on_terminal(["config", "show"], tmp_path, environment))) is colours

    def test_no_color_on_a_terminal(self, tmp_path: Path) -> None:
        shown = on_terminal(["config", "shw"], tmp_path, {"TERM": "xterm-256color", "NO_COLOR": "1"})
        assert "error:" in shown
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)

    def test_rows_in_a_file_are_lines(self, tmp_path: Path) -> None:
        shown = voco("config", "show", "--recipe", "tpami", cwd=tmp_path).stdout
        row = next(line for line in shown.splitlines() if line.startswith("crops.grid"))
        assert row.split() == ["crops.grid", "(3,", "3)", "recipe", "tpami"]

    @pytest.mark.parametrize("columns", ["60", "80", "200"])
    @pytest.mark.parametrize(
        "arguments", [["config", "show", "--task", "btcv"], ["tasks", "list"], ["tasks", "show", "btcv"]]
    )
    def test_nothing_is_cut_at_any_width(self, arguments: list[str], columns: str, tmp_path: Path) -> None:
        shown = voco(*arguments, cwd=tmp_path, COLUMNS=columns)
        assert shown.returncode == 0
        assert "…" not in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= int(columns) or arguments == ["tasks", "show", "btcv"]

    def test_a_closed_and_a_full_stdout(self, tmp_path: Path) -> None:
        command = f"{shlex.quote(sys.executable)} -m voco_cli config show"
        closed = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True, cwd=tmp_path)
        assert (closed.returncode, closed.stderr) == (0, "")
        full = subprocess.run(["bash", "-c", f"{command} >/dev/full"], capture_output=True, text=True, cwd=tmp_path)
        assert (full.returncode, full.stderr) == (4, "error: No space left on device.\n")


def on_terminal(arguments: list[str], cwd: Path, environment: dict[str, str]) -> str:
    """What the command writes to a terminal of 100 columns."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        os.execvpe(
            sys.executable, [sys.executable, "-m", "voco_cli", *arguments], {**kept, "COLUMNS": "100", **environment}
        )
    shown = b""
    with suppress(OSError):  # the other end is closed
        while True:
            shown += os.read(terminal, 65536)
    os.waitpid(pid, 0)
    return shown.decode()


class TestWrongUse:
    @pytest.mark.parametrize(
        ("arguments", "said", "hint"),
        [
            (["idnex"], "No such command 'idnex'. Did you mean 'index'?", "voco --help says how it is called"),
            (["pretrain", "--stpes", "3"], "voco pretrain has no option --stpes.", "did you mean --set or --steps?"),
            (["pretrain", "--zzzz"], "voco pretrain has no option --zzzz.", "voco pretrain --help lists all"),
            (["predict", "run"], "Missing argument 'INPUT'.", "voco predict --help says how it is called"),
            (
                ["finetune", "--task", "btcv", "--steps", "x"],
                "--steps should be a valid integer.",
                "voco finetune --help says how it is called",
            ),
            (
                ["index", "a", "--check", "ful"],
                "Invalid value for '--check': 'ful' is not one of 'headers', 'full'.",
                "voco index --help says how it is called",
            ),
        ],
    )
    def test_is_one_sentence_and_a_hint(self, arguments: list[str], said: str, hint: str, tmp_path: Path) -> None:
        shown = voco(*arguments, cwd=tmp_path)
        assert shown.returncode == 2
        assert shown.stdout == ""
        assert shown.stderr.splitlines() == [f"error: {said}", f"hint: {hint}"]

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9 [bold].json")
        shown = voco("pretrain", name, cwd=tmp_path)
        assert shown.returncode == 3
        assert "caf\\udce9 [bold].json cannot be opened" in shown.stderr

    def test_recipe_and_task(self, tmp_path: Path) -> None:
        shown = voco("config", "show", "--recipe", "tpami", "--task", "btcv", cwd=tmp_path)
        assert shown.returncode == 2
        assert "--recipe tpami and --task btcv cannot be given together." in shown.stderr


def contradiction(flags: Mapping[str, Any], overrides: list[str]) -> str:
    """Return what is said of an option and a setting that contradict each other; empty where none do."""
    try:
        require_agreement(flags, overrides)
    except UsageError as error:
        return error.message
    return ""


class TestContradictions:
    def test_a_flag_and_the_same_setting(self) -> None:
        said = contradiction({"train.steps": 5, "run.dir": None}, ["train.lr=1", "train.steps=7", "run.dir=x"])
        assert said == "train.steps is given twice: 7 by --set, and 5 by an option of its own."

    def test_the_same_value_twice_is_none(self) -> None:
        flags = {"train.steps": 5, "data.file": Path("a b.json")}
        assert contradiction(flags, ["train.steps=5", "data.file=a b.json"]) == ""
        assert contradiction(flags, ["no equals sign"]) == ""  # which the settings complain of

    @pytest.mark.parametrize(
        "arguments",
        [
            ["pretrain", "data.json", "--steps", "5"],
            ["finetune", "--task", "btcv", "--steps", "5"],
            ["study", "--task", "btcv", "--weights", "none", "--steps", "5"],
        ],
    )
    def test_commands_refuse(self, arguments: list[str], tmp_path: Path) -> None:
        shown = voco(*arguments, "--set", "train.steps=7", cwd=tmp_path)
        assert shown.returncode == 2
        assert "error: train.steps is given twice: 7 by --set, and 5 by an option of its own." in shown.stderr


class TestNextCommands:
    def test_paths_are_quoted(self) -> None:
        assert shell_words("voco", "predict", Path("my runs/a"), "NEW_SCANS") == "voco predict 'my runs/a' NEW_SCANS"

    def test_the_settings_go_along(self) -> None:
        words = settings_words("debug", Path("my.yaml"), ["crops.grid=[4, 4]"])
        assert shell_words(*words) == "--recipe debug --config my.yaml --set 'crops.grid=[4, 4]'"

    def test_what_index_prints_runs(self, scans: Path, tmp_path: Path) -> None:
        (tmp_path / "my data").mkdir()
        shown = voco("index", scans, "-o", "my data/data.json", cwd=tmp_path).stdout
        command = shown.rpartition("next: voco ")[2].partition(", or ")[0].strip()
        again = voco(*shlex.split(command), "--set", "train.steps=0", cwd=tmp_path)
        assert "train.steps" in again.stderr  # the file was found, and the steps alone are wrong


class TestHelp:
    def test_commands_stand_in_the_order_of_work(self) -> None:
        order = [name for names in PANELS.values() for name in names]
        assert list(ROOT.commands) == [name for name in order if name in ROOT.commands]

    def test_each_has_one_line_in_the_list(self, tmp_path: Path) -> None:
        shown = voco("--help", cwd=tmp_path, COLUMNS="80").stdout
        for name, command in ROOT.commands.items():
            line = command.help.split("\n\n")[0]
            assert re.search(rf"│ {name} +{re.escape(line)} +│", shown), name

    @pytest.mark.parametrize("path", [path for path, command in ALL.items() if command is not ROOT])
    def test_ends_with_examples(self, path: str) -> None:
        assert ALL[path].epilog.startswith("Example")
        assert all(len(line) <= 78 for line in ALL[path].epilog.splitlines())

    @pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
    def test_examples_are_understood(self, line: str) -> None:
        program, *words = shlex.split(line)
        assert program == "voco"
        context, command = typer.Context(ROOT, info_name="voco"), ROOT
        while hasattr(command, "commands"):
            # `voco plan data.json` is `voco plan pretrain data.json`.
            command = command.commands[words.pop(0) if words[0] in command.commands else command.default_command]
        parsed = command.make_context("example", words, parent=context).params
        settings = parsed.get("override") or parsed.get("set_")
        if settings and command is not ROOT.commands["submit"]:  # whose --set is of cluster.yaml
            load_settings(parsed.get("recipe"), overrides=settings, task=parsed.get("task"))
        for choices, name in ((("cvpr", "tpami", "paper", "debug"), "recipe"), (("btcv", "my_task.yaml"), "task")):
            given = parsed.get(name) or []
            assert {given} <= {*choices} if isinstance(given, str) else {*given} <= {*choices}

    @pytest.mark.parametrize("path", ALL)
    def test_no_example_is_of_another_command(self, path: str) -> None:
        for line in EXAMPLES.get(path, ()) if path else ():
            assert line.split()[1] == path.split()[0]

    @pytest.mark.parametrize("path", ALL)
    def test_nothing_is_cut_at_eighty_columns(self, path: str) -> None:
        shown = CliRunner().invoke(app, [*path.split(), "--help"], env={"COLUMNS": "80"})
        assert shown.exit_code == 0
        assert max(map(len, shown.stdout.splitlines())) == 80
        assert "…" not in shown.stdout


class TestInterrupts:
    def test_while_the_command_line_loads(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "class Interrupted:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'typer':\n"
            "            raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Interrupted())\n"
            "from voco_cli.__main__ import main\n"
            "main()\n"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert (shown.returncode, shown.stdout, shown.stderr) == (130, "", "")

    def test_while_workers_start(self, scans: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "voco_cli", "index", str(scans), "--check", "full", "--workers", "2"]
        begun = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
        )
        # Two workers, and what tracks their resources.
        wait_until(lambda: len(children(begun.pid)) >= 3, begun)
        os.killpg(begun.pid, signal.SIGINT)
        shown, told = begun.communicate()
        assert (begun.returncode, shown) == (130, "")
        assert told == "error: Interrupted; nothing half-written was left behind.\n"
        assert list(tmp_path.iterdir()) == []


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


@pytest.mark.parametrize("group", [(), ("cache",), ("plan",)], ids=["voco", "cache", "plan"])
def test_a_group_without_a_command_shows_its_help_and_no_error(group: tuple[str, ...], tmp_path: Path) -> None:
    shown = voco(*group, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (2, "")
    assert f"Usage: {' '.join(['voco', *group])}" in shown.stdout
