"""The explorer in a real browser, from ``file://``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.page._browser import (
    CHROMIUM,
    DESKTOP,
    DRIVER,
    PATIENCE,
    PHONE,
    asked_for,
    look,
    opened,
    settled,
    visit,
)
from tests.page._results import EVIL, TURNED, hostile
from unibench.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of hostile results."""
    place = tmp_path_factory.mktemp("page")
    results = hostile(place)
    assert main(["page", f"out={results}", f"to={place / 'page'}"]) == 0
    return (place / "page" / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = opened(tmp_path_factory.mktemp("profile"))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Chrome, page: str) -> Chrome:
    """A desktop in daylight with the page open, as nobody has touched it."""
    look(chromium, DESKTOP, "light")
    visit(chromium, page)
    return chromium


def heads(browser: Chrome, table: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, f"#{table} thead th")


def column(browser: Chrome, table: str, name: str) -> list[str]:
    """What stands in a column of a table, from top to bottom."""
    names = [head.text for head in heads(browser, table)]
    lines = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
    return [line.find_elements(By.TAG_NAME, "td")[names.index(name)].text for line in lines]


def choose(browser: Chrome, name: str, value: str) -> None:
    """Check a value in a filter of the page."""
    menu = browser.find_element(By.CSS_SELECTOR, f"[data-filter={name}]")
    if menu.get_attribute("open") is None:
        menu.find_element(By.TAG_NAME, "summary").click()
    menu.find_element(By.CSS_SELECTOR, f"input[value='{value}']").click()
    settled(browser)


def selected(browser: Chrome) -> str:
    return browser.find_element(By.CSS_SELECTOR, "#samples [aria-selected=true] bdi").text


def waits(browser: Chrome, script: str) -> None:
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script(script))


