"""Every link that stays in the project leads somewhere, and every page can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, name_of

MOST_BYTES_OF_A_PICTURE = 600_000


def local(page: Path, target: str) -> tuple[Path, str] | None:
    """File and anchor that a link leads to; None for a link to the outside."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path, _, anchor = target.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for place, target in links(page):
        if found := local(page, target):
            path, anchor = found
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{place}: {target}")
    assert broken == []


def reachable(start: Path) -> set[Path]:
    """Pages that links lead to, one after the other."""
    found, waiting = set[Path](), [start]
    while waiting:
        page = waiting.pop()
        if page in found or page.suffix != ".md" or not page.is_file():
            continue
        found.add(page)
        waiting += [there[0] for _, target in links(page) if (there := local(page, target))]
    return found


def test_every_page_is_reached_from_the_readme_and_from_the_index() -> None:
    assert set(PAGES) - reachable(ROOT / "README.md") == set()
    docs = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert docs - reachable(ROOT / "docs" / "README.md") == set()


def test_pictures_are_shown_and_small() -> None:
    shown = {there[0] for page in PAGES for _, target in links(page) if (there := local(page, target))}
    pictures = set((ROOT / "docs" / "images").iterdir())
    assert pictures - shown == set()
    assert {path.name for path in pictures if path.stat().st_size > MOST_BYTES_OF_A_PICTURE} == set()


def test_anchors_are_githubs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One: *two* & three\n## An item of `task.classes`\n## Again\n## Again\n```\n# no heading\n```\n")
    assert anchors(page) == {"one-two--three", "an-item-of-taskclasses", "again", "again-1"}
