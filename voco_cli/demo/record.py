"""What a demo's folder knows of itself: demo.json, which the same command reads to go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from voco_cli import __version__
from voco_cli.demo.size import Size, Speed
from voco_cli.errors import DataError
from voco_cli.whole_files import write_whole

FORMAT = "voco-demo/1"


@dataclass
class StageTime:
    """What a stage took, over all calls.

    Attributes:
        seconds: by the clock.
        cpu_s: of all its processes.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    done: bool = False


@dataclass
class DemoRecord:
    """What was chosen, and how far it has come.

    Attributes:
        minutes: that were given.
        speed: as measured then.
        size: as chosen then; it stays, so that the same command goes on.
        out, folder: the folder as it was given, and where the command was called.
        stages: by name.
        peak_bytes: largest footprint of a process.
    """

    minutes: float
    speed: Speed
    size: Size
    out: str
    folder: str
    stages: dict[str, StageTime] = field(default_factory=dict)
    peak_bytes: int = 0

    def of(self, stage: str) -> StageTime:
        """What is known of a stage."""
        return self.stages.setdefault(stage, StageTime())


def write_record(path: Path, record: DemoRecord) -> None:
    """Write demo.json.

    Raises:
        ResourceError: the disk is full or does not allow it.
    """
    held = {"format": FORMAT, "version": __version__, **asdict(record)}
    write_whole(path, (json.dumps(held, indent=1) + "\n").encode())


def read_record(path: Path) -> DemoRecord | None:
    """The record at ``path``; none where there is no file.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    try:
        held = json.loads(path.read_bytes())
        if held["format"] != FORMAT:
            raise DataError(f"{path} has the format {held['format']!r}, not {FORMAT!r}.", "choose another --out")
        return DemoRecord(
            held["minutes"],
            Speed(**held["speed"]),
            Size(**held["size"]),
            held["out"],
            held["folder"],
            {name: StageTime(**one) for name, one in held["stages"].items()},
            held["peak_bytes"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}.", "choose another --out, or remove the folder") from error
