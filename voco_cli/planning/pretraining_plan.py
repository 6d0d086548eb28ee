"""`voco plan data.json`: what a pre-training will need here."""

from __future__ import annotations

from dataclasses import replace

from voco_cli.cache.store import VolumeCache, cache_folder
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.engine.sampler import BatchPlan
from voco_cli.errors import UsageError
from voco_cli.planning.apart import tidy_when_terminated
from voco_cli.planning.places import temporary_folder
from voco_cli.planning.quantities import Plan
from voco_cli.planning.sampled_run import RunCases, SampledRun, Tell, sample_run
from voco_cli.planning.sampling import seeded_order
from voco_cli.planning.training import Extra, training_plan, try_steps
from voco_cli.settings import Settings


def plan_pretraining(settings: Settings, budget_s: float, tell: Tell) -> Plan:
    """Preprocess a few scans and run a few steps in a temporary folder, and work out what the whole run needs.

    Args:
        budget_s: about how long that may take.
        tell: what is being done.
    Raises:
        UsageError: settings or data file that the run would refuse, too.
        DataError: none of the scans that were tried can be used.
    """
    if settings.data.file is None:
        raise UsageError("No data file was given.", "voco plan data.json; `voco index FOLDER` writes one")
    datalist = read_datalist(settings.data.file)
    BatchPlan(len(datalist.training), settings.train.batch_size, settings.seed)  # refuses too few, as the run does
    cache = VolumeCache(cache_folder(settings.data.file, settings.cache), settings.preprocess, settings.cache)
    cases = RunCases(datalist.training, datalist.validation, cache)
    with tidy_when_terminated(), temporary_folder(cache.folder) as folder:
        order = seeded_order(cases.training, settings.seed)
        run, notes = _usable(sample_run(cases, order, settings.seed, folder, budget_s, tell), settings)
        tried = try_steps(settings, run, folder, budget_s, tell)
        looked_at = min(settings.health.cases, len(datalist.validation))
        extra = Extra(validated_cases=looked_at, validates_first=True, notes=notes)
        return training_plan("pre-training", settings, run, tried, extra)


def _usable(run: SampledRun, settings: Settings) -> tuple[SampledRun, tuple[str, ...]]:
    """The sample without scans that the grid does not fit into, and a note of them."""
    region = settings.crops.region_vox

    def fits(case: StoredCase) -> bool:
        return all(have >= need for have, need in zip(case.shape_xyz, region, strict=True))

    tried = [*run.training, *run.held_out]
    small = [case for case in tried if not fits(case)]
    if not small:
        return run, ()
    sizes = ["x".join(map(str, size)) for size in (small[0].shape_xyz, region)]
    what = f"{small[0].name} has {sizes[0]} voxels, and the grid needs {sizes[1]}"
    if not any(map(fits, run.training)):
        raise UsageError(
            f"None of the {len(run.training)} training scans that were tried is large enough after preprocessing; "
            f"{what}.",
            "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox",
        )
    training, held_out = (tuple(filter(fits, some)) for some in (run.training, run.held_out))
    note = f"{len(small)} of {len(tried)} scans that were tried are too small and would be left out; {what}."
    return replace(run, training=training, held_out=held_out), (note,)
