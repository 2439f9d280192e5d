"""Chromium without a window, in the sizes and lights in which people look."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ALONE = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run")
QUIET = ("disable-background-networking", "disable-component-update", "disable-sync")
DESKTOP, PHONE = (1400, 900), (390, 844)
PATIENCE = 120  # seconds; machines that run tests are busy


def opened(profile: Path) -> Chrome:
    """A browser that notes what it complains about and what it asks for."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*ALONE, *QUIET, f"user-data-dir={profile}", "window-size=1400,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options, ChromeService(str(DRIVER)))


def look(browser: Chrome, size: tuple[int, int], light: str) -> None:
    """As a screen of this size, in a system that is ``light`` or ``dark``."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = [{"name": "prefers-color-scheme", "value": light}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def visit(browser: Chrome, address: str) -> None:
    """Open an address anew, and wait until its plots and samples are drawn."""
    browser.get("about:blank")  # another fragment alone would not load the page again
    browser.get(address)
    settled(browser)


def settled(browser: Chrome) -> None:
    """Wait until the page has drawn everything."""
    drawn = (
        "return document.documentElement.dataset.ready === 'yes'"
        " && !document.getElementById('gallery-state').textContent.startsWith('loading')"
        " && [...document.querySelectorAll('.plot .vega')].every(one => one.querySelector('svg'))"
    )
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script(drawn))


def waited(browser: Chrome) -> None:
    """Wait until the pictures in sight are there: they load when they come near."""
    there = """return [...document.querySelectorAll("#sample img")].every(one => one.complete
        || one.getBoundingClientRect().top > innerHeight || one.getBoundingClientRect().bottom < 0)"""
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script(there))


def photograph(browser: Chrome, file: Path) -> None:
    """A picture of what the screen shows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    file.write_bytes(base64.b64decode(shot["data"]))


def asked_for(browser: Chrome) -> list[str]:
    """Addresses that the browser asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent: list[dict[str, Any]] = [
        message["params"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [str(one["request"]["url"]) for one in sent]
