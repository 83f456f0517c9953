"""Headless Chromium, for tests marked `system`: Debian's chromium and chromium-driver, on an empty profile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

SWITCHES = (
    "--headless",
    "--no-sandbox",  # its sandbox refuses to run as root, which CI is
    "--disable-gpu",
    "--no-first-run",
    "--window-size=1200,900",
    # and of itself it must ask nobody for anything
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
)


@contextmanager
def browse(profile: Path) -> Iterator[Chrome]:
    """`profile`: a directory that is empty, for its user data."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()
