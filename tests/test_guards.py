"""Promises about the code as a whole: who imports whom, what starts fast, which settings are read."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, create_model

import voco_cli
from voco_cli.settings import Settings, sections
from voco_cli.settings.sources import field_descriptions
from voco_cli.settings.types import Section

PACKAGE = Path(voco_cli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PLACES = [str(path.relative_to(PACKAGE)) for path in FILES]

LAYERS = (
    "errors",
    "whole_files",
    "settings",
    "scans",
    "dataset",
    "cache",
    "phantom",
    "method",
    "networks",
    "engine",
    "downstream",
    "evaluation",
    "figures",
    "pretraining",
    "finetuning",
    "study",
    "planning",
    "machine_speed",
    "report",
    "demo",
    "cli",
    "__main__",
)
"""Data walks through the folders from top to bottom; a folder imports from those above it."""
RANK = {name: i for i, name in enumerate(LAYERS)}

HEAVY = {"torch", "monai", "SimpleITK", "scipy", "matplotlib", "blosc2", "nibabel", "pydicom", "accelerate", "pandas"}
NO_TENSORS = {"scans", "dataset"}


def parse(place: str) -> ast.Module:
    return ast.parse((PACKAGE / place).read_text(), place)


def folder_of(place: str) -> str:
    return Path(place).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules that are imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def at_module_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import: no function bodies, nothing for the type checker only."""

    class Pruned(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    pruned = Pruned().visit(tree)
    assert isinstance(pruned, ast.Module)
    return pruned


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_imports_only_from_folders_above_it(place: str) -> None:
    folder = folder_of(place)
    for name in imported(parse(place)):
        parts = name.split(".")
        if parts[0] == "voco_cli" and len(parts) > 1 and parts[1] != "__version__" and folder != "__init__":
            assert parts[1] == folder or RANK[parts[1]] < RANK[folder], f"{place} imports {name}"


def test_every_folder_has_its_layer() -> None:
    assert {folder_of(place) for place in PLACES} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("place", [place for place in PLACES if folder_of(place) == "cli"])
def test_commands_import_nothing_heavy_at_module_level(place: str) -> None:
    assert {name.split(".")[0] for name in imported(at_module_level(parse(place)))} & HEAVY == set()


@pytest.mark.parametrize("place", [place for place in PLACES if folder_of(place) in NO_TENSORS])
def test_scans_and_dataset_know_no_tensors(place: str) -> None:
    assert {name.split(".")[0] for name in imported(parse(place))} & {"torch", "monai"} == set()


@pytest.mark.parametrize("place", [place for place in PLACES if folder_of(place) == "method"])
def test_the_method_is_pure(place: str) -> None:
    """No paths, no logging, no printing."""
    names = {name.split(".")[0] for name in imported(parse(place))}
    assert names & {"pathlib", "os", "logging", "rich", "typer", "json", "yaml"} == set()


HELP = [["--help"], ["pretrain", "--help"]]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_imports_neither_torch_nor_monai(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['voco', *{arguments!r}]\n"
        "from voco_cli.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('heavy:', sorted(set(sys.modules).intersection({sorted(HEAVY)!r})))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: voco" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "heavy: []"


def cpu_seconds(*arguments: str) -> float:
    """User and system time of one call of Python, which a busy machine stretches less than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_answers_in_half_a_second(arguments: list[str]) -> None:
    """Best of three; where the machine is slow or shared, at most 1.75 times what Typer's own imports take."""
    for _ in range(3):
        needed = cpu_seconds("-m", "voco_cli", *arguments)
        if needed < 0.5 or needed < 1.75 * cpu_seconds("-c", "import typer.rich_utils, pydantic.json_schema"):
            return
    pytest.fail(f"{needed:.2f} s")


def receivers(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """``(train, steps)`` for ``train.steps``, ``settings.train.steps`` and, by its annotation, of ``x: Train``."""
    sections_by_class = {type(value).__name__: name for name, value in Settings() if isinstance(value, BaseModel)}

    def walk(node: ast.AST, typed: dict[str, str]) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
            annotated = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
            typed = typed | {a: sections_by_class[kind] for a, kind in annotated.items() if kind in sections_by_class}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Attribute):
                yield node.value.attr, node.attr
            elif isinstance(node.value, ast.Name):
                yield typed.get(node.value.id, node.value.id), node.attr
        for child in ast.iter_child_nodes(node):
            yield from walk(child, typed)

    return walk(tree, {})


def read_by_properties() -> dict[tuple[str, str], set[str]]:
    """``(crops, region_vox)`` to the fields that this property reads, directly or through others."""
    reads: dict[tuple[str, str], set[str]] = {}
    for node in ast.parse(Path(sections.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    reads[node.name.lower(), item.name] = {attr for name, attr in receivers(item) if name == "self"}
    for (section, _), names in reads.items():
        for name in list(names):
            names |= reads.get((section, name), set())
    return reads


def unread(model: type[BaseModel]) -> list[str]:
    """Settings that no line outside ``settings/`` reads."""
    read = {pair for place in PLACES if folder_of(place) != "settings" for pair in receivers(parse(place))}
    for (section, name), fields in read_by_properties().items():
        if (section, name) in read:
            read |= {(section, field) for field in fields}
    pairs = ((key, *key.rpartition(".")[::2]) for key, _ in field_descriptions(model))
    return [key for key, section, name in pairs if (section or "settings", name) not in read]


def test_every_setting_is_read_somewhere() -> None:
    assert unread(Settings) == []


def test_a_setting_that_nothing_reads_is_found() -> None:
    class Train(Section):
        steps: int = Field(1, description="read")
        never_read: int = Field(1, description="not read")

    class Objective(Section):
        lr: float = Field(1.0, description="read, but of another section")

    model = create_model("Sham", __base__=Section, train=(Train, Train()), objective=(Objective, Objective()))
    assert unread(model) == ["train.never_read", "objective.lr"]


def test_every_setting_has_a_description() -> None:
    described = [*field_descriptions(), *((name, info.description) for name, info in Settings.model_fields.items())]
    assert [key for key, description in described if not description] == []


@pytest.mark.parametrize("place", PLACES)
def test_files_are_short(place: str) -> None:
    assert len((PACKAGE / place).read_text().splitlines()) <= 400


def test_names_say_what_is_inside() -> None:
    parts = {part.removesuffix(".py") for place in PLACES for part in Path(place).parts}
    assert parts & {"utils", "util", "common", "base", "misc", "helpers"} == set()


def test_every_folder_is_a_package() -> None:
    for folder, _, files in os.walk(PACKAGE):
        if any(name.endswith(".py") for name in files):
            assert "__init__.py" in files, folder
