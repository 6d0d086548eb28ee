"""What commands that draw a scan's crops share: where the picture goes, and how a centre is given."""

from __future__ import annotations

from pathlib import Path

from voco_cli.errors import UsageError

PICTURE_FORMATS = (".png", ".pdf", ".svg")


def picture_path(scan: Path, output: Path | None, what: str, as_json: bool) -> Path | None:
    """Where the picture goes: as asked, or SCAN_what.png here; none where only JSON is wanted.

    Raises:
        UsageError: another format.
    """
    if output is None:
        stem = scan.resolve().name.removesuffix(".gz").rsplit(".", 1)[0]
        return None if as_json else Path(f"{stem}_{what}.png")
    if output.suffix.lower() not in PICTURE_FORMATS:
        raise UsageError(f"{output} does not end like a picture.", f"end it with one of {', '.join(PICTURE_FORMATS)}")
    return output


def crop_centre(text: str) -> list[int]:
    """``X,Y`` or ``X,Y,Z`` as whole voxels.

    Raises:
        UsageError: anything else.
    """
    try:
        centre = [int(part) for part in text.split(",")]
    except ValueError:
        centre = []
    if len(centre) not in (2, 3):
        hint = "give two or three whole numbers of voxels, such as --at 120,96"
        raise UsageError(f"--at {text} is not the centre of a crop.", hint)
    return centre
