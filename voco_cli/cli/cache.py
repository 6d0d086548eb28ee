"""`voco cache`: build, check, measure and tidy the store of preprocessed volumes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.left_out import warn_of_failures
from voco_cli.cli.option_groups import OptionGroup, PretrainOptions, with_option_group
from voco_cli.cli.options import ConfigOption, JsonOption, RecipeOption, SetOption, setting_option, spoken_recipe
from voco_cli.cli.shards import SchedulerOption, ShardOption, Spread, spread_out
from voco_cli.document.terminal import done, note, print_blocks, print_json, print_line, progress, shell_words
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.object_stores import location

if TYPE_CHECKING:
    from voco_cli.data.cache.build import BuildReport
    from voco_cli.data.cache.store import VolumeCache
    from voco_cli.data.index.datalist import Entry

app = typer.Typer(
    help="Build, check and tidy the store of preprocessed scans.\n\n`voco pretrain` builds what it needs by itself.",
    no_args_is_help=True,
)

WorkersOption = Annotated[int | None, setting_option("cache.workers", "--workers", min=1)]
LabelsOption = Annotated[bool, typer.Option("--labels", help="The label maps too, which are stored beside the scans.")]


@dataclass(frozen=True, kw_only=True)
class CacheOptions(OptionGroup):
    """What every `voco cache` command is given."""

    data: Annotated[Path, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")]
    recipe: RecipeOption = None
    config: ConfigOption = None
    override: SetOption = None
    folder: Annotated[Path | None, setting_option("cache.dir", "--dir")] = None

    def command(self, name: str) -> str:
        """Return another command on the same cache."""
        return shell_words("voco", "cache", name, *self.words())

    def pretrain_command(self) -> str:
        """Return the training that finds this very cache."""
        place = [f"cache.dir={location(self.folder)}"] if self.folder else []
        given = PretrainOptions(
            data=self.data,
            recipe=self.recipe or spoken_recipe(self.resolve()),
            config=self.config,
            override=[*(self.override or ()), *place],
        )
        return shell_words("voco", "pretrain", *given.words())

    def entries(self) -> list[Entry]:
        """Return the scans of the data file."""
        from voco_cli.data.index.datalist_file import read_datalist

        return [entry for _, entry in read_datalist(self.data).entries()]

    def open(self, labels: bool = False, workers: int | None = None, on_cluster: bool = False) -> VolumeCache:
        """Open the cache with the settings that suit the scans.

        Args:
            labels: of the label maps, too.
            workers: processes that build it; none is as the settings say.
            on_cluster: name its files by absolute paths, which other machines have, too.
        Raises:
            UsageError: a folder in place of a data file, or a file in place of a cache folder.
            DataError: no such data file.
        """
        from voco_cli.data.cache.store import VolumeCache, cache_folder
        from voco_cli.data.index.intensity import suit_intensity

        if self.data.is_dir():
            raise UsageError(
                f"{self.data} is a folder, and a data.json is needed.", shell_words("voco", "index", self.data)
            )
        if not self.data.is_file():
            raise DataError(f"{self.data} does not exist.", hint="make it with voco index")
        suited = suit_intensity(self.resolve({"cache.workers": workers}), self.entries(), [self.data])
        for text in (*suited.notes, *suited.warnings):
            note(text)
        settings = suited.resolved.settings
        place = cache_folder(self.data, settings.cache)
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a cache folder.", "choose another with --dir")
        return VolumeCache(place.absolute() if on_cluster else place, settings.preprocess, settings.cache, labels)


@dataclass(frozen=True, kw_only=True)
class LabelledCacheOptions(CacheOptions):
    """What those are given that may be asked for label maps, too."""

    labels: LabelsOption = False


@app.command()
@going_on()
@with_option_group
def build(
    context: typer.Context,
    options: LabelledCacheOptions,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Store nothing; only say how much disk it would take.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Preprocess and store the scans of DATA that are not stored yet."""
    from voco_cli.data.cache.entry import gigabytes

    cache, entries = options.open(options.labels, workers, scheduler is not None), options.entries()
    if shard is not None:
        _build_shard(context, cache, options, scheduler, shard, as_json)
        return
    missing = [entry for entry in entries if cache.lookup(entry) is None]
    predicted = cache.predict_bytes(missing)
    if not as_json:
        need = f"they need at most about {gigabytes(predicted)}"
        print_line(f"{len(missing)} of {len(entries)} scans are missing in {cache.folder}; {need}.")
    elif dry_run:
        counts = {"scans": len(entries), "missing": len(missing), "predicted_bytes": predicted}
        print_json({"folder": cache.folder, **counts})
    if dry_run:
        return
    with spread_out(context, cache.folder, scheduler, None) as spread:
        report = _build(cache, entries, options.data, spread)
        spread.finish()
    if as_json:
        print_json({"folder": cache.folder, "predicted_bytes": predicted, **asdict(report)})
    else:
        print_line(f"{report.built} built, {report.reused} reused, {len(report.failed)} failed.")
        warn_of_failures(report.failed)
        written = f"{cache.folder} ({report.built} volumes, {gigabytes(report.bytes)})"
        done([written] if report.built else [], options.pretrain_command())
    _require_some(report)


