"""The page as a whole: safe, self-contained, and complete where runs are not."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.made_page import hostile_folders, page_of
from tests.report.made_runs import (
    HOSTILE,
    HOSTILE_QUOTE,
    HOSTILE_SCRIPT,
    finetuning_run,
    pretraining_run,
)
from tests.report.parsed import Parsed
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import visible
from voco_cli.report.page import find_runs


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(*hostile_folders(tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="module")
def page(html: str) -> Parsed:
    return Parsed(html)


def test_hostile_names_are_text(html: str, page: Parsed) -> None:
    for name in (HOSTILE, HOSTILE_SCRIPT, HOSTILE_QUOTE):
        assert name not in html
        assert name in page.text
    assert page.of("script") == [{}]
    assert [one for one in page.of("img") if not one["src"].startswith("data:image/webp;base64,")] == []
    handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert handlers == []
    # They are where they were put: a case, a class, a reason, a file, a setting, a name of a loss.
    assert page.text.count(HOSTILE) > 5


def test_unseen_characters_are_spelled_out(tmp_path: Path) -> None:
    odd = "\x1b[31m\u202eevil\u200b"
    metrics = [{"step": step, "split": "train", odd: 1.0, "loss": 1.0} for step in (1, 2)]
    html = page_of(pretraining_run(tmp_path / odd, metrics=metrics, skipped=[(f"/scans/{odd}.nii", f"is {odd}")]))
    assert visible(html) == html
    assert html.count("\\x1b[31m\\u202eevil\\u200b") >= 3
    assert "\\u001b" not in html


def test_nothing_is_loaded_from_anywhere(page: Parsed) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "link", "audio", "video", "use")
        assert not attributes.get("src", "data:").startswith(("http", "//", "file"))
        assert attributes.get("href", "#").startswith("#")
        assert "style" not in attributes
        assert "srcset" not in attributes
    assert "url(" not in "".join(page.inside["style"])
    assert "@import" not in "".join(page.inside["style"])


def test_the_policy_names_the_very_style_and_script(page: Parsed) -> None:
    (policy,) = (one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256("".join(page.inside[kind]).encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy


def test_ids_are_unique_and_references_lead_somewhere(page: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for"):
            assert set(attributes.get(name, "").split()) <= set(ids)
        if attributes.get("href", "#") != "#":
            assert attributes["href"][1:] in ids


def test_headings_come_in_order_and_pictures_have_words(page: Parsed) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("alt" in one for one in page.of("img"))
    assert all(one.get("alt") for one in page.of("img") if "over" not in one.get("class", ""))
    assert {"nav", "main", "header", "footer"} <= {tag for tag, _ in page.elements}
    assert all(one.get("aria-sort") for one in page.of("th") if one.get("scope") == "col")


def test_a_page_of_one_run_has_its_name_as_heading(tmp_path: Path) -> None:
    html = page_of(pretraining_run(tmp_path / "only one"))
    page = Parsed(html)
    assert re.search(r'<h1 id="run-1">only one</h1>', html)
    assert 'id="overview"' not in html
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert set(levels) == {1, 2}


def test_parts_that_are_missing_are_said(tmp_path: Path) -> None:
    bare = pretraining_run(tmp_path / "bare", metrics=[])
    for name in ("state.json", "data.json", "weights/encoder.json", "weights/seen.json"):
        (bare / name).unlink()
    tuned = finetuning_run(tmp_path / "tuned")
    (tuned / "evaluation" / "test" / "summary.json").unlink()
    (tuned / "metrics.jsonl").unlink()
    text = Parsed(page_of(bare, tuned)).text
    for sentence in (
        "There is no state.json: no step of training was begun.",
        "No validation has been written yet, so nothing is known of its learning.",
        "Nothing was written to metrics.jsonl yet, so there are no curves.",
        "There is no list of training scans, so no labels can be drawn.",
        "What it was trained on is not known.",
        "The run has no weights yet that say what they were trained on.",
        "The run drew no pictures of its validations",
        f"It was not evaluated yet: voco evaluate {tuned}",
    ):
        assert sentence in text
    moved = finetuning_run(tmp_path / "moved")
    assert "Best case, case1 (mean Dice 0.800), cannot be shown." in Parsed(page_of(moved)).text


def test_the_overview_leads_to_every_run(html: str) -> None:
    start = html.index('<table id="overview-table">')
    table = Parsed(html[start : html.index("</table>", start) + len("</table>")])
    assert [one["href"] for one in table.of("a")] == [f"#run-{n}" for n in range(1, 7)]


def test_folders_of_something_else_and_twice_the_same_are_refused(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "run")
    with pytest.raises(UsageError, match="given more than once"):
        find_runs([run, tmp_path / "x" / ".." / "run"])
    with pytest.raises(DataError):
        find_runs([run, tmp_path / "nowhere"])
