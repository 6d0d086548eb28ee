"""Promises about the code as a whole: who imports whom, where MONAI is loaded, which settings are read.

What each command really loads is in tests/cli/test_imports.py.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, create_model

import voco_cli
from voco_cli.config import Settings, schema
from voco_cli.config.load import field_descriptions
from voco_cli.config.schema import Section

PACKAGE = Path(voco_cli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PLACES = [str(path.relative_to(PACKAGE)) for path in FILES]

LAYERS = (
    "errors",
    "operating_system",
    "foreign_text",
    "csv_text",
    "object_stores",
    "atomic_files",
    "config",
    "document",
    "data",
    "models",
    "objectives",
    "training",
    "tasks",
    "predict",
    "evaluate",
    "study",
    "figures",
    "pretrain",
    "finetune",
    "task_kinds",
    "workflows",
    "resources",
    "cluster",
    "report",
    "demo",
    "cli",
    "__main__",
)
"""Data walks through the folders from top to bottom; a folder imports from those above it."""
RANK = {name: i for i, name in enumerate(LAYERS)}

HEAVY = {"torch", "monai", "SimpleITK", "scipy", "matplotlib", "blosc2", "nibabel", "pydicom", "accelerate", "pandas"}
NO_TENSORS = {"config", "document", "data"}


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


def test_monai_is_loaded_with_a_network_of_its_own_alone() -> None:
    """To import any part of MONAI loads all of it, which takes seconds."""
    places = {place for place in PLACES if "monai" in {name.split(".")[0] for name in loaded_at_once(place)}}
    assert places <= {"models/swin.py"}
    reached = {place for place in PLACES if places & {place, *loaded_with(place)}}
    assert reached == places


CLOCKS = {"time", "timeit", "resource.getrusage"}
WAITS = "waiting.py"
"""Looks again and again for what another process does, and counts no seconds."""


def test_no_test_reads_a_clock() -> None:
    """A busy machine would fail it; what a command loads is counted instead, and seconds are for benchmarks/."""
    tests = Path(__file__).parent
    found = {
        str(path.relative_to(tests))
        for path in tests.rglob("*.py")
        if CLOCKS & {one for name in imported(ast.parse(path.read_text())) for one in (name, name.split(".")[0])}
    }
    assert found == {WAITS}


@cache
def loaded_at_once(place: str) -> tuple[str, ...]:
    """Names that a file imports when it is loaded itself."""
    return tuple(imported(at_module_level(parse(place))))


def loaded_with(place: str) -> set[str]:
    """Files of the package that are loaded when this one is."""
    found: set[str] = set()
    waiting = [place]
    while waiting:
        names = loaded_at_once(waiting.pop())
        parts = {
            "/".join(name.split(".")[1:end]) for name in names for end in (None, -1) if name.startswith("voco_cli.")
        }
        new = {f"{part}{end}" for part in parts for end in (".py", "/__init__.py")}.intersection(PLACES) - found
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize("place", [place for place in PLACES if folder_of(place) in NO_TENSORS])
def test_what_comes_before_the_models_knows_no_tensors(place: str) -> None:
    assert {name.split(".")[0] for name in imported(parse(place))} & {"torch", "monai"} == set()


@pytest.mark.parametrize("place", [place for place in PLACES if folder_of(place) == "objectives"])
def test_objectives_are_pure(place: str) -> None:
    """No paths, no logging, no printing."""
    names = {name.split(".")[0] for name in imported(parse(place))}
    assert names & {"pathlib", "os", "logging", "rich", "typer", "json", "yaml"} == set()


NOT_EVERYWHERE = re.compile(
    r"\b(fcntl|killpg|setpgid|statvfs|SIGHUP|SIGKILL|pthread_sigmask|posix_fadvise|getrusage|getrlimit|sched_getaffinity"
    r"|register_at_fork|os\.fork|os\.uname)\b|^import resource|/proc/self/status",
    re.MULTILINE,
)


class WithoutTexts(ast.NodeTransformer):
    """Code without docstrings and other texts that stand alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node


@pytest.mark.parametrize("place", [place for place in PLACES if place != "operating_system.py"])
def test_what_not_every_system_has_is_called_in_one_module(place: str) -> None:
    assert NOT_EVERYWHERE.findall(ast.unparse(WithoutTexts().visit(parse(place)))) == []


def _sections(model: BaseModel) -> Iterator[tuple[str, str]]:
    """Class and name of every section, those inside sections, too."""
    for name, value in model:
        if isinstance(value, BaseModel):
            yield type(value).__name__, name
            yield from _sections(value)