def _build(cache: VolumeCache, entries: list[Entry], data: Path, spread: Spread) -> BuildReport:
    own = cache.shard_entries(entries, data, spread.runner)
    with progress("preprocessing", len(own)) as advance:
        return cache.build(own, on_done=lambda entry, reason: advance(), runner=spread.runner)


def _build_shard(
    context: typer.Context,
    cache: VolumeCache,
    options: LabelledCacheOptions,
    scheduler: str | None,
    shard: str,
    as_json: bool,
) -> None:
    with spread_out(context, cache.folder, scheduler, shard) as spread:
        report = _build(cache, options.entries(), options.data, spread)
        warn_of_failures(report.failed)
        count, failed = report.built + report.reused, len(report.failed)
        spread.finish_part(as_json, "scans", count + failed, failed)


@app.command()
@with_option_group
def verify(
    context: typer.Context,
    options: LabelledCacheOptions,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; voco cache build then builds it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decode all that is stored, and name what is damaged.

    Scans of DATA that are not stored under these settings are named, too. The exit code is 3 where something is
    damaged, 1 where something is missing.
    """
    cache, entries = options.open(options.labels, workers, scheduler is not None), options.entries()
    with spread_out(context, cache.folder, scheduler, shard) as spread:
        with progress("checking", None) as advance:
            report = cache.verify(on_done=advance, runner=spread.runner)
        if spread.is_part:
            warn_of_failures(report.damaged)
            spread.finish_part(as_json, "arrays", report.checked, len(report.damaged))
            return
        if repair:
            cache.remove(path for path, _ in report.damaged)
        spread.finish()
    missing = [entry.image for entry in entries if cache.lookup(entry) is None]
    if as_json:
        found = {"checked": report.checked, "damaged": report.damaged, "missing": missing, "repaired": repair}
        print_json({"folder": cache.folder, **found})
    else:
        print_line(f"{report.checked} stored arrays decoded, {len(report.damaged)} damaged.")
        warn_of_failures(report.damaged)
        warn_of_failures([(path, "not stored under these settings") for path in missing])
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
@with_option_group
def stats(options: CacheOptions, as_json: JsonOption = False) -> None:
    """Print how much is stored, and under which settings."""
    from voco_cli.data.cache.entry import gigabytes
    from voco_cli.document.blocks import Facts

    cache = options.open()
    found = cache.stats()
    if as_json:
        print_json({"folder": cache.folder, **asdict(found)})
        return
    facts = [
        ("folder", cache.folder),
        ("volumes", found.volumes),
        ("label maps", found.labels),
        ("on disk", gigabytes(found.bytes)),
        ("uncompressed", gigabytes(found.voxel_bytes)),
        ("left by killed processes", found.unfinished),
        ("unreadable", found.unreadable),
        *((f"{count} volumes with", settings) for settings, count in found.settings.items()),
    ]
    print_blocks([Facts.of(facts)])
    useful = "verify" if found.unreadable else "prune" if found.volumes else "build"
    done([], options.command(useful))


@app.command()
@with_option_group
def prune(
    options: LabelledCacheOptions,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, and do not only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no scan of DATA needs under these settings.

    Whatever was stored under other settings goes, too. Without --yes nothing is removed.
    """
    from voco_cli.data.cache.entry import gigabytes

    cache = options.open(options.labels)
    report = cache.prune(options.entries(), rehearse=not yes)
    if as_json:
        print_json({"folder": cache.folder, "removed": report.removed, "bytes": report.bytes, "rehearsal": not yes})
        return
    did = "removed" if yes else "would be removed"
    print_line(f"{len(report.removed)} files, {gigabytes(report.bytes)}, {did}.")
    if yes:
        done([], replace(options, labels=False).command("stats"))
    else:
        done([], f"{options.command('prune')} --yes")


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
