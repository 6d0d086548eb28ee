"""Blocks as HTML: escaped, each with an id of its own."""

import pytest

from tests.document.made_blocks import PICTURE, every_block
from tests.report.parsed import Parsed
from voco_cli.document.blocks import Picture, Sentence
from voco_cli.document.html import to_html


def test_every_block_is_escaped_and_closed() -> None:
    html = to_html(every_block())
    page = Parsed(html)
    assert "<b>" not in html
    assert "\x1b" not in html
    assert page.text.count("<b>|\\x1b[1m") == 3
    assert next(one["class"] for one in page.of("p")) == "sentence good"
    assert page.of("h2") == [{}]
    for text in ("What follows", "liver 0.951 +0.100", "All runs.", "Panels.", "Best case case1", "loss: 4 at step 0"):
        assert text in page.text
    assert [one["class"] for one in page.of("tr") if one] == ["marked"]


def test_ids_begin_with_the_part_and_are_unique() -> None:
    page = Parsed(to_html(every_block(), "run-1-test"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("run-1-test-") for one in ids)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_an_attribute_cannot_be_left(quote: str) -> None:
    alt = f"x{quote} onerror={quote}alert(1)"
    (image,) = Parsed(to_html([Picture(PICTURE, alt), Sentence("")])).of("img")
    assert image["alt"] == alt
    assert "onerror" not in image