def test_a_column_is_sorted_by_a_click_and_by_enter(browser: Chrome) -> None:
    (head,) = [one for one in heads(browser, "score-table") if one.text == "method"]
    head.click()
    methods = column(browser, "score-table", "method")
    assert methods == ["dart", "divprune", "fastv", "vanilla"]
    (head,) = [one for one in heads(browser, "score-table") if one.text == "method"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.click()
    assert column(browser, "score-table", "method") == methods[::-1]


def test_a_filter_holds_for_tables_plots_and_samples(browser: Chrome) -> None:
    choose(browser, "method", "divprune")
    assert column(browser, "score-table", "method") == ["vanilla", "divprune"]
    assert set(column(browser, "cell-table", "method")) == {"vanilla", "divprune"}
    assert column(browser, "pair-table", "second") == ["divprune"]
    shown = browser.find_elements(By.CSS_SELECTOR, "#samples li small")
    assert shown and all("divprune" in one.text for one in shown)
    pressed = browser.find_elements(By.CSS_SELECTOR, ".legend [aria-pressed=true]")
    assert [one.text for one in pressed] == ["divprune"]
    assert "method=divprune" in browser.current_url
    browser.find_element(By.ID, "reset").click()
    settled(browser)
    assert len(column(browser, "score-table", "method")) == 4


def test_an_address_shows_what_it_was_copied_from(browser: Chrome, page: str) -> None:
    choose(browser, "method", "dart")
    cell = browser.execute_script(
        "return explorer.cells.find(row => row.method === 'divprune').key[0]"
    )
    visit(browser, f"{page}#method=divprune&method=dart&theme=dark&sample={cell}/s0002")
    assert set(column(browser, "score-table", "method")) == {"vanilla", "divprune", "dart"}
    assert browser.execute_script("return document.documentElement.className") == "dark"
    assert selected(browser) == "s0002"
    assert "divprune" in browser.find_element(By.CSS_SELECTOR, "#sample p").text


def test_columns_are_chosen_and_stay_so(browser: Chrome) -> None:
    place = browser.find_element(By.ID, "cell-table")
    assert "device" not in [head.text for head in heads(browser, "cell-table")]
    place.find_element(By.CSS_SELECTOR, ".columns summary").click()
    (label,) = [one for one in place.find_elements(By.TAG_NAME, "label") if one.text == "device"]
    label.click()
    assert "device" in [head.text for head in heads(browser, "cell-table")]
    choose(browser, "method", "divprune")
    assert "device" in [head.text for head in heads(browser, "cell-table")]


def test_a_mark_of_a_plot_tells_its_numbers(browser: Chrome) -> None:
    points = browser.find_elements(By.CSS_SELECTOR, ".plot .mark-symbol path")
    assert points
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", points[0])
    ActionChains(browser).move_to_element(points[0]).perform()
    waits(browser, "return document.querySelector('#vg-tooltip-element.visible') !== null")
    told = browser.find_element(By.ID, "vg-tooltip-element").text
    assert "method" in told and "score" in told and "95 %" in told


def test_keys_walk_the_samples_and_enlarge_their_pictures(browser: Chrome) -> None:
    first = selected(browser)
    samples = browser.find_element(By.ID, "samples")
    samples.send_keys(Keys.ARROW_DOWN)
    second = selected(browser)
    samples.send_keys("j")
    samples.send_keys("k")
    assert second != first and selected(browser) == second
    widths = browser.execute_script(
        "return [...document.querySelectorAll('#sample img')].map(one => one.naturalWidth)"
    )
    assert len(widths) >= 2 and all(widths)
    samples.send_keys(Keys.ENTER)
    large = browser.find_element(By.ID, "large")
    assert large.get_attribute("open") is not None and large.find_elements(By.TAG_NAME, "img")
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert large.get_attribute("open") is None
    alts = [
        one.get_attribute("alt") for one in browser.find_elements(By.CSS_SELECTOR, "#sample img")
    ]
    assert all(alt and second in alt for alt in alts)


def test_scores_are_a_heat_map_beside_the_kept_tokens(browser: Chrome) -> None:
    choose(browser, "method", "dart")
    fills = "return [...document.querySelectorAll('#sample svg.heat path')].map(one => [one.getAttribute('fill'), one.getAttribute('d').split('M').length - 1])"
    # of four places one has no score, and one that must not stay is as dark as the lowest
    assert sorted(browser.execute_script(fills)) == [
        ["rgb(24 32 96 / .68)", 2], ["rgb(255 196 0 / .68)", 1],
    ]  # fmt: skip
    (caption,) = [
        one.text
        for one in browser.find_elements(By.CSS_SELECTOR, "#sample figcaption")
        if "scores" in one.text
    ]
    assert "scores at layer 2, from 0.25 (dark) to 0.5 (yellow)" in caption
    browser.find_element(By.CSS_SELECTOR, "#scale option[value=rank]").click()
    assert "coloured by rank" in browser.find_element(By.ID, "sample").text
    assert "scale=rank" in browser.current_url
    assert "scores=true" not in browser.find_element(By.ID, "sample").text


def test_a_sample_without_scores_says_how_to_get_them(browser: Chrome) -> None:
    choose(browser, "method", "divprune")
    assert "answer again with scores=true" in browser.find_element(By.ID, "sample").text
    assert not browser.find_elements(By.CSS_SELECTOR, "#sample svg.heat")


def test_what_was_lost_is_found_by_change_and_by_words(browser: Chrome) -> None:
    browser.find_element(By.CSS_SELECTOR, "#change option[value=lost]").click()
    names = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#samples bdi")]
    assert names == ["s0001", "s0001"]
    browser.find_element(By.ID, "words").send_keys("right to left")
    shown = browser.find_elements(By.CSS_SELECTOR, "#samples li small")
    assert len(shown) == 1 and "dart" in shown[0].text


def test_a_cell_shows_its_configuration_and_its_environment(browser: Chrome) -> None:
    line = browser.find_element(By.CSS_SELECTOR, "#cell-table tbody tr")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", line)
    line.click()
    waits(browser, "return document.querySelectorAll('#cell pre').length === 2")
    told = browser.find_element(By.ID, "cell").text
    assert "method:" in told and "samples.jsonl" in told


def test_heads_of_a_table_stay_in_sight(browser: Chrome) -> None:
    found = browser.execute_script(
        "return getComputedStyle(document.querySelector('#cell-table thead th')).position"
    )
    assert found == "sticky"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("light", ["light", "dark"])
def test_the_page_fits_the_screen_and_follows_the_system(
    chromium: Chrome, page: str, size: tuple[int, int], light: str
) -> None:
    look(chromium, size, light)
    visit(chromium, page)
    wide = chromium.execute_script("return document.documentElement.scrollWidth")
    assert wide <= size[0]
    paper = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if light == "light" else "rgb(13, 17, 23)")


def test_hostile_text_is_text_and_nothing_is_asked_of_a_network(
    chromium: Chrome, page: str
) -> None:
    look(chromium, DESKTOP, "light")
    chromium.get_log("browser"), chromium.get_log("performance")  # of what came before
    visit(chromium, page)
    said = chromium.execute_script(
        "return [...document.querySelectorAll('#sample dd, #sample td')].map(one => one.textContent)"
    )
    assert any(EVIL in one for one in said)
    visit(chromium, f"{page}#method=dart")
    (answer,) = [
        one
        for one in chromium.find_elements(By.CSS_SELECTOR, "#sample td bdi")
        if TURNED in str(one.get_property("textContent"))
    ]
    assert "more signs" in str(answer.get_property("textContent"))
    assert answer.value_of_css_property("unicode-bidi") == "isolate"
    assert chromium.title == "unibench results"  # what was said would have set another
    assert not chromium.find_elements(By.CSS_SELECTOR, "[onerror], img[src=x]")
    assert chromium.get_log("browser") == []
    folder = page.removesuffix("index.html")
    for address in asked_for(chromium):
        assert address.startswith((folder, "data:", "about:", "chrome:")), address


def test_a_page_without_its_folder_still_shows_its_numbers(
    chromium: Chrome, page: str, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_bytes(Path(page.removeprefix("file://")).read_bytes())
    look(chromium, DESKTOP, "light")
    visit(chromium, (tmp_path / "index.html").as_uri())
    assert len(column(chromium, "score-table", "method")) == 4
    assert "is not beside this page" in chromium.find_element(By.ID, "gallery-state").text
