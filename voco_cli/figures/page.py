"""A figure measured in inches from its upper left corner, so that every panel keeps its true proportions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voco_cli.errors import ResourceError
from voco_cli.figures.style import INK
from voco_cli.whole_files import whole_file


@dataclass
class Page:
    """A figure filled from top to bottom.

    Attributes:
        width, height: of the whole, inches.
        top: where the next thing goes, inches from the top; for the caller's use.
    """

    width: float
    height: float
    top: float = 0.0
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with their upper left corner at (left, top) from the upper left corner of the page."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height), label=str((left, top))
        )

    def canvas(self) -> Axes:
        """Axes over the whole page, in inches from its upper left corner: a panel in it costs no axes of its own."""
        ax = self.figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, self.width)
        ax.set_ylim(self.height, 0)
        ax.set_autoscale_on(False)
        return ax

    def text(
        self,
        left: float,
        top: float,
        text: str,
        size: float,
        weight: str = "normal",
        colour: str = INK,
        centred: bool = False,
    ) -> None:
        """Text whose upper left corner, or the middle of whose upper edge, is at (left, top)."""
        at = (left / self.width, 1 - top / self.height)
        side = "center" if centred else "left"
        self.figure.text(*at, text, size=size, weight=weight, color=colour, va="top", ha=side, wrap=False)

    def save(self, path: Path, dpi: int) -> None:
        """Write the file whole or not at all; the format follows the suffix.

        Raises:
            ResourceError: it cannot be written.
        """
        try:
            with whole_file(path) as beside:
                self.figure.savefig(beside, dpi=dpi, facecolor="white")
        except ValueError as error:  # a format that matplotlib does not know
            raise ResourceError(f"{path} cannot be written: {error}.") from error
