"""Takes the pictures of docs/dashboard.md from a running system: `python -m dashboard_screenshots FOLDER`.

The workflow in them is real: an RNA sequencing pipeline with recorded run times, scaled down.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from browsers import chromium
from dashboard_pages import PHONE, Dashboard
from dev_system import DevSystem, dev_system
from flow_requests import release
from playwright.sync_api import Browser, expect
from workflows import workflow_request

WORKFLOW = "rnaseq-dirt02-001"
SMALL_WORKFLOW = "1000genome-chameleon-2ch-100k-001"
SCALE = 0.03
WINDOW = (1200, 740)
FLOW_WINDOW = (1640, 700)
MAX_BYTES = 250_000
"""Largest size of a picture in bytes."""

SETTLED = (
    "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 400))))"
)


def gauges(members: int) -> dict[str, Any]:
    """A fan-out with a few failing members, and a task that uses its results."""
    measure = {
        "name": "measure",
        "agent": "measure",
        "dependencies": ["gauges"],
        "expansion_config": {"type": "array", "array_mapping": {"gauge": "gauges"}},
        "inputs": {"gauge": "{gauge}", "seconds": 0.3, "broken": 48},
        "result_keys": ["levels"],
        "tolerated_failures": "5%",
        "max_concurrency": 24,
    }
    report = [
        _echo("summary", ["levels"], ["summary"]),
        _echo("chart", ["levels"], ["chart"]),
        _echo("publish", ["summary", "chart"], ["published"]),
    ]
    return {
        "name": "gauge readings",
        "labels": {"team": "hydrology"},
        "context": {"gauges": [f"G{number:03}" for number in range(members)]},
        "task_groups": [{"name": "gauges", "tasks": [measure]}, {"name": "report", "tasks": report}],
    }


def _echo(name: str, dependencies: list[str], result_keys: list[str]) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": name,
        "agent": "echo",
        "dependencies": dependencies,
        "result_keys": result_keys,
    }
    return task | {"message_template": f"{name} is there"}


def held() -> dict[str, Any]:
    """A run with a held member."""
    fragile = {"name": "calibrate", "agent": "fail", "on_failure": "hold", "result_keys": ["calibration"]}
    after = _echo("forecast", ["calibration"], ["forecast"])
    return {"name": "flood forecast", "task_groups": [{"name": "model", "tasks": [fragile, after]}]}


class Pictures:
    """Takes the pictures, each in a separate window."""

    def __init__(self, browser: Browser, system: DevSystem, folder: Path) -> None:
        self._browser = browser
        self._system = system
        self._folder = folder

    def take(
        self,
        name: str,
        path: str,
        sign: str,
        *,
        theme: str = "light",
        size: tuple[int, int] = WINDOW,
        act: Any = None,
    ) -> None:
        """Open a path, wait for an element of it, perform `act`, and save the picture."""
        width, height = size
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            device_scale_factor=2 if size == PHONE else 1,
        )
        board = Dashboard(context.new_page(), self._system.url)
        board.open(path)
        board.page.locator(sign).first.wait_for(state="attached")
        if act is not None:
            act(board)
        board.page.evaluate(SETTLED)
        path = self._folder / f"dashboard-{name}.png"
        board.page.screenshot(path=path)
        context.close()
        if path.stat().st_size > MAX_BYTES:
            raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, over {MAX_BYTES:,}")


def _half_way(board: Dashboard) -> None:
    """Wait until half of the workflow is done."""
    expect(board.page.locator(".run-progress .figure")).to_have_text(re.compile("^[4-7].%"), timeout=60_000)


def _closer(board: Dashboard) -> None:
    board.page.evaluate("document.querySelector('canvas[data-painted]').graph.zoom(1.35)")
    x, y = board.point_of(
        int(board.page.evaluate("document.querySelector('canvas[data-painted]').graph.visible()[30]"))
    )
    board.page.mouse.move(x, y)


def _zoomed(board: Dashboard) -> None:
    """Zoom in until the notes on the tiles are legible, with the loop and the switch in the middle."""
    scale = "document.querySelector('canvas[data-painted]').graph.view.scale"
    graph = "document.querySelector('canvas[data-painted]').graph"
    board.page.evaluate(f"{graph}.zoom(0.63 / {scale}, 20, 180)")


def _planned(board: Dashboard) -> None:
    board.page.get_by_label("Start with").select_option(label="Fan out and join")
    board.button("Preview the plan").click()
    board.painted_graph()


def _mistaken(board: Dashboard) -> None:
    _planned(board)
    editor = board.page.get_by_label("Request, as YAML or JSON")
    editor.fill(editor.input_value().replace("agent: echo", "agent: ecko").replace("[words]", "[word]"))
    board.button("Preview the plan").click()
    board.page.locator(".mistakes").wait_for()


def _opened(board: Dashboard) -> None:
    board.page.get_by_text("Show the").first.click()
    board.page.locator(".letter-group td").first.wait_for()


def take_all(browser: Browser, system: DevSystem, folder: Path) -> None:
    """Take all pictures."""
    pictures = Pictures(browser, system, folder)
    system.submit(
        {"name": "hello", "task_groups": [{"name": "g", "tasks": [_echo("greet", [], ["greeting"])]}]}, wait=30
    )
    fan = system.submit(gauges(480), wait=60)
    system.submit(held())
    small = system.submit(workflow_request(SMALL_WORKFLOW, "program", 0.001), wait=60)
    released = system.submit(release())
    flow = system.submit(workflow_request(WORKFLOW, "program", SCALE) | {"labels": {"source": "wfcommons"}})
    graph = "canvas[data-painted]"
    pictures.take("live", f"/runs/{flow}/graph", graph, act=_half_way)
    pictures.take("flow", f"/runs/{released}/graph", graph, size=FLOW_WINDOW, act=_zoomed)
    timeline = f"/runs/{released}/timeline"
    pictures.take("flow-timeline", timeline, ".timeline-bar", theme="dark", size=(1200, 800))
    pictures.take("runs", "/runs", "table.rows")
    pictures.take("phone", "/runs", "table.rows", size=PHONE, theme="dark")
    pictures.take("fan-out", f"/runs/{fan}/graph", graph, theme="dark")
    pictures.take("members", f"/runs/{fan}/members", ".heatmap canvas", theme="dark")
    member = "members?task=gauges%2Fmeasure&member=47"
    pictures.take("member", f"/runs/{fan}/{member}", "dialog[open] .error-box")
    pictures.take("phone-members", f"/runs/{fan}/members", ".heatmap canvas", size=PHONE)
    pictures.take("plan", "/submit", ".editor", act=_planned)
    pictures.take("mistakes", "/submit", ".editor", theme="dark", act=_mistaken)
    pictures.take("dead-letters", "/dead-letters", ".letter-group", act=_opened)
    pictures.take("system", "/system", "table.rows", theme="dark")
    system.get(f"v1/runs/{flow}/result?wait=60s")
    pictures.take("graph", f"/runs/{small}/graph", graph, theme="dark", act=_closer)
    pictures.take("timeline", f"/runs/{flow}/timeline", ".timeline-bar")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with dev_system("dashboard_agents") as system, chromium() as browser:
        take_all(browser, system, folder)


if __name__ == "__main__":
    main()
