"""axe on every view of the dashboard, in both themes: no serious and no critical finding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from dashboard_pages import Dashboard, dashboard
from dev_system import DevSystem
from playwright.sync_api import Browser

GRAVE = {"serious", "critical"}

REQUEST = {
    "name": "looked at by axe",
    "labels": {"team": "rivers"},
    "context": {"gauges": list(range(12))},
    "task_groups": [
        {
            "name": "river",
            "tasks": [
                {
                    "name": "measure",
                    "agent": "measure",
                    "dependencies": ["gauges"],
                    "expansion_config": {"type": "array", "array_mapping": {"gauge": "gauges"}},
                    "inputs": {"gauge": "{gauge}", "broken": 4},
                    "result_keys": ["levels"],
                    "tolerated_failures": 5,
                },
                {"name": "fragile", "agent": "fail", "on_failure": "hold", "result_keys": ["never"]},
            ],
        },
        {
            "name": "office",
            "tasks": [
                {
                    "name": "wait",
                    "agent": "sleep",
                    "inputs": {"seconds": 600},
                    "result_keys": ["late"],
                    "concurrency": {"key": "office", "limit": 2},
                },
                {"name": "join", "agent": "echo", "dependencies": ["late", "levels"], "result_keys": ["joined"]},
            ],
        },
    ],
}

TABS = {
    "graph": "canvas[data-painted]",
    "graph?as=list": "table.rows",
    "graph?open=river%2Fmeasure": "dialog[open] .facts",
    "timeline": ".timeline-bar",
    "members": ".heatmap canvas",
    "members?task=river%2Fmeasure&member=3": "dialog[open] .error-box",
    "results?key=levels": ".split-detail section",
    "events": ".event-row",
    "logs": ".logs > *",
    "context": ".tab > *",
    "why": "table.rows",
}
PLACES = {
    "/runs": "table.rows",
    "/runs?q=nothing-is-called-so": ".empty",
    "/submit": ".editor",
    "/dead-letters": ".letter-group",
    "/schedules": "section[aria-label=hourly] table",
    "/workers": "section[aria-labelledby=limits] table",
    "/system": "table.rows",
    "/runs/no-such-run": ".empty",
}


@pytest.fixture(scope="module")
def run(dev: DevSystem) -> Iterator[str]:
    """An open run with every kind of content."""
    started = dev.submit(REQUEST)
    hourly = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "echo"}]}]}
    dev.post("v1/schedules", {"id": "hourly", "every": "1h", "request": hourly})
    dev.post("v1/schedules/hourly/trigger", {})
    dev.post("v1/breakers/http/open", {"reason": "the provider is down"})
    yield started
    dev.post("v1/breakers/http/close", {})
    dev.post(f"v1/runs/{started}/cancel", {})


def test_axe_finds_nothing_serious_in_any_view_in_either_theme(browser: Browser, dev: DevSystem, run: str) -> None:
    found: dict[str, list[str]] = {}
    with dashboard(browser, dev.url, expected_errors=(404, 409, 501)) as board:
        for path, sign in [*PLACES.items(), *((f"/runs/{run}/{tab}", sign) for tab, sign in TABS.items())]:
            board.open(path)
            board.page.locator(sign).first.wait_for()
            found[path] = _serious(board)
        found["mistakes and plan"] = _submit(board)
        found["a question"] = _question(board, run)
        found["shortcuts"] = _shortcuts(board)
    assert {path: serious for path, serious in found.items() if serious} == {}


def test_axe_finds_nothing_serious_on_a_phone(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url, size=(390, 844)) as board:
        board.open(f"/runs/{run}/members")
        board.page.locator(".heatmap canvas").wait_for()
        assert _serious(board) == []


def _submit(board: Dashboard) -> list[str]:
    board.open("/submit")
    editor = board.page.get_by_label("Request, as YAML or JSON")
    editor.fill("name: nothing")
    editor.press("Control+Enter")
    board.page.locator(".mistakes").wait_for()
    wrong = _serious(board)
    board.page.get_by_label("Start with").select_option(label="Fan out and join")
    board.button("Preview the plan").click()
    board.painted_graph()
    return wrong + _serious(board)


def _question(board: Dashboard, run: str) -> list[str]:
    board.open(f"/runs/{run}/timeline")
    board.button("Cancel").click()
    board.dialog("Cancel this run?").wait_for()
    return _serious(board)


def _shortcuts(board: Dashboard) -> list[str]:
    board.open("/system")
    board.page.reload()
    board.page.locator("main h1").wait_for()
    board.page.keyboard.press("?")
    board.dialog("Keyboard shortcuts").wait_for()
    return _serious(board)


def _serious(board: Dashboard) -> list[str]:
    """Serious and critical findings of axe, with their elements. A theme changes only colours."""
    return [*_violations(board, "light"), *_violations(board, "dark", ["color-contrast"])]


def _violations(board: Dashboard, theme: str, rules: list[str] | None = None) -> list[str]:
    board.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    options: dict[str, object] = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    violations = Axe().run(board.page, options=options).response["violations"]
    return [
        f"{theme}: {each['id']}: {', '.join(node['target'][0] for node in each['nodes'][:3])}"
        for each in violations
        if each["impact"] in GRAVE
    ]
