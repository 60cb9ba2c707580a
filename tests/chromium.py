"""A headless Chromium for tests of the page, or a reason why there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WHERE = "Debian: apt install chromium chromium-driver"


class Tab:
    """One page in a browser that runs no longer than the tests."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.driver.set_script_timeout(60)

    def open(
        self, path: Path, width: int = 1200, scheme: str = "light", scripts: bool = True
    ) -> None:
        """Open a file in a window of this width, with or without JavaScript."""
        self.log("browser"), self.log("performance")  # of the page before
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", media="", features=features)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get(path.absolute().as_uri())

    def send(self, command: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str) -> None:
        """Wait until an expression is true, a minute at most."""
        waits = f"""
            const done = arguments[arguments.length - 1];
            const look = () => ({condition}) ? done(true) : setTimeout(look, 20);
            look();"""
        assert self.driver.execute_async_script(waits)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """The entries of a log since it was last read."""
        found: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return found

    def requests(self) -> list[str]:
        """The addresses of all requests since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def chromium() -> Iterator[Tab]:
    """A tab of Chromium; skips the test where it or its driver is missing."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        missing = "Chromium" if found is None else "chromedriver"
        pytest.skip(f"{missing} is not installed ({WHERE})")
    options = ChromeOptions()
    options.binary_location = found
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in ("headless", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which Chromium refuses to root
    browser = Chrome(options=options, service=Service(driver))
    try:
        yield Tab(browser)
    finally:
        browser.quit()
