"""What the dashboard shows of control flow: parts that only compute, and the graph of a run in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from dashboard_pages import PHONE, Dashboard, dashboard
from dev_system import DevSystem
from flow_requests import release
from playwright.sync_api import Browser, expect

Compute = Callable[..., Any]
Box = dict[str, float]


def loop_of(ended: int, running: int | None = None, failed: tuple[int, ...] = ()) -> dict[str, Any]:
    """The state of a loop in a view, which has the last 50 iterations."""
    last = [
        {"number": number, "status": "failed" if number in failed else "completed", "started_at": 1, "ended_at": 2}
        for number in range(max(0, ended - 50), ended)
    ]
    return {"within": [], "running": running, "ended": ended, "failed": len(failed), "last": last}


def inside(outer: Box, inner: Box) -> bool:
    across = outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 0.01
    return (
        across and outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 0.01
    )


def apart(a: Box, b: Box) -> bool:
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


# --- parts that only compute ----------------------------------------------------------------------------


def test_a_loop_is_a_box_around_its_body_and_no_other_task_is_in_it(compute: Compute) -> None:
    # An outer loop (1) with a task and an inner loop (3) of three tasks; 0 comes before, 7 after
    parents = [-1, -1, 1, 1, 3, 3, 3, -1]
    nodes = [{"group": "g", "wide": False, "parent": parent} for parent in parents]
    edges = [[0, 1], [0, 4], [1, 2], [2, 4], [3, 4], [4, 5], [4, 6], [6, 7], [1, 7]]

    made = compute("graph/layout.js", "m.layout(x.nodes, x.edges)", {"nodes": nodes, "edges": edges})

    tiles = made["nodes"]
    for inner, outer in ((2, 1), (3, 1), (4, 3), (5, 3), (6, 3)):
        assert inside(tiles[outer], tiles[inner]), (outer, inner)
        assert tiles[inner]["y"] >= tiles[outer]["y"] + tiles[outer]["head"]
    for a, b in ((0, 1), (7, 1), (2, 3), (4, 5), (5, 6), (4, 6)):
        assert apart(tiles[a], tiles[b]), (a, b)
    assert tiles[0]["x"] < tiles[1]["x"] < tiles[7]["x"]
    assert tiles[4]["x"] < tiles[5]["x"]
    assert tiles[5]["x"] == tiles[6]["x"]
    # Of overlapping boxes the innermost is under the pointer, and the loop is where it has no task
    place = {"tiles": tiles, "x": tiles[5]["x"] + 5, "y": tiles[5]["y"] + 5}
    assert compute("graph/viewport.js", "m.nodeAt(x.tiles, x.x, x.y)", place) == 5
    head = {"tiles": tiles, "x": tiles[3]["x"] + 5, "y": tiles[3]["y"] + 5}
    assert compute("graph/viewport.js", "m.nodeAt(x.tiles, x.x, x.y)", head) == 3


def test_the_phases_of_a_runs_end_are_right_of_all_else(compute: Compute) -> None:
    sections = ["", "", "finally", "compensate", "compensate"]
    nodes = [{"group": section or "g", "wide": False, "section": section} for section in sections]
    made = compute(
        "graph/layout.js", "m.layout(x.nodes, x.edges)", {"nodes": nodes, "edges": [[0, 1], [3, 4], [1, 2]]}
    )

    tiles, boxes = made["nodes"], {box["section"]: box for box in made["sections"]}
    assert inside(boxes["compensate"], tiles[3])
    assert inside(boxes["compensate"], tiles[4])
    assert inside(boxes["finally"], tiles[2])
    assert tiles[1]["x"] + tiles[1]["width"] < boxes["compensate"]["x"]
    assert boxes["compensate"]["x"] + boxes["compensate"]["width"] < boxes["finally"]["x"]
    assert boxes["finally"]["x"] + boxes["finally"]["width"] <= made["width"]


def test_a_thousand_tasks_in_loops_have_a_layout_without_overlaps(compute: Compute) -> None:
    # 20 loops of 49 tasks, each of which is one chain, and all loops in parallel
    nodes: list[dict[str, Any]] = []
    edges = []
    for _ in range(20):
        loop = len(nodes)
        nodes.append({"group": f"g{loop}", "wide": False})
        for nth in range(49):
            nodes.append({"group": f"g{loop}", "wide": nth % 10 == 0, "parent": loop})
            edges.append([len(nodes) - 2, len(nodes) - 1])

    made = compute("graph/layout.js", "m.layout(x.nodes, x.edges)", {"nodes": nodes, "edges": edges})

    loops = [box for box in made["nodes"] if box.get("head")]
    assert (len(made["nodes"]), len(loops)) == (1_000, 20)
    assert all(apart(a, b) for at, a in enumerate(loops) for b in loops[at + 1 :])
    for node, box in zip(nodes, made["nodes"], strict=True):
        assert "parent" not in node or inside(made["nodes"][node["parent"]], box)


def test_a_loop_around_itself_does_not_hang_the_layout(compute: Compute) -> None:
    nodes = [{"group": "g", "wide": False, "parent": 1}, {"group": "g", "wide": False, "parent": 0}]
    assert compute("graph/layout.js", "m.layout(x, []).nodes.length", nodes) == 2


@pytest.mark.parametrize(
    ("loop", "limit", "numbers", "earlier"),
    [
        (loop_of(0, 0), 20, [0], 0),
        (loop_of(30), 50, list(range(30)), 0),
        (loop_of(30, 30), 10, list(range(21, 31)), 21),
        (loop_of(100_000), 40, list(range(99_960, 100_000)), 99_960),
        (None, 20, [], 0),
    ],
)
def test_a_strip_has_the_last_iterations_and_counts_the_earlier_ones(
    compute: Compute, loop: Any, limit: int, numbers: list[int], earlier: int
) -> None:
    strip = compute("lib/flow.js", "m.stripOf(x.loop, x.limit)", {"loop": loop, "limit": limit})
    assert [cell["number"] for cell in strip["cells"]] == numbers
    assert strip["earlier"] == earlier


def test_a_strip_shows_how_each_iteration_ended(compute: Compute) -> None:
    cells = compute("lib/flow.js", "m.stripOf(x, 20).cells", loop_of(3, 3, failed=(1,)))
    assert [(cell["tone"], cell["running"]) for cell in cells] == [
        ("good", False),
        ("bad", False),
        ("good", False),
        ("running", True),
    ]
    assert (
        compute("lib/flow.js", "m.textOfLoop(x)", loop_of(3, 3, failed=(1,))) == "3 iterations, 1 failed, [3] runs"
    )


def test_edges_of_a_switch_say_which_case_was_chosen(compute: Compute) -> None:
    nodes = [
        {"id": "g/(switch)", "kind": "switch", "chosen": 1},
        {"id": "g/a", "branch": {"switch": "g/(switch)", "case": 0, "text": "n > 1"}},
        {"id": "g/b", "branch": {"switch": "g/(switch)", "case": 1, "text": "else"}},
        {"id": "g/(loop)", "kind": "loop"},
        {"id": "g/c", "in_loop": "g/(loop)"},
    ]
    asked = {"nodes": nodes, "edges": [[0, 1], [0, 2], [3, 4], [2, 4], [1, 3]], "optional": [4]}

    marks = dict(compute("lib/flow.js", "[...m.edgeMarks(x.nodes, x.edges, x.optional)]", asked))

    assert marks == {
        0: {"label": "n > 1", "look": "other"},
        1: {"label": "else", "look": "chosen"},
        2: {"label": "", "look": "inside"},
        4: {"label": "", "look": "optional"},
    }
    nodes[0]["chosen"] = None
    marks = dict(compute("lib/flow.js", "[...m.edgeMarks(x.nodes, x.edges, x.optional)]", asked))
    assert marks[0]["look"] == "plain"


def test_the_path_of_a_task_has_the_iterations_of_its_loops(compute: Compute) -> None:
    tasks = {
        "outer": {"task": "outer", "group": "g"},
        "inner": {"task": "inner", "group": "g", "iteration": [1], "in_loop": "outer"},
        "draft": {"task": "draft", "group": "g", "iteration": [1, 12], "in_loop": "inner"},
        "only": {"task": "only", "group": "g", "iteration": [3], "in_loop": "(loop)"},
    }
    paths = compute("lib/flow.js", "Object.values(x).map(task => m.pathOfTask(task, x))", tasks)
    assert paths == ["outer", "outer[1]/inner", "outer[1]/inner[12]/draft", "g[3]/only"]


def test_an_event_says_in_which_iteration_it_was(compute: Compute) -> None:
    events = [
        {"type": "task.started", "group": "writing", "task": "draft", "iteration": [3], "in_loop": "(loop)"},
        {"type": "iteration.failed", "group": "writing", "task": "(loop)", "iteration": [3]},
        {"type": "iteration.started", "group": "g", "task": "b", "iteration": [3, 7], "in_loop": "a"},
        {"type": "task.started", "group": "g", "task": "t"},
        {"type": "group.started", "group": "g"},
        {"type": "run.accepted"},
    ]
    assert compute("lib/flow.js", "x.map(m.placeOfEvent)", events) == [
        "writing / writing[3]/draft",
        "writing / writing[3]",
        "g / a[3]/b[7]",
        "g / t",
        "g",
        "",
    ]


def test_a_timeline_shows_waits_as_waits_and_iterations_as_parts(compute: Compute) -> None:
    task = {"status": "completed", "started_at": 10, "ended_at": 14, "members": 1}
    waits = [{"reason": "signal", "name": "paid", "since": 12, "members": [[0, 1]]}]
    loop = {"within": [], "running": 2, "ended": 2, "failed": 0, "last": [
        {"number": 0, "status": "completed", "started_at": 10, "ended_at": 11},
        {"number": 1, "status": "completed", "started_at": 11, "ended_at": 13},
    ]}  # fmt: skip
    tasks = {
        "wait": {**task, "status": "running", "ended_at": None, "started_at": 12, "waits": waits},
        "loop": {**task, "status": "running", "ended_at": None, "loop": loop},
        "body": {**task, "iteration": [2], "in_loop": "loop"},
        "greet": task,
    }
    child = {
        "run_id": "c",
        "group": "g",
        "task": "greet",
        "index": 0,
        "status": "completed",
        "started_at": 11,
        "ended_at": 12,
    }
    view = {
        "submitted_at": 10,
        "started_at": 10,
        "ended_at": None,
        "groups": {"g": {"tasks": tasks}},
        "children": [child],
    }

    [group] = compute("lib/run.js", "m.timeline(x, 20).groups", view)

    bars = {bar["path"]: bar for bar in group["bars"]}
    assert set(bars) == {"wait", "loop", "loop[2]/body", "greet"}
    assert (bars["wait"]["status"], bars["wait"]["at"], bars["wait"]["length"]) == ("awaiting", 2, 8)
    assert [(part["number"], part["at"], part["length"]) for part in bars["loop"]["parts"]] == [
        (0, 0, 1),
        (1, 1, 2),
        (2, 3, 7),
    ]
    [sub_run] = bars["greet"]["children"]
    assert (sub_run["run_id"], sub_run["at"], sub_run["length"]) == ("c", 1, 1)


def test_a_newer_view_moves_a_loop_on_and_forgets_the_last_iteration(compute: Compute) -> None:
    node = {
        "group": "g",
        "task": "t",
        "status": "skipped",
        "because": "n is 3",
        "reason": "condition",
        "iteration": [1],
    }
    same = {"status": "skipped", "because": "n is 3", "reason": "condition", "iteration": [1], "waits": []}
    for task, changed in ((same, []), ({"status": "running", "iteration": [2], "waits": []}, [0])):
        view = {"groups": {"g": {"tasks": {"t": task}}}}
        made = compute("lib/run.js", "m.withStatuses(x.nodes, x.view)", {"nodes": [node], "view": view})
        assert made["changed"] == changed
    assert made["nodes"][0]["because"] is None
    assert made["nodes"][0]["iteration"] == [2]


# --- a run in a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(dev: DevSystem) -> Iterator[str]:
    """The run of `release`, which waits for an approval."""
    started = dev.submit(release())
    yield started
    dev.post(f"v1/runs/{started}/cancel", {})


def opened(board: Dashboard, run: str, task: str) -> None:
    """Open the drawer of a task by its address."""
    board.page.goto("about:blank")
    board.open(f"/runs/{run}/graph?open={quote(task, safe='')}")
    board.page.locator("dialog[open] .facts").first.wait_for()


def test_the_graph_of_a_run_shows_its_control_flow(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/graph")
        # The approval is awaited, and not running
        expect(board.page.get_by_role("button", name="Awaiting 1")).to_be_visible()
        expect(board.page.get_by_role("button", name="Skipped 2")).to_be_visible()
        order = {node["id"]: nth for nth, node in enumerate(dev.get(f"v1/runs/{run}/graph")["nodes"])}

        # By keys: the loop says its iterations, its body is reached from it
        board.painted_graph()
        stage = board.page.get_by_role("application")
        stage.focus()
        told = board.page.locator(".graph .unseen")
        board.page.evaluate(
            "node => document.querySelector('canvas[data-painted]').graph.select(node)", order["writing/(loop)"]
        )
        board.page.keyboard.press("ArrowRight")
        expect(told).to_contain_text("Completed")
        board.page.keyboard.press("Enter")
        expect(board.page.get_by_role("dialog")).to_be_visible()
        board.page.keyboard.press("Escape")

        # By pointer: a task in the box of the loop is that task
        board.page.mouse.click(*board.point_of(order["writing/draft"]))
        drawer = board.dialog("Task draft")
        expect(drawer).to_contain_text("writing, iteration 29")


def test_a_running_iteration_pulses_unless_motion_is_unwanted(
    browser: Browser, dev: DevSystem, tmp_path: Path
) -> None:
    gate = {"name": "step", "agent": "gated", "inputs": {"gate": str(tmp_path / "gate")}}
    loop = {"name": "turns", "loop": {"while": "iteration < 2"}, "tasks": [gate]}
    started = dev.submit({"name": "turning", "task_groups": [loop]})
    pulses = "document.querySelector('canvas[data-painted]').graph.pulses"
    try:
        for motion, expected in (("no-preference", True), ("reduce", False)):
            with dashboard(browser, dev.url) as board:
                board.page.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
                board.open(f"/runs/{started}/graph")
                board.painted_graph()
                expect(board.page.get_by_role("button", name="Running 2")).to_be_visible()
                assert board.page.evaluate(pulses) is expected
    finally:
        (tmp_path / "gate").touch()


def test_the_drawer_of_a_loop_lists_its_iterations(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url) as board:
        opened(board, run, "writing/(loop)")
        drawer = board.dialog("Task writing")
        expect(drawer).to_contain_text('until draft == "draft 29", at most 100 times')
        expect(drawer).to_contain_text("30 iterations")
        rows = drawer.get_by_role("region", name="Iterations").locator("tbody tr")
        expect(rows).to_have_count(30)
        expect(rows.first).to_contain_text("writing[29]")


def test_the_drawers_of_a_switch_and_a_skipped_task_say_why(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url) as board:
        opened(board, run, "route/(switch)")
        expect(board.dialog("Task switch")).to_contain_text('case 0: score >= 0.8 && tests == "passed"')
        opened(board, run, "route/careful")
        expect(board.dialog("Task careful")).to_contain_text("route/(switch) chose case 0")


def test_a_sub_run_is_a_link_and_leads_back_to_its_parent(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url) as board:
        opened(board, run, "release/greet")
        board.dialog("Task greet").get_by_role("link", name="Completed greet [0]").click()
        expect(board.page.get_by_role("heading", name="greeting", level=1)).to_be_visible()
        board.link("release/greet").click()
        expect(board.dialog("Task greet")).to_be_visible()


def test_the_list_says_the_same_as_the_graph(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/graph?as=list")
        rows = board.page.locator("table.rows tbody tr")
        expect(rows.filter(has_text="sign-off")).to_contain_text(
            "waits for the decision of ann: Release draft 29?"
        )
        expect(rows.filter(has_text="careful")).to_contain_text("route/(switch) chose case 0")
        expect(rows.filter(has_text="judge")).to_contain_text("iteration 29")
        expect(rows.filter(has_text="clean")).to_contain_text("finally")


def test_the_timeline_shows_a_wait_as_waiting(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url, size=(1280, 1400)) as board:
        board.open(f"/runs/{run}/timeline")
        row = board.page.get_by_role("link", name="sign-off Awaiting, waits for the decision of ann")
        expect(row.locator(".timeline-bar.tone-held")).to_have_count(1)
        expect(board.page.get_by_role("link", name="writing[29]/draft Completed")).to_be_visible()
        expect(board.page.locator(".timeline-part")).to_have_count(30)
        expect(board.page.get_by_role("link", name="sub-run greet [2]")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_about_control_flow(
    browser: Browser, dev: DevSystem, run: str, theme: str
) -> None:
    with dashboard(browser, dev.url, theme=theme) as board:
        for path in ("graph", "graph?as=list", "timeline"):
            board.open(f"/runs/{run}/{path}")
            board.page.locator("canvas[data-painted], table.rows, .timeline-bar").first.wait_for(state="attached")
            assert _serious(board) == [], path
        for task in ("writing/(loop)", "release/sign-off", "release/greet"):
            opened(board, run, task)
            assert _serious(board) == [], task


def _serious(board: Dashboard) -> list[str]:
    found = Axe().run(board.page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
    ]


def test_a_phone_has_no_sideways_scrolling(browser: Browser, dev: DevSystem, run: str) -> None:
    with dashboard(browser, dev.url, size=PHONE) as board:
        for path in ("graph", "graph?as=list", "timeline"):
            board.open(f"/runs/{run}/{path}")
            board.page.locator("canvas[data-painted], table.rows, .timeline-bar").first.wait_for(state="attached")
            assert board.width_over() == 0, path


def test_an_approval_is_decided_in_the_drawer_and_compensations_appear(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(release(iterations=3))
    with dashboard(browser, dev.url) as board:
        opened(board, run, "release/sign-off")
        drawer = board.dialog("Task sign-off")
        drawer.get_by_label("Your name").fill("ann")
        drawer.get_by_role("button", name="Reject", exact=True).click()

        expect(board.status("Failed")).to_be_visible()
        expect(drawer).to_contain_text("Failed")
        board.page.keyboard.press("Escape")
        board.open(f"/runs/{run}/graph?as=list")
        rows = board.page.locator("table.rows tbody tr")
        expect(rows.filter(has_text="compensate")).to_contain_text("Completed")


def test_a_plan_shows_its_control_flow(browser: Browser, dev: DevSystem) -> None:
    request = """
context: {score: 0.7}
task_groups:
  - switch:
      cases:
        - when: "score >= 0.8"
          tasks: [{name: publish, agent: echo, message_template: publishes, result_keys: [outcome]}]
      default:
        tasks: [{name: reject, agent: echo, message_template: rejects, result_keys: [outcome]}]
  - name: again
    loop: {while: "iteration < 3"}
    tasks: [{name: step, agent: echo, message_template: "{iteration}"}]
"""
    with dashboard(browser, dev.url) as board:
        board.open("/submit")
        board.page.get_by_label("Request, as YAML or JSON").fill(request)
        board.button("Preview the plan").click()
        board.painted_graph()
        board.page.mouse.click(*board.point_of(1))
        expect(board.page.locator(".plan-task")).to_contain_text("case score >= 0.8")
