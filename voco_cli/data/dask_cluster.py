"""Jobs on a Dask cluster: `dask scheduler` and its workers, which see the same file system under the same paths."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from voco_cli import __version__
from voco_cli.data.parallel import WorkerKilledError
from voco_cli.errors import ResourceError, UsageError

Job = TypeVar("Job")
Result = TypeVar("Result")

ADDRESS = r"(tcp|tls|ws|wss|ucx)://.+:[0-9]+/?"
ANSWER_WITHIN_S = 20.0
JOBS_PER_THREAD = 2
FEWEST_AT_ONCE = 64
"""Jobs that are handed out at once at least, for a cluster that grows while it works."""


class DaskCluster:
    """A Dask cluster, connected to.

    Args:
        address: of its scheduler, with protocol and port.
        answer_within_s: seconds after which an address that does not answer, or has no worker, is given up.
    Raises:
        UsageError: no address, the package distributed is missing, or the workers have another voco, or none.
        ResourceError: nobody answers there, or there is no worker.
    """

    def __init__(self, address: str, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        try:
            import distributed
        except ImportError as error:
            raise UsageError(
                "--scheduler needs the package distributed, which is not installed.", 'pip install "voco-cli[cluster]"'
            ) from error
        if not re.fullmatch(ADDRESS, address):
            raise UsageError(f"{address} is not the address of a Dask scheduler.", "give one such as tcp://host:8786")
        self.address = address
        try:
            self.client = distributed.Client(address, timeout=answer_within_s, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ResourceError(
                f"No Dask scheduler answers at {address} within {answer_within_s:g} s.",
                "is the address right, and does `dask scheduler` run there?",
            ) from error
        try:
            self._require_workers(answer_within_s)
        except BaseException:
            self.client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def _require_workers(self, answer_within_s: float) -> None:
        try:
            self.client.wait_for_workers(1, timeout=answer_within_s)
        except TimeoutError as error:
            raise ResourceError(
                f"The Dask scheduler at {self.address} has no worker.", f"start some: dask worker {self.address}"
            ) from error
        for worker, version in self.client.run(_version, on_error="return").items():
            if version != __version__:
                said = f"voco {version}" if isinstance(version, str) else f"no voco that it can load ({version})"
                raise UsageError(
                    f"The Dask worker {worker} has {said}, and this is voco {__version__}.",
                    "start the workers in the environment of this command",
                )

    def run(
        self,
        work: Callable[[Job], Result],
        jobs: Iterable[Job],
        finished: Callable[[Job, Result | Exception], None],
    ) -> None:
        """Do every job and hand out its outcome once; Dask itself does again what a dead worker had at hand.

        A job that Dask gives up, for it ended one worker after another, is tried once more alone.

        Raises:
            ResourceError: the scheduler is gone.
        """
        for job in self._run(work, deque(jobs), finished, self._at_once()):
            if self._run(work, deque([job]), finished, 1):
                finished(job, WorkerKilledError())

    def _at_once(self) -> int:
        return max(FEWEST_AT_ONCE, JOBS_PER_THREAD * sum(self.client.nthreads().values()))

    def _run(
        self,
        work: Callable[[Job], Result],
        pending: deque[Job],
        finished: Callable[[Job, Result | Exception], None],
        at_once: int,
    ) -> list[Job]:
        """Do the pending jobs; return those that ended their workers."""
        from distributed.scheduler import KilledWorker

        # The same job of another call is another job: files change.
        executor: Executor = self.client.get_executor(pure=False)
        running: dict[Future[Any], Job] = {}
        suspects: list[Job] = []
        try:
            while pending or running:
                while pending and len(running) < at_once:
                    job = pending.popleft()
                    running[executor.submit(work, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        outcome = future.result()
                    except KilledWorker:
                        suspects.append(job)
                        continue
                    except CancelledError as error:
                        raise ResourceError(
                            f"The Dask scheduler at {self.address} is gone.", "start it again, and then this command"
                        ) from error
                    except Exception as error:  # whatever a scan does to a reader: the caller records it
                        outcome = error
                    finished(job, outcome)
        finally:
            executor.shutdown(wait=False)
        return suspects


def _version() -> str:
    return __version__
