"""`voco cache`: build, check, measure and tidy the store of preprocessed volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import (
    ConfigOption,
    JsonOption,
    RecipeOption,
    SetOption,
    require_agreement,
    settings_words,
    spoken_recipe,
)
from voco_cli.document.terminal import done, folded, note, out, print_json, progress, shell_words, warn
from voco_cli.errors import DataError, UsageError, VocoError

if TYPE_CHECKING:
    from voco_cli.data.cache.store import BuildReport, VolumeCache
    from voco_cli.data.index.datalist import Entry

app = typer.Typer(
    help="Build, check and tidy the store of preprocessed scans.\n\n`voco pretrain` builds what it needs by itself.",
    no_args_is_help=True,
)

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")]
DirOption = Annotated[
    Path | None, typer.Option("--dir", help="Cache folder (by default cache.dir, or else .voco-cache beside DATA).")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes (by default one a core).")]
LabelsOption = Annotated[bool, typer.Option("--labels", help="The label maps too, which are stored beside the scans.")]
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class CacheOptions:
    """What every `voco cache` command is given, so that the next command can be named in full."""

    data: Path
    recipe: str | None
    config: Path | None
    overrides: Sequence[str]
    folder: Path | None
    labels: bool = False

    def command(self, name: str) -> str:
        """Return another command on the same cache."""
        place = ["--dir", str(self.folder)] if self.folder else []
        place += ["--labels"] if self.labels else []
        settings = settings_words(self.recipe, self.config, self.overrides)
        return shell_words("voco", "cache", name, self.data, *settings, *place)

    def pretrain_command(self) -> str:
        """Return the training that finds this very cache."""
        from voco_cli.config import load_settings

        place = ["--set", f"cache.dir={self.folder}"] if self.folder else []
        recipe = self.recipe or spoken_recipe(load_settings(self.recipe, self.config, self.overrides))
        return shell_words("voco", "pretrain", self.data, *settings_words(recipe, self.config, self.overrides), *place)

    def entries(self) -> list[Entry]:
        """Return the scans of the data file."""
        from voco_cli.data.index.datalist_file import read_datalist

        return [entry for _, entry in read_datalist(self.data).entries()]

    def open(self, workers: int | None = None) -> VolumeCache:
        """Open the cache with the settings that suit the scans.

        Raises:
            UsageError: a folder in place of a data file, or a file in place of a cache folder.
            DataError: no such data file.
        """
        from voco_cli.config import load_settings
        from voco_cli.data.cache.store import VolumeCache, cache_folder
        from voco_cli.data.index.intensity import suit_intensity

        if self.data.is_dir():
            raise UsageError(
                f"{self.data} is a folder, and a data.json is needed.", shell_words("voco", "index", self.data)
            )
        if not self.data.is_file():
            raise DataError(f"{self.data} does not exist.", hint="make it with voco index")
        flags = {"cache.dir": self.folder, "cache.workers": workers}
        require_agreement({**flags, "recipe": self.recipe}, self.overrides)
        resolved = load_settings(self.recipe, self.config, self.overrides, flags)
        suited = suit_intensity(resolved, self.entries(), [self.data])
        for text in (*suited.notes, *suited.warnings):
            note(text)
        settings = suited.resolved.settings
        place = cache_folder(self.data, settings.cache)
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a cache folder.", "choose another with --dir")
        return VolumeCache(place, settings.preprocess, settings.cache, self.labels)


@app.command()
@going_on()
def build(
    data: DataArgument,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    folder: DirOption = None,
    workers: WorkersOption = None,
    labels: LabelsOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Store nothing; only say how much disk it would take.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Preprocess and store the scans of DATA that are not stored yet."""
    from voco_cli.data.cache.entry import gigabytes

    options = CacheOptions(data, recipe, config, set_ or (), folder, labels)
    cache, entries = options.open(workers), options.entries()
    missing = [entry for entry in entries if cache.lookup(entry) is None]
    predicted = cache.predict_bytes(missing)
    if dry_run or not as_json:
        _print_plan(len(entries), len(missing), predicted, cache.folder, as_json)
    if dry_run:
        return
    with progress("preprocessing", len(entries)) as advance:
        report = cache.build(entries, on_done=lambda entry, reason: advance())
    if as_json:
        print_json({"folder": cache.folder, "predicted_bytes": predicted, **asdict(report)})
    else:
        out.print(f"{report.built} built, {report.reused} reused, {len(report.failed)} failed.", highlight=False)
        _print_faults(report.failed)
        written = f"{cache.folder} ({report.built} volumes, {gigabytes(report.bytes)})"
        done([written] if report.built else [], options.pretrain_command())
    _require_some(report)


