"""A real Chromium for tests of the dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class BrowserMissingError(Exception):
    """Raised if there is no Chromium on this machine."""


def chromium_path() -> str:
    """Return the path of Chromium: `ANABRANCH_TEST_CHROMIUM`, else from the search path.

    Raises:
        BrowserMissingError: there is none.
    """
    found = os.environ.get("ANABRANCH_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise BrowserMissingError(
            "there is no Chromium on the search path: install it, or set ANABRANCH_TEST_CHROMIUM"
        )
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Raises BrowserMissingError."""
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
