"""How a plan is printed: a table of what is needed and what is free, the time, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from voco_cli.cli.output import done, out, print_json
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.planning.quantities import Amount, Need, Plan

NARROW = 0.02
"""A spread below this share of the amount is not shown."""


def show_plan(plan: Plan, as_json: bool, then: str) -> None:
    """Print a plan and what to run next.

    Raises:
        VocoError: it does not fit; with what is short, and what to change first.
    """
    if as_json:
        print_json(plan.to_json())
    else:
        _print(plan)
    if not plan.fits:
        short = [need for need in plan.needs if not need.fits]
        what = [f"{_name(need)} needs {_needed(need)}, {size(need.free_bytes)} free" for need in short]
        what += [obstacle.rstrip(".") for obstacle in plan.obstacles]
        raise VocoError(f"This does not fit here: {'; '.join(what)}.", plan.advice[0] if plan.advice else None)
    if not as_json:
        out.print("It fits.", style="bold green")
        done([], then)


def _print(plan: Plan) -> None:
    table = Table(plan.subject, "needed", "free", "fits", "", box=None, header_style="bold", pad_edge=False)
    for need in plan.needs:
        fits = "yes" if need.fits else "[bold red]no[/bold red]"
        table.add_row(escape(_name(need)), _needed(need), size(need.free_bytes), fits, need.known)
        if len(need.parts) > 1:
            for part in need.parts:
                table.add_row(f"  {part.name}", bytes_words(part.amount), "", "", part.amount.known)
    out.print(table)
    out.print()
    _print_time(plan)
    for note in plan.notes:
        out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if plan.advice:
        out.print("What to change:", style="bold")
        for advice in plan.advice:
            out.print(f"  {advice}", markup=False, highlight=False, soft_wrap=True)


def _print_time(plan: Plan) -> None:
    time_s = plan.time_s
    if time_s is None:
        out.print("No time is foreseen, as nothing could be tried.")
        return
    table = Table("time", "", "", box=None, header_style="bold", pad_edge=False)
    for part in plan.times:
        table.add_row(part.name, seconds_words(part.amount), part.amount.known)
    table.add_row("all of it", seconds_words(time_s), time_s.known, style="bold")
    out.print(table)


def _name(need: Need) -> str:
    if need.kind == "memory":
        return f"memory, {need.where}"
    return f"{need.kind} of {need.where}"


def _needed(need: Need) -> str:
    words = size(need.needed_bytes)
    if need.at_least:
        return f"more than {words}"
    if need.high_bytes > need.needed_bytes * (1 + NARROW):
        return f"{words}, up to {size(need.high_bytes)}"
    return words


def bytes_words(amount: Amount) -> str:
    """Bytes with their spread."""
    return _with_spread(amount, size)


def seconds_words(amount: Amount) -> str:
    """Seconds with their spread."""
    return _with_spread(amount, duration)


def _with_spread(amount: Amount, words: Callable[[float], str]) -> str:
    middle, low, high = (words(value) for value in (amount.value, amount.low, amount.high))
    narrow = amount.high - amount.low <= NARROW * amount.value
    return middle if narrow or low == high else f"{middle} ({low} to {high})"


def size(value: float) -> str:
    """Bytes for people."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 1000 * factor else f"{value / factor:.0f} {unit}"
    return f"{value / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3597:  # above, the minutes would read 60.0
        return f"{seconds / 60:.1f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} min"
