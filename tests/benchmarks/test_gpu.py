"""The GPU script where there is no GPU: what it imports, and one walk through its code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNWANTED = """
import sys
{work}
found = sorted({{name.split('.')[0] for name in sys.modules}} & {{'monai', 'SimpleITK', 'nibabel', 'pydicom'}})
sys.exit(f'imported: {{found}}' if found else 0)
"""


def ran(work: str) -> subprocess.CompletedProcess[str]:
    code = UNWANTED.format(work=work)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_without_a_gpu_it_says_so_and_imports_neither_monai_nor_simpleitk() -> None:
    ended = ran(
        "import torch, benchmarks.gpu, voco_cli.pretrain.dataset, voco_cli.training.dataloader\n"
        "from benchmarks.gpu_data import settings_of\n"
        "assert settings_of('tpami', 3, {}).data.workers == 3\n"
        "torch.cuda.is_available = lambda: False\n"
        "assert benchmarks.gpu.main([]) == 1"
    )
    assert ended.returncode == 0, ended.stderr
    assert "There is no CUDA device here" in ended.stdout


@pytest.mark.slow
def test_dry_walks_through_it(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    ended = ran(f"import benchmarks.gpu; assert benchmarks.gpu.main(['--dry', '--out', {str(out)!r}]) == 0")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert {"card", "missing", "matrix rate", "cvpr f=12, ratio", "data wait, cvpr"} <= set(found)
    assert found["cvpr f=12, as released"]["volumes_per_s"] > 0
    assert found["data wait, cvpr"]["volumes_per_s"] > 0
