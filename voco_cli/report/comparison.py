"""Runs compared case by case: fine-tuning runs of one page, or a folder that `voco compare -o` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voco_cli.document.blocks import Block, Bullets, Facts, PagePart, PageSection, Picture, Sentence, Table
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.compared_runs import Comparison
from voco_cli.evaluate.read_results import EVALUATIONS, Stored
from voco_cli.evaluate.result_files import leakage_sentences
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.figures.comparison import draw_comparison
from voco_cli.report.finetuning import Evaluations
from voco_cli.report.run_record import COMPARISON, read_object
from voco_cli.report.shared_parts import embed, unlike_table
from voco_cli.workflows.compare import settings_sentences, trained_as, training_warnings, unlike_settings, unpairable

MOST_CHANGES = 50
WIDEST_PX = 1400


def paired_section(runs: Sequence[tuple[str, Evaluations]]) -> PageSection:
    """Return fine-tuning runs that were measured on the same cases, compared with the first as `voco compare` does.

    Args:
        runs: name and evaluations of each, two at least.
    """
    first = next(((name, of.measured[0]) for name, of in runs if of.measured), None)
    if first is None:
        return _section([Sentence("None of these runs was evaluated, so there is nothing to compare.", "warning")])
    name, baseline = first
    pairs, words = [(name, baseline)], []
    for other, of in runs:
        if other == name:
            continue
        fits = next((one for one in of.measured if one.folder.name == baseline.folder.name), None)
        if fits is None:
            words.append(f"{other} was not evaluated on the {baseline.folder.name} split, on which {name} was.")
        elif faults := unpairable((name, other), (baseline, fits)):
            words.append(f"{other} cannot be paired with {name}: {'; '.join(faults)}.")
        else:
            pairs.append((other, fits))
    blocks: list[Block] = [Sentence(line, "warning") for line in words]
    if len(pairs) < 2:
        return _section([*blocks, Sentence("So nothing is compared.", "warning")])
    return _section([*_compared(pairs), *blocks])


def _section(blocks: Sequence[Block]) -> PageSection:
    part = PagePart("differences", "Differences, case by case", blocks)
    return PageSection("compared", "Fine-tuning runs compared", "side by side", [part])


def _compared(pairs: Sequence[tuple[str, Stored]]) -> list[Block]:
    names, (first, *others) = [name for name, _ in pairs], [one for _, one in pairs]
    found = first.compare(names, others, RESAMPLES, 0)
    warnings = [Sentence(line, "warning") for line in found.warnings()]
    leakage = [sentence for name, one in pairs for sentence in leakage_sentences(one.leakage, name)]
    picture = comparison_picture(draw_comparison(found), names)
    return [picture, *comparison_blocks(found, RESAMPLES), *warnings, *_training(pairs), *leakage]


def _training(pairs: Sequence[tuple[str, Stored]]) -> list[Block]:
    """Return settings that differ, and warnings where steps or training cases do."""
    names, trained = [name for name, _ in pairs], [trained_as(one.folder) for _, one in pairs]
    warnings = [Sentence(line, "warning") for line in training_warnings(names, trained)]
    unlike = unlike_settings(trained)
    if not unlike:
        return [*warnings, *map(Sentence, settings_sentences(names, trained))]
    return [*warnings, unlike_table(names, unlike)]


def comparison_blocks(found: Comparison, resamples: int) -> list[Block]:
    """Return the differences, by metric where there are several tables, the changed cases, and how to read them."""
    blocks: list[Block] = []
    for metric in found.metrics:
        table = found.differences_table(metric)
        if table.rows:
            folded = table.title if blocks else ""
            blocks.append(
                Table.of(
                    table.title,
                    table.headings,
                    table.rows,
                    names=table.names,
                    marked=table.whole_runs,
                    anchor=metric,
                    folded=folded,
                )
            )
    changes = found.changes_table(next(iter(found.metrics)))
    if changes.rows:
        rows, title = changes.rows[:MOST_CHANGES], changes.title
        blocks.append(Table.of(title, changes.headings, rows, names=changes.names, anchor="changes", folded=title))
    return [*blocks, Bullets(tuple(found.statements(resamples)))]


def comparison_picture(content: bytes, runs: Sequence[str]) -> Block:
    """Return the picture of a comparison, whose numbers the tables below hold."""
    alt = f"Differences of {', '.join(runs[1:])} from {runs[0]} with intervals, and every case as a line."
    return Picture(embed(content, "the picture of the comparison", WIDEST_PX, drawing=True), alt)


def comparison_section(anchor: str, path: Path, name: str) -> PageSection:
    """Return the tables, the statements and the picture of a comparison.

    Raises:
        DataError: comparison.json is damaged.
        UsageError: it is of another format.
    """
    held, kinds = (
        read_object(path / COMPARISON),
        {one.comparison.format: one.comparison for one in EVALUATIONS},
    )
    if held and held.get("format") not in kinds:
        raise UsageError(
            f"{path / COMPARISON} is not of the format {' or '.join(kinds)}.", "write it with voco compare -o"
        )
    try:
        runs, resamples = [str(run) for run in held["runs"]], int(held["interval"]["resamples"])
        found = kinds[held["format"]].from_json(held)
        tables, result = comparison_blocks(found, resamples), found.headline()
        splits = [str(split) for split in held["splits"] if split is not None]
        places = [str(place) for place in held["evaluations"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path / COMPARISON} is damaged: {error!r}.", "write it again with voco compare -o") from error
    recorded = _listed(held.get("leakage"))
    leakage = [line for run, one in zip(runs, recorded, strict=False) for line in leakage_sentences(one, run)]
    warnings = [
        Sentence(line, "warning")
        for line in (*found.warnings(), *_listed(held.get("warnings")))  # the latter of newer comparisons
        if isinstance(line, str)
    ]
    unlike = _unlike(held.get("settings_that_differ"), len(runs))
    differ = [unlike_table(runs, unlike)] if unlike else []
    facts = (("folder", str(path)), *zip(runs, places, strict=False), ("split", ", ".join(dict.fromkeys(splits))))
    parts = [
        PagePart(
            "differences",
            "Differences, case by case",
            [_picture(path, runs), *tables, *warnings, *differ, *leakage],
        ),
        PagePart("about", "What was compared", [Facts(facts)]),
    ]
    lead = f"Against {runs[0]}, {result}." if result else ""
    return PageSection(anchor, name, "comparison", parts, lead=lead, result=result, place=str(path))


def _unlike(held: Any, runs: int) -> dict[str, list[Any]]:
    """Return settings that differ, with a value for each run."""
    found = held.items() if isinstance(held, Mapping) else ()
    return {str(key): values for key, values in found if isinstance(values, list) and len(values) == runs}


def _listed(held: Any) -> list[Any]:
    return held if isinstance(held, list) else []


def _picture(path: Path, runs: list[str]) -> Block:
    try:
        return comparison_picture((path / "comparison.png").read_bytes(), runs)
    except OSError:
        return Sentence("comparison.png is not in the folder any more.", "warning")
    except VocoError as error:
        return Sentence(error.message, "warning")