@app.command()
def verify(
    data: DataArgument,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    folder: DirOption = None,
    workers: WorkersOption = None,
    labels: LabelsOption = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; voco cache build then builds it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decode all that is stored, and name what is damaged.

    Scans of DATA that are not stored under these settings are named, too. The exit code is 3 where something is
    damaged, 1 where something is missing.
    """
    options = CacheOptions(data, recipe, config, set_ or (), folder, labels)
    cache, entries = options.open(workers), options.entries()
    with progress("checking", None) as advance:
        report = cache.verify(on_done=advance)
    if repair:
        cache.remove(path for path, _ in report.damaged)
    missing = [entry.image for entry in entries if cache.lookup(entry) is None]
    if as_json:
        found = {"checked": report.checked, "damaged": report.damaged, "missing": missing, "repaired": repair}
        print_json({"folder": cache.folder, **found})
    else:
        out.print(f"{report.checked} stored arrays decoded, {len(report.damaged)} damaged.", highlight=False)
        _print_faults(report.damaged)
        _print_faults([(path, "not stored under these settings") for path in missing])
    if report.damaged and not repair:
        raise DataError(
            f"{cache.folder} holds {len(report.damaged)} damaged volumes.",
            hint=f"{options.command('verify')} --repair, then {options.command('build')}",
        )
    if missing:
        raise VocoError(
            f"{len(missing)} of {len(entries)} scans are not in {cache.folder}.", hint=options.command("build")
        )
    if not as_json:
        done([], options.pretrain_command())


@app.command()
def stats(
    data: DataArgument,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    folder: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how much is stored, and under which settings."""
    from voco_cli.data.cache.entry import gigabytes

    options = CacheOptions(data, recipe, config, set_ or (), folder)
    cache = options.open()
    found = cache.stats()
    if as_json:
        print_json({"folder": cache.folder, **asdict(found)})
        return
    table = Table(*folded("", ""), show_header=False, box=None, pad_edge=False)
    table.add_row("folder", Text(str(cache.folder)))
    table.add_row("volumes", str(found.volumes))
    table.add_row("label maps", str(found.labels))
    table.add_row("on disk", gigabytes(found.bytes))
    table.add_row("uncompressed", gigabytes(found.voxel_bytes))
    table.add_row("left by killed processes", str(found.unfinished))
    table.add_row("unreadable", str(found.unreadable))
    for settings, count in found.settings.items():
        table.add_row(f"{count} volumes with", settings)
    out.print(table)
    useful = "verify" if found.unreadable else "prune" if found.volumes else "build"
    done([], options.command(useful))


@app.command()
def prune(
    data: DataArgument,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    folder: DirOption = None,
    labels: LabelsOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, and do not only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no scan of DATA needs under these settings.

    Whatever was stored under other settings goes, too. Without --yes nothing is removed.
    """
    from voco_cli.data.cache.entry import gigabytes

    options = CacheOptions(data, recipe, config, set_ or (), folder, labels)
    cache = options.open()
    report = cache.prune(options.entries(), rehearse=not yes)
    if as_json:
        print_json({"folder": cache.folder, "removed": report.removed, "bytes": report.bytes, "rehearsal": not yes})
        return
    did = "removed" if yes else "would be removed"
    out.print(f"{len(report.removed)} files, {gigabytes(report.bytes)}, {did}.", highlight=False)
    done([], replace(options, labels=False).command("stats") if yes else f"{options.command('prune')} --yes")


def _print_plan(scans: int, missing: int, predicted: int, folder: Path, as_json: bool) -> None:
    from voco_cli.data.cache.entry import gigabytes

    if as_json:
        print_json({"folder": folder, "scans": scans, "missing": missing, "predicted_bytes": predicted})
        return
    text = f"{missing} of {scans} scans are missing in {folder}; they need at most about {gigabytes(predicted)}."
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_faults(faults: Sequence[tuple[Path, str]]) -> None:
    for path, reason in faults[:SHOWN_FAULTS]:
        text = reason if reason.startswith(str(path)) else f"{path}: {reason}"
        warn(text)
    if len(faults) > SHOWN_FAULTS:
        warn(f"and {len(faults) - SHOWN_FAULTS} more (all of them with --json)")


def _require_some(report: BuildReport) -> None:
    """Raise where scans failed: some failures are a finding, nothing but failures is damaged data."""
    if not report.failed:
        return
    if report.built + report.reused == 0:
        raise DataError("None of the scans could be preprocessed.", hint="the reasons are above")
    raise VocoError(
        f"{len(report.failed)} of {len(report.failed) + report.built + report.reused} scans could not be preprocessed.",
        hint="the reasons are above; leave those scans out by running voco index --check full",
    )
