"""`voco submit` and `voco jobs`: what is refused before anything is sent, what is shown, what runs here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import voco

SBATCH = """#!/bin/bash
echo "$1" >> "$SENT"
cat "$1" >> "$SENT.scripts"
echo "Submitted batch job $((40 + $(wc -l < "$SENT")))"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file, and a sbatch that is on no path yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SENT", str(tmp_path / "sent"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    scan = {"image": "a.nii.gz", "patient": "a"}
    (tmp_path / "data.json").write_text(json.dumps({"modality": "CT", "training": [scan]}))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    return tmp_path


PRETRAIN = ("pretrain", "data.json", "--recipe", "debug", "-o", "runs/a b")


def refused(folder: Path, *words: str, code: int = 2, **environment: str) -> list[str]:
    before = sorted(folder.rglob("*"))
    shown = voco("submit", *words, cwd=folder, **environment)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert sorted(folder.rglob("*")) == before
    return shown.stderr.splitlines()


def test_a_dry_run_prints_the_script_and_leaves_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    first = voco("submit", "--dry-run", *PRETRAIN, cwd=folder)
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert f"#SBATCH --chdir={folder}" in lines
    assert f"#SBATCH --output={folder}/jobs/%j_0_log.out" in lines
    (command,) = (line for line in lines if line.startswith("srun "))
    assert command.endswith(" -m voco_cli pretrain data.json --recipe debug -o 'runs/a b'")
    assert voco("submit", *PRETRAIN, "--dry-run", cwd=folder).stdout == first.stdout
    assert sorted(folder.rglob("*")) == before


def test_what_is_sent_is_what_a_dry_run_prints(folder: Path) -> None:
    printed = voco("submit", "--dry-run", *PRETRAIN, cwd=folder).stdout
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    sent = voco("submit", *PRETRAIN, cwd=folder, PATH=path)
    assert sent.stdout.splitlines() == [
        "sent as job 41: voco pretrain data.json --recipe debug -o 'runs/a b'",
        f"wrote {folder}/jobs/41_submission.sh",
        "next: voco jobs",
    ]
    assert (folder / "sent.scripts").read_text() + "\n" == printed
    assert (folder / "jobs" / "41_submission.sh").read_text() + "\n" == printed
    (job,) = json.loads(voco("jobs", "--json", cwd=folder).stdout)
    assert (job["job"], job["state"], job["run"], job["processes"]) == ("41", "waiting", "runs/a b", 1)
    assert job["command"] == list(PRETRAIN)
    table = voco("jobs", cwd=folder).stdout.splitlines()
    assert table[0].split() == ["job", "state", "step", "loss", "left", "last", "written", "command"]
    assert table[1].split() == ["41", "waiting", "voco", *PRETRAIN[:-1], "'runs/a", "b'"]
    assert table[2] == "next: voco report 'runs/a b'"


