"""Helpers for tests of the dashboard: a page that must not report errors, and elements in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

DESKTOP = (1280, 800)
PHONE = (390, 844)
PATIENCE = 30_000
"""Milliseconds; long enough for busy machines."""
expect.set_options(timeout=PATIENCE)


class Dashboard:
    """One window of the dashboard."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, path: str) -> None:
        """Open a path, such as `/runs`."""
        self.page.goto(f"{self.url}#{path}")
        self.page.locator("main h1").first.wait_for()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    def dialog(self, name: str) -> Locator:
        return self.page.get_by_role("dialog", name=name)

    def status(self, text: str) -> Locator:
        """The displayed status of the run."""
        return self.page.locator(".run-facts .status", has_text=text)

    def painted_graph(self) -> Locator:
        """Return the canvas once the visible part of the graph is drawn."""
        canvas = self.page.locator("canvas[data-painted]")
        canvas.wait_for(state="attached")
        return canvas

    def point_of(self, node: int) -> tuple[float, float]:
        """The centre of a tile, in pixels of the window. Nodes are numbered as in the graph."""
        box = self.painted_graph().bounding_box()
        assert box is not None
        tile: dict[str, Any] = self.page.evaluate(
            "node => document.querySelector('canvas[data-painted]').graph.boxOf(node)", node
        )
        return box["x"] + tile["left"] + tile["width"] / 2, box["y"] + tile["top"] + tile["height"] / 2

    def width_over(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


@contextmanager
def dashboard(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    theme: str = "light",
    expected_errors: tuple[int, ...] = (),
) -> Iterator[Dashboard]:
    """Open a separate window. Errors in the page, including violations of its content security policy, fail the
    test.

    Args:
        expected_errors: HTTP statuses that this test provokes; a browser reports them on its console.
    """
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"error: {error}"))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        yield Dashboard(page, url)
    finally:
        context.close()
    unexpected = [text for text in errors if not any(f"status of {status}" in text for status in expected_errors)]
    assert not unexpected, unexpected