def receivers(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """``(train, steps)`` for ``train.steps``, ``settings.train.steps`` and, by its annotation, of ``x: Train``."""
    sections_by_class = dict(_sections(Settings()))

    def walk(node: ast.AST, typed: dict[str, str]) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.ClassDef):  # ``self.options`` is what ``__init__`` got as ``options``
            made = next((item for item in node.body if getattr(item, "name", "") == "__init__"), None)
            arguments = made.args.args if isinstance(made, ast.FunctionDef) else []
            annotated = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
            typed = typed | {
                f"self.{a}": sections_by_class[kind] for a, kind in annotated.items() if kind in sections_by_class
            }
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
            annotated = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
            typed = typed | {a: sections_by_class[kind] for a, kind in annotated.items() if kind in sections_by_class}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Attribute):
                yield typed.get(ast.unparse(node.value), node.value.attr), node.attr
            elif isinstance(node.value, ast.Name):
                yield typed.get(node.value.id, node.value.id), node.attr
        for child in ast.iter_child_nodes(node):
            yield from walk(child, typed)

    return walk(tree, {})


def read_by_properties() -> dict[tuple[str, str], set[str]]:
    """``(crops, region_vox)`` to the fields that this property reads, directly or through others."""
    reads: dict[tuple[str, str], set[str]] = {}
    for node in ast.parse(Path(schema.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    reads[node.name.lower(), item.name] = {attr for name, attr in receivers(item) if name == "self"}
    for (section, _), names in reads.items():
        for name in list(names):
            names |= reads.get((section, name), set())
    return reads


def unread(model: type[BaseModel]) -> list[str]:
    """Settings that no line outside ``config/`` reads."""
    read = {pair for place in PLACES if folder_of(place) != "config" for pair in receivers(parse(place))}
    for (section, name), fields in read_by_properties().items():
        if (section, name) in read:
            read |= {(section, field) for field in fields}
    return [key for key, _ in field_descriptions(model) if tuple(f"settings.{key}".split(".")[-2:]) not in read]


def test_every_setting_is_read_somewhere() -> None:
    by_name = {f"objective.{name}.weight" for name in type(Settings().objective).model_fields}  # Objectives.active
    assert set(unread(Settings)) <= by_name | {"stages"}  # config.stages makes runs of them


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
def test_files_are_neither_huge_nor_crumbs(place: str) -> None:
    lines = len((PACKAGE / place).read_text().splitlines())
    assert lines <= 420
    assert lines >= 40 or Path(place).name in ("__init__.py", "__main__.py")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """All functions and methods of a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("place", PLACES)
def test_functions_are_short(place: str) -> None:
    """What lies after the signature: options of a command are part of it."""
    lengths = {one.name: (one.end_lineno or 0) - one.body[0].lineno + 1 for one in functions(parse(place))}
    assert {name: lines for name, lines in lengths.items() if lines > (95 if name == "demo_stages" else 60)} == {}


def test_a_class_name_is_given_once() -> None:
    names = [node.name for place in PLACES for node in ast.walk(parse(place)) if isinstance(node, ast.ClassDef)]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


NO_VERBS = {
    "what", "who", "whether", "how", "why", "where", "which", "when", "the", "a", "an", "one", "all", "those",
    "that", "this", "from", "of", "in", "it", "everything", "nothing", "each", "several", "both", "two", "its",
    "their", "other", "no", "not", "as", "at", "by", "with", "for", "to", "if", "more", "most", "some", "same",
    "such", "only",
}  # fmt: skip


def test_docstrings_open_with_a_verb() -> None:
    """Those of functions; a property is a thing and may be named as one."""
    opened: list[bool] = []
    for one in (function for place in PLACES for function in functions(parse(place))):
        is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
        text = ast.get_docstring(one)
        if text and not is_property:
            opened.append(re.findall(r"\w+", text.lower())[0] not in NO_VERBS)
    assert sum(opened) / len(opened) >= 0.95


def test_names_say_what_is_inside() -> None:
    parts = {part.removesuffix(".py") for place in PLACES for part in Path(place).parts}
    assert parts & {"utils", "util", "common", "base", "misc", "helpers"} == set()


def test_every_folder_is_a_package() -> None:
    for folder, _, files in os.walk(PACKAGE):
        if any(name.endswith(".py") for name in files):
            assert "__init__.py" in files, folder
