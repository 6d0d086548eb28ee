"""Metrics and statistics know arrays and numbers; only the named shells touch files."""

import ast
from pathlib import Path

import pytest

import voco_cli.evaluate

SHELLS = {
    "__init__",
    "label_check",
    "patient_case",
    "read_results",
    "result_files",
    "classification/__init__",
    "classification/results",
    "segmentation/__init__",
    "segmentation/case_files",
    "segmentation/classes",
    "segmentation/evaluate",
    "segmentation/results",
}
PURE = {"errors", "csv_text", "foreign_text", "data.index.patients", "data.case_labels"}
FOLDER = Path(voco_cli.evaluate.__file__).parent
OUTSIDE = {"pathlib", "os", "json", "yaml", "logging", "rich", "typer", "torch", "monai", "SimpleITK", "tempfile"}


@pytest.mark.parametrize(
    "module", sorted({path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.py")} - SHELLS)
)
def test_a_pure_module_touches_nothing(module: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert {name.split(".")[0] for name in imported} & OUTSIDE == set()
    ours = {name for name in imported if name.startswith("voco_cli.")}
    assert all(name.startswith("voco_cli.evaluate.") or name.removeprefix("voco_cli.") in PURE for name in ours)
    assert not {name.rsplit(".")[-1] for name in ours} & SHELLS
