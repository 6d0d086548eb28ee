"""Pictures as data URIs: what a page holds instead of files beside it."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

from voco_cli.errors import DataError
from voco_cli.report.blocks import Embedded

WEBP_QUALITY = 84


def webp_source(content: bytes) -> str:
    """The data URI of a WebP picture."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def embed(content: bytes, name: str, widest_px: int = 1600, *, drawing: bool = False) -> Embedded:
    """A picture of any common format as the page holds it: WebP, no wider than told.

    Args:
        name: for messages.
        drawing: lines and text rather than grey values; it is kept without loss.
    Raises:
        DataError: it is no picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} is no picture that can be read: {error}.") from error
    if picture.width > widest_px:
        picture = picture.resize(
            (widest_px, round(picture.height * widest_px / picture.width)), Image.Resampling.LANCZOS
        )
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=drawing, quality=80 if drawing else WEBP_QUALITY, method=4)
    return Embedded(webp_source(stream.getvalue()), picture.width, picture.height)
