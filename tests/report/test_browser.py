"""The page in a real browser: nothing is refused or runs that should not, and every control does what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.made_page import hostile_folders, page_of

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or CHROMEDRIVER is None, reason="chromium or chromedriver is not installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with the page of everything open; alerts would stay open and fail the next command."""
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "force-prefers-reduced-motion",
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        folder = tmp_path_factory.mktemp("page")
        (folder / "report.html").write_text(page_of(*hostile_folders(folder)))
        driver.get((folder / "report.html").as_uri())
        yield driver
    finally:
        driver.quit()


def resize(browser: Any, width: int, height: int = 900) -> None:
    """Let the page have this size, CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def media(browser: Any, kind: str = "", **features: str) -> None:
    """Let the page believe in another medium."""
    named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": named})


def column(browser: Any, table: str, index: int) -> list[str]:
    """Texts of a column of a table, as shown from above."""
    script = (
        "return [...document.getElementById(arguments[0]).tBodies[0].rows].map(r => r.cells[arguments[1]].textContent)"
    )
    found: list[str] = browser.execute_script(script, table, index)
    return [text.strip() for text in found]


def heading(browser: Any, table: str, index: int) -> Any:
    return browser.execute_script(
        "return document.getElementById(arguments[0]).tHead.rows[0].cells[arguments[1]]", table, index
    )


def test_nothing_was_refused_and_nothing_ran(browser: Any) -> None:
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    assert browser.execute_script("return document.querySelectorAll('[onerror], [onload]').length") == 0
    assert "<img src=x onerror=alert(1)>" in browser.execute_script("return document.body.textContent")


def test_every_picture_is_there(browser: Any) -> None:
    script = """
      const done = arguments[0];
      const pictures = [...document.images];
      Promise.all(pictures.map(one => one.decode())).then(
        () => done(pictures.map(one => one.naturalWidth)), error => done(String(error)));
    """
    widths = browser.execute_async_script(script)
    assert len(widths) > 50
    assert min(widths) > 0


def test_a_table_sorts_by_click_numbers_as_numbers(browser: Any) -> None:
    table = "run-3-test-cases-dice"
    assert column(browser, table, 2) == ["0.600", "0.800", "0.300", "0.700"]
    cell = heading(browser, table, 2)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.find_element("tag name", "button").click()
    assert column(browser, table, 2) == ["0.300", "0.600", "0.700", "0.800"]
    assert cell.get_attribute("aria-sort") == "ascending"
    cell.find_element("tag name", "button").click()
    assert column(browser, table, 2) == ["0.800", "0.700", "0.600", "0.300"]
    assert cell.get_attribute("aria-sort") == "descending"
    # Equal rows keep their order; another column takes the arrow.
    missed = heading(browser, table, 5)
    browser.execute_script("arguments[0].querySelector('button').click()", missed)
    assert column(browser, table, 2) == ["0.800", "0.700", "0.600", "0.300"]
    assert (cell.get_attribute("aria-sort"), missed.get_attribute("aria-sort")) == ("none", "ascending")


def test_a_table_sorts_by_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    table = "run-4-test-cases-dice"
    cell = heading(browser, table, 2)
    for key in (Keys.ENTER, Keys.SPACE):
        cell.find_element("tag name", "button").send_keys(key)
    assert column(browser, table, 2) == ["0.775", "0.675", "0.575", "0.275"]


def test_rows_are_filtered(browser: Any) -> None:
    field = browser.find_element("id", "run-1-settings-set-search")
    field.send_keys("TRAIN.steps")
    rows = """
      return [...document.querySelectorAll("#run-1-settings-set tbody tr")]
        .filter(row => !row.hidden).map(row => row.cells[0].textContent);
    """
    assert browser.execute_script(rows) == ["train.steps"]
    field.clear()
    field.send_keys("x\b")
    assert len(browser.execute_script(rows)) > 10


def shown_frames(browser: Any, anchor: str) -> list[str]:
    script = """
      return [...document.querySelectorAll(`#${arguments[0]} [data-frame]`)]
        .filter(frame => !frame.hidden).map(frame => frame.dataset.frame);
    """
    found: list[str] = browser.execute_script(script, anchor)
    return found


def test_sliders_move_pictures(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    for anchor, before, after in (
        ("run-1-validation-1", "step 10", "step 5"),
        ("run-3-test-pictures-1-case-1", "7", "6"),
    ):
        assert shown_frames(browser, anchor) == [before]
        slider = browser.find_element("id", f"{anchor}-slider")
        slider.send_keys(Keys.ARROW_LEFT)
        assert shown_frames(browser, anchor) == [after]
        assert browser.find_element("css selector", f"#{anchor} output").text == after
        assert slider.get_attribute("aria-valuetext") == after


def test_layers_can_be_hidden(browser: Any) -> None:
    figure = browser.find_element("id", "run-3-test-pictures-1-case-1")
    visible = "return getComputedStyle(arguments[0].querySelector('.frame:not([hidden]) ' + arguments[1])).visibility"
    for layer in ("label", "prediction"):
        box = figure.find_element("css selector", f"[data-layer={layer}]")
        assert browser.execute_script(visible, figure, f".{layer}") == "visible"
        browser.execute_script("arguments[0].click()", box)
        assert browser.execute_script(visible, figure, f".{layer}") == "hidden"
        browser.execute_script("arguments[0].click()", box)
        assert browser.execute_script(visible, figure, f".{layer}") == "visible"


def test_curves_are_read_by_arrow_keys_and_pointer(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    chart = browser.find_element("id", "run-2-curves-1-chart-1")
    reader = chart.find_element("css selector", "[data-readings]")
    assert (reader.get_attribute("role"), reader.get_attribute("aria-valuemax")) == ("slider", "1")
    reader.send_keys(Keys.ARROW_LEFT)
    assert reader.get_attribute("aria-valuetext") == "step 5: loss 2, positive 1.5"
    assert chart.find_element("css selector", "[data-step]").text == "step 5"
    assert [one.text for one in chart.find_elements("css selector", "[data-value]")] == ["2", "1.5"]
    assert len(chart.find_elements("css selector", "[data-cursor] circle")) == 2
    reader.send_keys(Keys.END)
    assert reader.get_attribute("aria-valuetext") == "step 10: loss 1, positive 0.5"
    browser.execute_script("document.activeElement.blur()")
    ActionChains(browser).move_to_element_with_offset(reader, -100, 0).perform()
    assert reader.get_attribute("aria-valuetext").startswith("step 5:")


def test_the_button_changes_the_colours_and_they_are_remembered(browser: Any) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    media(browser, prefers_color_scheme="dark")
    dark = browser.execute_script(back)
    media(browser, prefers_color_scheme="light")
    light = browser.execute_script(back)
    assert dark != light
    button = browser.find_element("id", "theme")
    assert (button.is_displayed(), button.text) == (True, "Dark")
    browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script(back) == dark
    assert button.text == "Light"
    browser.refresh()
    assert browser.execute_script(back) == dark
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script(back) == light


@pytest.mark.parametrize("width", [390, 768, 1400])
def test_the_page_never_scrolls_sideways(browser: Any, width: int) -> None:
    resize(browser, width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].some(b => b.scrollWidth > b.clientWidth)"
    )
    assert wide or width > 390
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = false; })")
    resize(browser, 1400)


@pytest.mark.parametrize("chosen", ["dark", ""])
def test_print_has_no_controls_is_light_and_fits_the_sheet(browser: Any, chosen: str) -> None:
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", chosen)
    media(browser, "print", prefers_color_scheme="dark")
    resize(browser, 718)  # A4 at 96 pixels an inch, without its margins
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 718
    shown = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).length"
    for control in ("#theme", ".contents", "[data-slider]", "[data-layer]", "[data-search]", ".skip"):
        assert browser.execute_script(shown, control) == 0, control
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script(shown, "#run-3-test-pictures-1-case-1 .frame") == 1
    assert browser.execute_script(shown, "#run-3-test-cases-dice") == 1
    media(browser)
    resize(browser, 1400)
    browser.execute_script("delete document.documentElement.dataset.theme")


def test_the_keyboard_reaches_the_content_first(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.refresh()
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    assert browser.execute_script("return document.activeElement.textContent") == "Skip to the content"
    assert browser.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "content"
