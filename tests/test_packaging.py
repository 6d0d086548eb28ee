"""The distribution: its name, what is in it, its types, and that it runs where it is installed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import voco_cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command without our checkout on its path; fail with what it said."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, env={**clean, **environment}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source distribution, by their endings."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel, and for the rest the packages of ours."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    with zipfile.ZipFile(built[".whl"]) as wheel:  # a wheel of Python alone is installed by unpacking it
        wheel.extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def test_messages_name_the_distribution_and_extras_that_it_has() -> None:
    assert PROJECT["name"] == "voco-cli"
    texts = [path.read_text() for path in [*(ROOT / "voco_cli").rglob("*.py"), *ROOT.rglob("docs/**/*.md")]]
    named = {extra for text in texts for extra in re.findall(r"voco-cli\[(\w+)\]", text)}
    assert named
    assert named <= set(PROJECT["optional-dependencies"])
    assert not [text for text in texts if re.search(r"install ['\"]?voco\b(?!-cli)", text)]


def test_what_the_apptainer_image_copies_is_there() -> None:
    sections = dict(re.findall(r"^%(\w+)\n((?:[ ]+.*\n|\n)*)", (ROOT / "apptainer.def").read_text(), re.MULTILINE))
    copied = [name for line in sections["files"].splitlines() for name in line.split()[:-1]]
    assert {"voco_cli", "tests", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "pytest" in sections["test"]


def test_classifiers_are_the_pythons_that_are_tested() -> None:
    listed = [name.rpartition(" :: ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
    assert tuple(listed) == PYTHONS


def test_public_names_are_those_that_the_type_checker_sees() -> None:
    """The table of homes, the list of names and the imports for the type checker say the same."""
    (only_types,) = (node for node in ast.parse(Path(voco_cli.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module or "").removeprefix("voco_cli.")
        for node in only_types.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == voco_cli._HOMES
    assert voco_cli.__all__ == sorted([*seen, "__version__"], key=lambda name: (not name.isupper(), name))
    assert set(voco_cli.__all__) <= set(dir(voco_cli))


@pytest.mark.parametrize("name", sorted(voco_cli._HOMES))
def test_public_names_are_imported_when_they_are_asked_for(name: str) -> None:
    home = import_module(f"voco_cli.{voco_cli._HOMES[name]}")
    assert getattr(voco_cli, name) is getattr(home, name)
    assert (getattr(voco_cli, name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'pretrian'"):
        voco_cli.pretrian  # noqa: B018


def test_importing_the_package_imports_no_other() -> None:
    code = "import sys; before = set(sys.modules); import voco_cli; print(*set(sys.modules) - before)"
    modules = run(sys.executable, "-c", code, cwd=ROOT, PYTHONPATH=str(ROOT)).stdout.split()
    assert {name for name in modules if name.split(".")[0] not in sys.stdlib_module_names} == {"voco_cli"}


def test_what_is_in_the_distributions(built: dict[str, Path]) -> None:
    wheel = zipfile.ZipFile(built[".whl"])
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names} == {"voco_cli", "voco_cli-0.1.0.dist-info"}
    for name in ("py.typed", "__main__.py", "config/recipes/cvpr.yaml"):
        assert f"voco_cli/{name}" in names
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "voco_cli").rglob("*") if path.is_file()}
    assert names >= {name for name in tracked if not name.endswith((".pyc", ".pyo"))}
    with tarfile.open(built[".gz"]) as source:
        top = {name.split("/")[1] for name in source.getnames()}
    assert top >= {
        "Makefile",
        "constraints.txt",
        "Dockerfile",
        "apptainer.def",
        "CITATION.cff",
        "LICENSE",
        "README.md",
        "tests",
        "docs",
    }


def test_links_of_the_readme_work_on_a_package_index(built: dict[str, Path]) -> None:
    wheel = zipfile.ZipFile(built[".whl"])
    shown = wheel.read("voco_cli-0.1.0.dist-info/METADATA").decode().partition("\n\n")[2]
    links = re.findall(r"\]\((.+?)\)", shown)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    source = PROJECT["urls"]["Source"]
    assert f"({source}/blob/main/docs/start.md)" in shown
    ours = [link.removeprefix(f"{source}/blob/main/") for link in links if link.startswith(f"{source}/blob/main/")]
    assert all((ROOT / link.partition("#")[0]).exists() for link in ours)


def test_the_type_checker_knows_the_installed_package(installed: Path, tmp_path: Path) -> None:
    """Types come from the wheel: right use passes, wrong use is found."""
    (tmp_path / "right.py").write_text(
        "from pathlib import Path\n\nfrom voco_cli import Settings, load_settings, read_scan\n\n"
        'settings: Settings = load_settings("debug").settings\nsteps: int = settings.train.steps\n'
        'spacing: tuple[float, float, float] = read_scan(Path("ct.nii.gz")).spacing_xyz_mm\n'
    )
    (tmp_path / "wrong.py").write_text("from voco_cli import read_scan\n\nread_scan(3)\n")
    (tmp_path / "mypy.ini").write_text(  # types of others that take their time and are not asked for
        "[mypy]\n[mypy-torch.*,numpy.*,scipy.*,matplotlib.*,rich.*]\nfollow_imports = skip\n"
        "follow_imports_for_stubs = true\n"
    )
    check = ["-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", "--python-executable", installed]
    both = [sys.executable, *map(str, check), "right.py", "wrong.py"]
    found = subprocess.run(both, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1
    wrong, total = found.stdout.splitlines()
    assert wrong.startswith('wrong.py:3: error: Argument 1 to "read_scan" has incompatible type "int"')
    assert total == "Found 1 error in 1 file (checked 2 source files)"


def python_of(version: str) -> str | None:
    """An interpreter of this version that runs."""
    found = shutil.which(f"python{version}")
    candidates = [found, *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return candidate
    return None


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_runs_on_this_python(version: str, built: dict[str, Path], tmp_path: Path) -> None:
    """In a fresh environment: index, a preview, three steps of pre-training, three of fine-tuning."""
    python = python_of(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    run(python, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    inside = tmp_path / "env" / "bin"
    constrained = ["--quiet", "--constraint", ROOT / "constraints.txt"]
    fetched = subprocess.run(
        [str(inside / "pip"), "install", *map(str, constrained), "torch"], capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"torch cannot be installed for Python {version}: {fetched.stderr.strip().splitlines()[-1]}")
    run(inside / "pip", "install", *constrained, built[".whl"], cwd=tmp_path)

    def voco(*arguments: str | Path) -> None:
        run(inside / "voco", *arguments, cwd=tmp_path)

    code = (
        "from pathlib import Path\nfrom voco_cli.demo.stages import write_scans\n"
        "from voco_cli.demo.stages import PRETRAINING, STUDY\n"
        "write_scans(Path('scans'), 8)\n"
        "Path('pretrain.yaml').write_text(PRETRAINING)\nPath('study.yaml').write_text(STUDY)\n"
    )
    run(inside / "python", "-c", code, cwd=tmp_path)
    voco("index", "scans/unlabelled", "-o", "data.json")
    voco("preview-labels", "scans/unlabelled/ct_001.nii.gz", "--config", "pretrain.yaml", "-o", "preview.png")
    voco("pretrain", "data.json", "--config", "pretrain.yaml", "--steps", "3", "-o", "runs/pretrain")
    voco("tasks", "new", "scans/labelled/dataset.json", "-o", "task.yaml")
    task = ("--task", "task.yaml", "--config", "study.yaml", "--weights", "runs/pretrain")
    voco("finetune", *task, "--steps", "3", "-o", "runs/finetune")
    assert (tmp_path / "runs/finetune/evaluation/test/cases.csv").is_file()
    assert (tmp_path / "preview.png").stat().st_size > 10_000
