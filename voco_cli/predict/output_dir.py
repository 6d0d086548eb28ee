"""The folder that predictions go to: which network made them, of which scans, and what may be written there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import write_atomic
from voco_cli.data.cache.keys import volume_key, voxel_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import IGNORE
from voco_cli.errors import UsageError
from voco_cli.foreign_text import visible_json
from voco_cli.predict.predictor import Trained

FORMAT = "voco-prediction/1"
RECORD, LABELS = "prediction.json", "labels.json"
SAVE_EVERY_S = 10.0
"""What a killed process has to predict again, at most."""


@dataclass
class PredictionFolder:
    """Predictions of one network, with one record of all of them.

    Attributes:
        path: the folder.
        made_by: everything that a prediction depends on, besides its scan.
        cases: finished cases, and what tells the content of their scans.
        failed: cases that could not be predicted the last time, and why.
    """

    path: Path
    made_by: Mapping[str, Any]
    run: str
    cases: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    saved_s: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, path: Path, trained: Trained, targets: Sequence[Path], *, overwrite: bool) -> PredictionFolder:
        """Open a folder to predict into, or go on with; it is made where there is none.

        Args:
            targets: files that will be written.
            overwrite: what others have written may be replaced.
        Raises:
            UsageError: it holds predictions of another network or other settings, or files of the same names.
            ResourceError: it cannot be written to.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder for predictions.", "choose another name with --output")
        folder = cls(path, made_by(trained), str(trained.run))
        record = _read(path / RECORD)
        if record is None and not overwrite:
            present = next((target for target in targets if target.exists()), None)
            if present is not None:
                raise UsageError(
                    f"{present} is there and was not written by voco predict.", "choose another folder, or --overwrite"
                )
        if record is not None and record.get("made_by") == folder.made_by:
            folder.cases = {str(name): str(source) for name, source in record.get("cases", {}).items()}
        elif record is not None and not overwrite:
            raise UsageError(
                f"{path} holds predictions with {difference(record, folder.made_by)}.",
                "choose another folder, or --overwrite",
            )
        write_atomic(path / LABELS, _json_bytes(_labels(trained)))
        folder.save()
        return folder

    @property
    def files(self) -> tuple[Path, Path]:
        """What lies beside the label maps."""
        return self.path / LABELS, self.path / RECORD

    @staticmethod
    def source_of(entry: Entry) -> str:
        """What tells the content of a case's files from others, by size, time and samples.

        Raises:
            DataError: one is missing.
        """
        return "|".join(volume_key(one.image, one.files, "", full_hash=False) for one in entry.channel_entries())

    def is_finished(self, case: str, source: str, path: Path) -> bool:
        """Whether a prediction of this very scan is there."""
        return self.cases.get(case) == source and path.is_file()

    def record(self, case: str, source: str) -> None:
        """A case is finished."""
        self.cases[case] = source
        if time.monotonic() - self.saved_s > SAVE_EVERY_S:
            self.save()

    def record_failure(self, case: str, reason: str) -> None:
        """A case could not be predicted."""
        self.cases.pop(case, None)
        self.failed[case] = reason

    def save(self) -> None:
        """Write the record.

        Raises:
            ResourceError: the disk is full.
        """
        content = {"format": FORMAT, "run": self.run, "made_by": self.made_by, "cases": self.cases}
        write_atomic(self.path / RECORD, _json_bytes({**content, "failed": self.failed}))
        self.saved_s = time.monotonic()


def predicted_files(record: Path) -> set[Path]:
    """A record, and what it says was predicted beside it; nothing where it is of another program."""
    content = _read(record)
    if not content:
        return set()
    suffix = content.get("made_by", {}).get("suffix", "")
    return {record, record.parent / LABELS, *(record.parent / f"{case}{suffix}" for case in content.get("cases", {}))}


def made_by(trained: Trained) -> dict[str, Any]:
    """Everything that a label map depends on, besides its scan, as JSON has it."""
    settings = trained.settings
    task, predict = settings.task, settings.predict
    depends = {
        "weights": trained.digest,
        "overlap": predict.overlap,
        "flips": predict.flips,
        "suffix": predict.suffix,
        "patch_size": task.patch_size,
        "channels": task.channels,
        "classes": {one.name: one.values[0] for one in task.classes},
        "voxels": voxel_settings(settings.preprocess, settings.cache),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(depends))
    return as_read


def _labels(trained: Trained) -> dict[str, Any]:
    task = trained.settings.task
    ignored = {} if task.ignore_value is None else {str(task.ignore_value): IGNORE}
    return {
        "labels": {**{str(one.values[0]): one.name for one in task.classes}, **ignored},
        "run": str(trained.run),
        "step": trained.about.get("step"),
        "chosen": trained.about.get("chosen"),
    }


def _read(path: Path) -> Mapping[str, Any] | None:
    """A record; an empty one where it is damaged, none where there is none."""
    try:
        record: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == FORMAT else {}


def difference(record: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """What a record was made by that is another now, in a few words."""
    before = record.get("made_by", {})
    differ = [name for name in made if before.get(name) != made[name]]
    if "weights" in differ:
        return f"other weights (of {record.get('run', 'an unknown run')})"
    return f"another {differ[0]} ({before.get(differ[0])} and now {made[differ[0]]})" if differ else "another record"


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (visible_json(json.dumps(value, indent=1, ensure_ascii=False)) + "\n").encode()
