"""What all tests need of the process that runs them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.stores import Traffic, relayed

# A shell makes its background jobs deaf to Ctrl-C, and all that they start: tests that send it would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

# By default an example of more than 200 ms fails a test, as do examples slow to draw: a busy machine has such.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read once, when torch and numpy load: threads of several processes would wait for each other's cores, spinning.
    os.environ["OMP_NUM_THREADS"] = "1"

os.environ.pop("COLUMNS", None)  # processes of pytest-xdist have it, and tables would be folded to its width


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 on this machine, for all tests of a process."""
    pytest.importorskip("s3fs", reason="object stores are not tested: pip install s3fs")
    server = pytest.importorskip(
        "moto.server", reason="object stores are not tested: pip install 'moto[s3]' flask-cors"
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def new_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing known of any store, and local copies in a folder of the test's own."""
    from voco_cli import object_stores

    for name in ("_KNOWN", "_LISTED", "_WRITTEN"):
        monkeypatch.setattr(object_stores, name, type(getattr(object_stores, name))())
    monkeypatch.setenv("VOCO_SCRATCH_GB", "1")
    monkeypatch.setenv("VOCO_SCRATCH_DIR", str(tmp_path / "scratch"))


@pytest.fixture
def s3(s3_server: str, new_stores: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """An empty bucket, s3://scans, through a server that counts requests and can cut connections."""
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "voco-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with relayed(s3_server) as (url, traffic):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3fs.S3FileSystem.clear_instance_cache()
        store = s3fs.S3FileSystem()
        store.mkdir("scans")
        traffic.requests.clear()
        yield traffic
        traffic.cut_reads = traffic.cut_writes = 0
        store.rm("scans", recursive=True)
        s3fs.S3FileSystem.clear_instance_cache()
