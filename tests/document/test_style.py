"""The colours of the page: legible in both themes and in print, each with one light and one dark value."""

from __future__ import annotations

import re

import pytest

from voco_cli.document.html import TEMPLATES

STYLE = (TEMPLATES / "style.css").read_text()
PAIRS = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", STYLE)
LIGHT, DARK = {name: light for name, light, _ in PAIRS}, {name: dark for name, _, dark in PAIRS}
ON_PAPER = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", STYLE))
PRINT = {**LIGHT, **ON_PAPER}


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_a_colour_stands_once_with_its_light_and_its_dark_value() -> None:
    """The system's choice and the button only switch the scheme; print is light and changes some."""
    assert len(PAIRS) == len(LIGHT) == STYLE.count("light-dark(") == 22
    assert set(ON_PAPER) < set(LIGHT)
    schemes = re.findall(r"(:root[^{},]*)\{[^{}]*color-scheme: ([a-z ]+);", STYLE)
    assert [(name.strip(), scheme) for name, scheme in schemes] == [
        (":root", "light dark"),
        (':root[data-theme="light"]', "light"),
        (':root[data-theme="dark"]', "dark"),
        (":root[data-theme]", "light"),
    ]


@pytest.mark.parametrize("theme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_text_and_lines_stand_out(theme: dict[str, str]) -> None:
    grounds = [theme[name] for name in ("paper", "card", "mark", "faint")]
    for name in ("ink", "soft", "accent"):
        assert min(contrast(theme[name], ground) for ground in grounds) >= 4.5, name
    for name in ("good", "warning", "bad"):
        assert contrast(theme[name], theme[f"{name}-back"]) >= 4.5, name
    for number in range(1, 9):
        assert contrast(theme[f"line-{number}"], theme["card"]) >= 3, number
