"""Loader processes do not outlive a loader that fails while they start."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import multiprocessing, os, resource, sys
import torch
from types import SimpleNamespace
from voco_cli.engine.loading import load_batches
from voco_cli.engine.sampler import BatchPlan
from voco_cli.settings.sections import Data

class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return torch.zeros(4)

place = SimpleNamespace(device=torch.device("cpu"))
torch.zeros(1).share_memory_()
opened = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 12, opened + 12))
try:
    list(load_batches(Numbers(), BatchPlan(8, 2, 0), (0, 4), torch.stack, Data(workers=6), place))
except Exception as error:
    print(type(error).__name__, len(multiprocessing.active_children()))
"""


def test_a_loader_that_runs_out_of_files_leaves_no_process_behind() -> None:
    """Else Python would wait at its end for processes that are deaf to the signal by which it ends them."""
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["OSError", "0"]
