"""The page in a real browser, from ``file://``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from tests.page._results import EVIL, hostile
from unibench.cli import main

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
ALONE = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run")
QUIET = ("disable-background-networking", "disable-component-update", "disable-sync")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium with the page open."""
    place = tmp_path_factory.mktemp("browser")
    results = hostile(place)
    assert main(["report", "--html", f"out={results}", f"to={place / 'page'}"]) == 0
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*ALONE, *QUIET, f"user-data-dir={place / 'profile'}", "window-size=1200,1600"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(str(DRIVER)))
    try:
        driver.get((place / "page" / "index.html").as_uri())
        yield driver
    finally:
        driver.quit()


def column(browser: Chrome, name: str) -> list[str]:
    """What stands in a column of the table of cells, from top to bottom, in the lines that are
    shown.
    """
    table = browser.find_element(By.ID, "all-cells")
    heads = [head.text for head in table.find_elements(By.CSS_SELECTOR, "thead th")]
    lines = [
        line for line in table.find_elements(By.CSS_SELECTOR, "tbody tr") if line.is_displayed()
    ]
    return [line.find_elements(By.TAG_NAME, "td")[heads.index(name)].text for line in lines]


def test_a_column_is_sorted_by_a_click(browser: Chrome) -> None:
    (head,) = [
        head
        for head in browser.find_elements(By.CSS_SELECTOR, "#all-cells th")
        if head.text == "method"
    ]
    head.click()
    assert (
        column(browser, "method") == ["divprune", "fastv", "vanilla"]
        and head.get_attribute("aria-sort") == "ascending"
    )
    head.click()
    assert (
        column(browser, "method") == ["vanilla", "fastv", "divprune"]
        and head.get_attribute("aria-sort") == "descending"
    )


def test_lines_are_filtered_by_words(browser: Chrome) -> None:
    field = browser.find_elements(By.CSS_SELECTOR, "input.filter")[-1]
    field.send_keys("FASTV")
    assert column(browser, "method") == ["fastv"]
    field.clear()
    browser.execute_script("arguments[0].dispatchEvent(new Event('input'))", field)
    assert len(column(browser, "method")) == 3


def test_a_sample_opens_and_shows_pictures_and_what_was_said(browser: Chrome) -> None:
    sample = browser.find_element(By.CSS_SELECTOR, "details.lost")
    assert not sample.find_element(By.TAG_NAME, "dl").is_displayed()
    sample.find_element(By.TAG_NAME, "summary").click()
    assert [text.text for text in sample.find_elements(By.TAG_NAME, "dd")] == [
        f"1 {EVIL}",
        EVIL,
        "plain",
        EVIL,
    ]
    widths = [
        browser.execute_script("return arguments[0].naturalWidth", picture)
        for picture in sample.find_elements(By.TAG_NAME, "img")
    ]
    assert len(widths) == 2 and all(widths)


def test_a_number_leads_to_its_cell(browser: Chrome) -> None:
    link = browser.find_element(By.CSS_SELECTOR, "#all-cells a")
    cell = browser.find_element(By.ID, link.text)
    assert cell.get_attribute("open") is None
    browser.execute_script("arguments[0].click()", link)
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    assert cell.get_attribute("open") is not None and "method:" in cell.text


def test_nothing_was_complained_about_run_or_asked_for(browser: Chrome) -> None:
    assert browser.title == "unibench results"  # what was said would have set another
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        message["params"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert not [one for one in sent if one["request"]["url"].startswith(("http", "ws"))]
    page = browser.current_url.split("#")[0]
    asked = {
        one["request"]["url"] for one in sent if one["documentURL"].split("#")[0] == page
    }  # not of the browser's own first tab
    assert page in asked and all(url == page or url.startswith("data:image/") for url in asked)
