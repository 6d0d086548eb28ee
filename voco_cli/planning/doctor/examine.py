"""All checks, in the order in which one would mend what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from voco_cli.errors import VocoError
from voco_cli.planning.doctor import hardware, software, storage
from voco_cli.planning.doctor.check import Check, looked_at
from voco_cli.planning.doctor.loaded import Loaded, load_apart
from voco_cli.settings import Settings, load_settings


def examine(data: Path | None = None, load: Callable[[], Loaded] = load_apart) -> Iterator[Check]:
    """Look at everything; what cannot be looked at is told, and the rest goes on.

    Args:
        data: data.json whose cache is meant, or a folder to keep a cache in; none is the current folder.
        load: how libraries and devices are looked at.
    """
    yield looked_at("program", software.program)
    loaded = load()
    yield from (*loaded["libraries"], *loaded.get("extras", ()))
    settings, told = _settings()
    yield from told
    yield from loaded.get("processor", ())
    yield looked_at("memory", hardware.memory)
    yield from loaded.get("GPU", ())
    yield looked_at("shared memory", lambda: hardware.shared_memory(settings))
    yield looked_at("open files", hardware.open_files)
    yield looked_at("allocator", lambda: hardware.allocator(settings))
    if data is not None:
        yield looked_at("data", lambda: _data(data), failing="problem")
    cache = _cache_folder(settings, data)
    places = [looked_at("cache folder", lambda: storage.room("cache folder", cache), failing="problem")]
    places += [looked_at("run folder", lambda: storage.room("run folder", settings.run.dir), failing="problem")]
    yield from places
    if places[0].status != "problem":
        yield looked_at("cache throughput", lambda: storage.throughput(cache))


def _settings() -> tuple[Settings, list[Check]]:
    """Settings as a run without options would have them; where the environment spoils them, those of the defaults."""
    try:
        return load_settings().settings, []
    except VocoError as error:
        return Settings(), [
            Check("settings", "problem", error.message, "correct the variables VOCO_* of the environment")
        ]


def _cache_folder(settings: Settings, data: Path | None) -> Path:
    """As `cache_folder` has it, which a broken library must not keep from being known."""
    beside = Path() if data is None else data if data.is_dir() else data.parent
    return settings.cache.dir or beside.resolve() / ".voco-cache"


def _data(data: Path) -> Check:
    """How many scans a list has, and whether they are there."""
    if data.is_dir():
        return Check("data", "ok", f"{data} is a folder; voco index {data} lists its scans")
    from voco_cli.dataset.datalist_file import read_datalist

    datalist = read_datalist(data)
    counts = {split: len(getattr(datalist, split)) for split in ("training", "validation", "test")}
    found = f"{data}: {counts['training']} scans to train on, {counts['validation']} held out; all are there"
    if not counts["training"]:
        return Check("data", "problem", f"{data} lists no scan to train on", "voco index FOLDER", counts)
    if not counts["validation"]:
        advice = "voco index --validation 0.1 holds some out, or nothing says whether a training learned"
        return Check("data", "warning", found, advice, counts)
    return Check("data", "ok", found, values=counts)
