"""cluster.yaml: what jobs are given; wrong values are refused with their place, unknown keys with the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.config.cluster_schema import ClusterSettings, limit_seconds, load_cluster
from voco_cli.errors import UsageError

FILE = """\
partition: gpu
account: lab
time: 24:00:00
nodes: 2
gpus_per_node: 4
cpus_per_task: 12
memory: 128G
container: apptainer exec --nv "my image.sif"
setup:
  - module load cuda
  - export A="b c"
options:
  qos: no
  exclusive:
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("cluster.yaml")
    path.write_text(text)
    return path


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as refused:
        load_cluster(written(text), overrides)
    return refused.value.message


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("2:03:04", 7384),
        ("24:00:00", 86400),
        ("2-12", 216000),
        ("1-02:03", 93780),
        ("1-02:03:04", 93784),
    ],
)
def test_times_are_read_as_slurm_reads_them(time: str, seconds: int) -> None:
    assert limit_seconds(time) == seconds


@pytest.mark.parametrize("time", ["", "24h", "1:2:3:4", "-5", "1-", "infinite", "1.5", "12:000"])
def test_other_times_are_refused(time: str) -> None:
    with pytest.raises(ValueError, match="it is no time such as"):
        limit_seconds(time)


def test_values_are_taken_as_they_are_written() -> None:
    """To YAML 24:00:00 is the number 86400, and `no` is false."""
    cluster = load_cluster(written(FILE))
    assert (cluster.time, cluster.nodes, cluster.gpus_per_node, cluster.tasks) == ("24:00:00", 2, 4, 4)
    assert cluster.setup == ("module load cuda", 'export A="b c"')
    assert cluster.options == {"qos": "no"}
    assert cluster.memory == "128G"


def test_what_is_typed_goes_before_the_file_and_the_usual_file_is_found() -> None:
    usual = Path(".config/voco/cluster.yaml")
    usual.parent.mkdir(parents=True)
    assert load_cluster() == ClusterSettings()
    usual.write_text("partition: usual\nnodes: 3\n")
    cluster = load_cluster(None, ["nodes=5", "options.qos=high", "account=~"])
    assert (cluster.partition, cluster.nodes, cluster.account, cluster.options) == ("usual", 5, None, {"qos": "high"})
    assert load_cluster(written("partition: own\n")).nodes == 1
    assert ClusterSettings(gpus_per_node=0).tasks == 1
    assert ClusterSettings(tasks_per_node=3).tasks == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "time: 24h\n",
            "cluster.yaml:1: time: it is no time such as 24:00:00, 2-12 (days-hours) or 90 (minutes) (got '24h').",
        ),
        ("nodes: two\n", "cluster.yaml:1: nodes: input should be a valid integer (got 'two')."),
        ("nodes: 0\n", "cluster.yaml:1: nodes: input should be greater than 0 (got '0')."),
        ("a: 1\npartitoin: x\n", "2 settings of the cluster are wrong:"),
        ("partitoin: x\n", "cluster.yaml:1: partitoin is not a setting of a cluster; the nearest is partition."),
        ("memory: 64 GB\n", "cluster.yaml:1: memory: it is no amount of memory such as 64G or 900M (got '64 GB')."),
        (
            'container: apptainer "x\n',
            "cluster.yaml:1: container: a quotation in it does not end (got 'apptainer \"x').",
        ),
        (
            'account: "lab\\nrm -rf x"\n',
            "cluster.yaml:1: account: it holds a line break or another character that is not seen "
            "(got 'lab\\nrm -rf x').",
        ),
        (
            'options:\n  qos: "a\\nb"\n',
            "cluster.yaml:2: options.qos: it holds a line break or another character that is not seen (got 'a\\nb').",
        ),
        ("options:\n  array: 1-5\n", "cluster.yaml:2: options.array is set by voco submit itself."),
        ("options:\n  --qos: a\n", "cluster.yaml:2: options.--qos: it is no long name of an option"),
        (
            "time: 5\nsignal_s: 250\n",
            "cluster.yaml:1: time 5 leaves no time to work before the signal, 250 s ahead of it (signal_s).",
        ),
        ("nodes: 1\nnodes: 2\n", "cluster.yaml:2: nodes is given twice, first on line 1."),
        ("- 1\n", "cluster.yaml holds no settings: the top level must be keys and values."),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    assert refusal(text).startswith(told)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert refusal("time: 24h\nnodse: 2\n").splitlines() == [
        "2 settings of the cluster are wrong:",
        "  cluster.yaml:1: time: it is no time such as 24:00:00, 2-12 (days-hours) or 90 (minutes) (got '24h').",
        "  cluster.yaml:2: nodse is not a setting of a cluster; the nearest is nodes.",
    ]


def test_what_is_typed_wrongly() -> None:
    assert refusal("", "nodes") == "--set 'nodes' is not of the form key=value."
    assert refusal("", "nodes=x") == "--set: nodes: input should be a valid integer (got 'x')."
    with pytest.raises(UsageError, match=r"^gone\.yaml cannot be read as a settings file"):
        load_cluster(Path("gone.yaml"))
