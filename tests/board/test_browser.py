"""The board in a real browser, from ``file://``, as wide as a desk's and as a telephone's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.board._site import board
from tests.kit._certificates import MINI
from unibench.kit import standard

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
         "disable-background-networking", "disable-component-update", "disable-sync")  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    place = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(standard.STANDARDS, MINI.name, MINI)
        site = board(place)
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={place / 'profile'}", "window-size=1280,1600"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(str(DRIVER)))
    try:
        driver.get(site.index.as_uri())
        yield driver
    finally:
        driver.quit()


def shot(browser: Chrome, name: str) -> None:
    """Keep a picture of the window where somebody wants to look at it."""
    if (folder := os.environ.get("UNIBENCH_SCREENSHOTS")) is not None:
        browser.save_screenshot(str(Path(folder, name)))


def names(browser: Chrome) -> list[str]:
    """The methods in the lines that are shown, from top to bottom."""
    lines = browser.find_elements(By.CSS_SELECTOR, "#board tbody tr")
    return [line.get_attribute("data-name") or "" for line in lines if line.is_displayed()]


def column(browser: Chrome, title: str) -> list[str]:
    heads = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#board thead th")]
    place = next(number for number, head in enumerate(heads) if head.startswith(title))
    lines = browser.find_elements(By.CSS_SELECTOR, "#board tbody tr")
    return [
        line.find_elements(By.TAG_NAME, "td")[place].text for line in lines if line.is_displayed()
    ]


def test_the_page_is_shown_sorted_filtered_and_drawn(browser: Chrome) -> None:
    assert len(names(browser)) == 1  # the method alone
    browser.find_element(By.ID, "references").click()
    shown = names(browser)
    assert {"vanilla", "divprune", "random_pre"} <= {*shown}
    head = next(
        one for one in browser.find_elements(By.CSS_SELECTOR, "#board th") if one.text == "Score"
    )
    head.click()
    scores = [float(text) for text in column(browser, "Score")]
    assert scores == sorted(scores) and head.get_attribute("aria-sort") == "ascending"
    head.click()
    assert [float(text) for text in column(browser, "Score")] == sorted(scores, reverse=True)
    assert browser.find_elements(By.CSS_SELECTOR, "#pareto circle")
    assert browser.find_elements(By.CSS_SELECTOR, "#board tr.front")
    shot(browser, "desktop.png")


def test_filters_leave_what_they_name(browser: Chrome) -> None:
    ratio = Select(browser.find_element(By.CSS_SELECTOR, "select[data-column=budget]"))
    ratio.select_by_visible_text("0.75")
    assert {*column(browser, "Ratio")} == {"0.75"}
    ratio.select_by_visible_text("all")
    aware = browser.find_element(By.CSS_SELECTOR, "input[data-trait=text_aware]")
    aware.click()
    assert "vanilla" in names(browser) and len(column(browser, "Ratio")) < 20
    assert not any(name not in ("vanilla",) and "First" in name for name in names(browser))
    aware.click()
    field = browser.find_element(By.CSS_SELECTOR, "input[type=search]")
    field.send_keys("DIVP")
    assert names(browser) == ["divprune"]
    for _ in "DIVP":
        field.send_keys("\ue003")
    assert len(names(browser)) > 1


def test_on_a_telephone_nothing_is_wider_than_the_window(browser: Chrome) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    wide = browser.execute_script(
        "return document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"
    )
    shot(browser, "phone.png")
    assert not wide


def test_a_method_page_is_opened_and_no_word_of_it_ran(browser: Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.find_element(By.CSS_SELECTOR, "#board tbody tr[data-kind=method] a").click()
    assert "class First" in browser.page_source and browser.title != "run"
    shot(browser, "method.png")
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert not [line for line in said if "SEVERE" in line]