def test_a_study_is_prepared_before_its_parts_and_merged_after_them(folder: Path) -> None:
    study = ("study", "--task", "btcv", "--weights", "w.pt", "-o", "runs/s")
    shown = voco("submit", "--dry-run", "--shards", "3", *study, cwd=folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    commands = [line.partition(" -m voco_cli ")[2] for line in shown.stdout.splitlines() if line.startswith("srun ")]
    asked = " ".join(study)
    assert commands == [f"{asked} --prepare", f'{asked} --shard "$SLURM_ARRAY_TASK_ID/3"', "merge runs/s"]
    assert shown.stdout.count("#SBATCH --dependency=afterok:NUMBER_OF_THE_JOB_BEFORE") == 2
    assert shown.stdout.count("#SBATCH --array=1-3") == 1
    (only,) = (
        line
        for line in voco("submit", "--dry-run", *study, "--prepare", cwd=folder).stdout.splitlines()
        if line.startswith("srun ")
    )
    assert only.endswith(f"{asked} --prepare")


@pytest.mark.parametrize(
    ("words", "command", "merge"),
    [
        ("evaluate --predictions . --labels . -o out", "evaluate --predictions . --labels . -o out", "merge out"),
        ("embed data.json data.json -o e.npz", "embed data.json data.json -o e.npz", "merge e.npz"),
    ],
)
def test_what_works_scan_by_scan_is_an_array_and_a_merge(words: str, command: str, merge: str, folder: Path) -> None:
    shown = voco("submit", "--dry-run", "--shards", "2", *words.split(), cwd=folder)
    commands = [line.partition(" -m voco_cli ")[2] for line in shown.stdout.splitlines() if line.startswith("srun ")]
    assert commands == [f'{command} --shard "$SLURM_ARRAY_TASK_ID/2"', merge]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            PRETRAIN,
            [
                "error: There is no sbatch on the path: this is no machine that jobs are sent from.",
                "hint: log in where SLURM is; --dry-run prints the script, --local runs the command here",
            ],
        ),
        (
            ("pretrian", "data.json"),
            ["error: No such command 'pretrian'. Did you mean 'pretrain'?", "hint: voco --help says how it is called"],
        ),
        (
            ("cache", "bild", "data.json"),
            ["error: No such command 'bild'. Did you mean 'build'?", "hint: voco cache --help says how it is called"],
        ),
        (("cache",), ["error: voco cache is a group of commands.", "hint: choose one of build, verify, stats, prune"]),
        (
            ("submit", *PRETRAIN),
            [
                "error: voco submit sends other commands, not submit.",
                "hint: for example voco submit pretrain data.json",
            ],
        ),
        (
            (*PRETRAIN, "--stpes", "3"),
            ["error: voco pretrain has no option --stpes.", "hint: did you mean --set or --steps?"],
        ),
        (
            (*PRETRAIN, "--set", "train.stpes=3"),
            ["error: --set: train.stpes is not a setting; the nearest is train.steps."],
        ),
        (
            ("--set", "time=1d", *PRETRAIN),
            ["error: --set: time: it is no time such as 24:00:00, 2-12 (days-hours) or 90 (minutes) (got '1d')."],
        ),
        (
            ("--cluster", "gone.yaml", *PRETRAIN),
            ["error: gone.yaml cannot be read as a settings file: No such file or directory.", "hint: check the path"],
        ),
        (
            ("--folder", "data.json", *PRETRAIN),
            ["error: {folder}/data.json is a file.", "hint: choose another folder with --folder"],
        ),
        (
            ("--folder", "50%", *PRETRAIN),
            [
                "error: {folder}/50% has a character in its name that SLURM would not take as it is.",
                "hint: choose another",
            ],
        ),
    ],
)
def test_what_is_refused_before_anything_is_sent(words: tuple[str, ...], told: list[str], folder: Path) -> None:
    assert refused(folder, *words) == [line.replace("{folder}", str(folder)) for line in told]


def test_input_that_is_missing_is_told_before_hours_in_a_queue(folder: Path) -> None:
    told = ["error: gone does not exist.", "hint: nothing was sent; paths are seen from the current folder"]
    assert refused(folder, "index", "gone", code=3) == told
    (folder / "cluster.yaml").write_text("container: apptainer exec x.sif\n")
    assert voco("submit", "--cluster", "cluster.yaml", "--dry-run", "index", "gone", cwd=folder).returncode == 0


def test_without_the_package_it_says_how_to_install_it(folder: Path) -> None:
    code = (
        "import sys, importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'submitit' else find(name, *rest)\n"
        "sys.argv = ['voco', 'submit', '--dry-run', 'doctor']\nfrom voco_cli.__main__ import main\nmain()\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr.splitlines()) == (
        2,
        [
            "error: voco submit needs the package submitit, which is not installed.",
            'hint: pip install "voco-cli[cluster]"',
        ],
    )


def test_locally_a_command_runs_here_and_is_remembered(folder: Path) -> None:
    shown = voco("submit", "--local", "config", "show", "--recipe", "debug", cwd=folder)
    assert shown.returncode == 0
    assert "train.steps" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "next: voco jobs"
    failed = voco("submit", "--local", "--folder", "jobs", "config", "show", "--set", "train.steps=x", cwd=folder)
    assert failed.returncode == 2
    found = json.loads(voco("jobs", "jobs", "--json", cwd=folder).stdout)
    assert [(job["job"], job["state"]) for job in found] == [("local-1", "done"), ("local-2", "failed (exit code 2)")]


def test_jobs_where_nothing_was_submitted(tmp_path: Path) -> None:
    shown = voco("jobs", cwd=tmp_path)
    assert (shown.returncode, shown.stderr.splitlines()) == (
        3,
        [
            "error: jobs holds no submitted.jsonl: nothing was submitted with it.",
            "hint: give the folder of voco submit --folder",
        ],
    )
