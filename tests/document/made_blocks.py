"""A document of every block, whose names would do harm where they came out as they are."""

from __future__ import annotations

from voco_cli.document.blocks import (
    Block,
    Bullets,
    Charts,
    Column,
    EncodedPicture,
    Facts,
    Frame,
    Heading,
    Layered,
    LegendEntry,
    Picture,
    PictureSeries,
    Sentence,
    Slices,
    SlicesRow,
    Table,
)
from voco_cli.document.charts import Curve, draw_chart

HARM = "<b>|\x1b[1m"
PICTURE = EncodedPicture("data:image/webp;base64,AAAA", 30, 20)


def every_block() -> list[Block]:
    """One of each kind."""
    chart = draw_chart("Loss", [Curve("loss", ((0, 4.0), (10, 1.0)))])
    assert chart is not None
    layer = Layered(0, PICTURE.source, None, None)
    case = Slices("Best case", "mean Dice 0.8", "case1", 30, 20, ("R", "L", "A", "P"), (layer,), 0, False, False)
    return [
        Heading("What follows"),
        Sentence(f"Weights help {HARM}.", "good"),
        Bullets(("first", "second")),
        Facts((("voco", "0.1.0"), ("file", HARM))),
        Table.of(
            "Dice",
            ["structure", Column("mean", True, ".3f"), "difference"],
            [["liver", 0.9512, "+0.100 [+0.050, +0.150]"], [HARM, None, "-"]],
            marked=[0],
        ),
        Picture(PICTURE, "Curves of all runs.", "All runs."),
        PictureSeries("Validation", "Panels of", (Frame("step 0", PICTURE),), 0, "Panels."),
        SlicesRow((LegendEntry("liver", "#ff0000"),), (case,)),
        Charts((chart,)),
    ]
