"""The modules of the dashboard that only compute, each tested separately in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ASSETS = Path(__file__).parents[2] / "services/gateway/src/anabranch_gateway/dashboard/assets"

Compute = Callable[..., Any]


def test_the_page_preloads_every_module_that_it_imports() -> None:
    page = (ASSETS.parent / "index.html").read_text("utf-8")
    asked = set(re.findall(r'<link rel="modulepreload" href="assets/([^"]+)"', page))
    assert asked == _imported_from(ASSETS / "main.js") - {"main.js"}


def _imported_from(entry: Path) -> set[str]:
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        name = module.relative_to(ASSETS).as_posix()
        if name not in found:
            found.add(name)
            text = module.read_text("utf-8")
            waiting += [(module.parent / each).resolve() for each in re.findall(r'\bfrom ?"(\.[^"]+)"', text)]
    return found


def test_durations_have_about_three_digits(compute: Compute) -> None:
    seconds = [None, 0, 0.00048, 0.0124, 0.9996, 1.2345, 12.34, 59.96, 124, 3_780, 90_000]
    assert compute("lib/time.js", "x.map(m.duration)", seconds) == [
        "–", "0 s", "480 µs", "12 ms", "1.00 s", "1.23 s", "12.3 s",
        "1 min 00 s", "2 min 04 s", "1 h 03 min", "1 d 01 h",
    ]  # fmt: skip


def test_times_as_numbers_or_text_are_shown_relative_to_now(compute: Compute) -> None:
    moments = [1000, 995, 700, 1100, "1970-01-01T00:00:40Z"]
    assert compute("lib/time.js", "x.map(at => m.relative(at, 1000))", moments) == [
        "just now", "5 s ago", "5 min ago", "in 1 min", "16 min ago",
    ]  # fmt: skip


@pytest.mark.parametrize("span", [0.0003, 0.7, 9.9, 61, 4_000, 200_000])
def test_an_axis_has_a_few_round_marks_from_its_beginning(compute: Compute, span: float) -> None:
    marks = compute("lib/time.js", "m.ticks(x, 6)", span)
    assert marks[0] == 0
    assert 2 <= len(marks) <= 13
    assert marks[-1] <= span * 1.0001


def test_numbers_are_short_and_never_misleading(compute: Compute) -> None:
    assert compute("lib/format.js", "[950, 1200, 38400, 1.2e6].map(m.compact)") == ["950", "1.2k", "38k", "1.2M"]
    percents = compute("lib/format.js", "x.map(([part, whole]) => m.percent(part, whole))",
                       [[0, 10], [1, 1000], [999, 1000], [1000, 1000], [0, 0]])  # fmt: skip
    assert percents == ["0%", "<1%", "99%", "100%", "–"]


def test_the_common_prefix_of_names_ends_at_a_separator(compute: Compute) -> None:
    names = [["NF.RNA.ALIGN_1", "NF.RNA.ALTER_2"], ["ab_1", "ab_2"], ["alone_here"], ["river", "delta"]]
    assert compute("lib/format.js", "x.map(m.sharedPrefix)", names) == [7, 0, 0, 0]


def test_a_stream_is_read_whatever_its_chunks(compute: Compute) -> None:
    first = 'id: 7\nevent: run.accepted\ndata: {"a":\ndata: 1}\n\n'
    text = f"retry: 2000\n\n: still here\n\n{first}data:x\r\n\r\nevent: end\n"
    whole = compute("lib/sse.js", "new m.EventStreamParser().feed(x)", text)
    assert whole == [
        {"id": "7", "event": "run.accepted", "data": '{"a":\n1}'},
        {"id": "7", "event": "message", "data": "x"},
    ]
    for size in (1, 2, 5):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert (
            compute("lib/sse.js", "(p => x.flatMap(each => p.feed(each)))(new m.EventStreamParser())", pieces)
            == whole
        )


def test_the_pause_between_attempts_doubles_up_to_a_limit(compute: Compute) -> None:
    least = compute("lib/live.js", "[1, 2, 3, 20].map(failures => m.pauseBefore(failures, 0))")
    waits = compute("lib/live.js", "[1, 2, 3, 20].map(failures => m.pauseBefore(failures, 1))")
    assert least == [250, 500, 1000, 7500]
    assert waits == [500, 1000, 2000, 15000]


def test_routes_are_written_to_the_url_and_read_back(compute: Compute) -> None:
    path, query = ["runs", "a/b c"], {"task": "g/t ü", "status": ""}
    hash_ = compute("lib/router.js", "m.format(x.path, x.query)", {"path": path, "query": query})
    assert compute("lib/router.js", "m.parse(x)", hash_) == {"path": path, "query": {"task": "g/t ü"}}
    assert compute("lib/router.js", "m.parse('#/runs/%E0%A4%A')")["path"] == ["runs", "%E0%A4%A"]


@pytest.mark.parametrize(
    ("count", "width", "height"), [(1, 160, 36), (37, 160, 36), (500, 160, 36), (900, 1200, 96), (5, 3, 2)]
)
def test_all_cells_of_a_heat_map_fit_into_its_box(compute: Compute, count: int, width: int, height: int) -> None:
    grid = compute("lib/heat.js", "m.gridFor(...x)", [count, width, height])
    assert grid["columns"] * grid["rows"] >= count
    assert grid["columns"] * (grid["side"] + grid["gap"]) <= width + grid["gap"]
    assert grid["rows"] * (grid["side"] + grid["gap"]) <= height + grid["gap"]


def test_a_cell_of_a_heat_map_is_filled_by_share(compute: Compute) -> None:
    cells = [
        {"done": 99, "failed": 1, "running": 0},
        {"done": 100, "failed": 0, "running": 0},
        {"done": 3, "failed": 0, "running": 2},
        {"done": 0, "failed": 0, "running": 0},
    ]
    assert compute("lib/heat.js", "x.map(cell => m.cellAppearance(cell, 100))", cells) == [
        {"parts": [{"tone": "bad", "share": 0.01}, {"tone": "good", "share": 0.99}], "failed": False},
        {"parts": [{"tone": "good", "share": 1}], "failed": False},
        {"parts": [{"tone": "good", "share": 0.03}, {"tone": "running", "share": 0.02}], "failed": False},
        {"parts": [], "failed": False},
    ]
    counts = {"done": 5, "failed": 5, "running": 0}
    assert compute("lib/heat.js", "m.cellAppearance(x, 10).failed", counts) is True
    title = compute("lib/heat.js", "m.cellTitle(x, 2, 100, 250)", {"done": 40, "failed": 1, "running": 2})
    assert title == "members 200 to 249: 40 done, 1 failed, 2 running, 7 waiting"


def test_a_bar_takes_the_known_share_of_the_whole(compute: Compute) -> None:
    """300 of 400 known members ended in a run that is half done: further members will become known."""
    counts = {"members": 400, "completed": 200, "failed": 100, "running": 50, "share": 0.45}
    parts = compute("lib/run.js", "m.sharesOf(x)", counts)
    assert parts == pytest.approx({"completed": 0.3, "failed": 0.15, "running": 0.275})
    parts = compute("lib/run.js", "m.sharesOf(x)", {"members": 4, "completed": 2, "failed": 1, "running": 1})
    assert parts == pytest.approx({"completed": 0.5, "failed": 0.25, "running": 0.25})


def test_a_view_of_the_log_says_that_older_lines_were_left_out(compute: Compute) -> None:
    script = (
        "(s => [s.lines[0], m.linesSummary(s)])([...Array(12)]"
        ".reduce((s, _, n) => m.withLines(s, Array(500).fill(n)), {lines: [], left: 0}))"
    )
    assert compute("views/run/logs.js", script) == [
        2,
        "the last 5,000 of 6,000 lines; 1,000 older ones are omitted: see anabranch logs",
    ]
    assert compute("views/run/logs.js", "m.linesSummary({lines: [1], left: 0})") == "1 line"


def test_a_join_of_a_failed_task_looks_failed(compute: Compute) -> None:
    joined = {"type": "task.joined", "status": "failed"}
    assert compute("views/run/events.js", "m.statusOfEvent(x)", joined) == "failed"


JSON = '{\n  "task_groups": [\n    {"name": "a}", "tasks": [{"name": "x", "agent": "nobody"}]}\n  ]\n}'
YAML = """# a comment
name: wrong
task_groups:
- name: first
  tasks:
    - name: a
      agent: echo

    - agent: nobody
      "result_keys": [x, y]
- name: second
  tasks: [{name: z}]
"""


@pytest.mark.parametrize(
    ("text", "pointer", "selected", "exact"),
    [
        (JSON, "/task_groups/0/tasks/0/agent", '"agent": "nobody"', True),
        (JSON, "/task_groups/0/name", '"name": "a}"', True),
        (JSON, "/task_groups/0/timeout", '{"name": "a}"', False),
        (JSON, "", "{", True),
        (YAML, "/name", "name: wrong", True),
        (YAML, "/task_groups/0/tasks/1/agent", "agent: nobody", True),
        (YAML, "/task_groups/0/tasks/1/result_keys", '"result_keys": [x, y]', True),
        (YAML, "/task_groups/1/name", "name: second", True),
        (YAML, "/task_groups/1/tasks/0/agent", "tasks: [{name: z}]", False),
        (YAML, "/task_groups/5", "task_groups:", False),
    ],
)
def test_an_error_is_located_in_the_text_by_its_pointer(
    compute: Compute, text: str, pointer: str, selected: str, exact: bool
) -> None:
    place = compute("lib/pointer.js", "m.locate(x.text, x.pointer)", {"text": text, "pointer": pointer})
    assert text[place["start"] : place["end"]].startswith(selected)
    assert place["exact"] is exact
    assert place["line"] == text[: place["start"]].count("\n") + 1


def test_layers_follow_the_dependencies_and_a_cycle_ends(compute: Compute) -> None:
    assert compute("graph/order.js", "m.layersOf(5, [[0, 1], [1, 2], [0, 2], [3, 2]])") == [0, 1, 2, 0, 0]
    assert len(compute("graph/order.js", "m.layersOf(3, [[0, 1], [1, 2], [2, 0]])")) == 3


def test_no_two_tiles_of_a_layout_overlap_and_groups_hold_their_tasks(compute: Compute) -> None:
    nodes = [{"group": f"g{nth % 7}", "wide": nth % 11 == 0} for nth in range(300)]
    edges = [[nth // 3, nth] for nth in range(40, 300)]
    made = compute("graph/layout.js", "m.layout(x.nodes, x.edges)", {"nodes": nodes, "edges": edges})
    tiles = made["nodes"]
    assert len(tiles) == 300
    for at, a in enumerate(tiles):
        assert 0 <= a["x"] <= made["width"] - a["width"] + 1
        for b in tiles[at + 1 :]:
            beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
    for tile, node in zip(tiles, nodes, strict=True):
        assert any(_holds(box, tile) for box in made["boxes"] if box["group"] == node["group"])


def _holds(box: dict[str, float], tile: dict[str, float]) -> bool:
    across = box["x"] <= tile["x"] and tile["x"] + tile["width"] <= box["x"] + box["width"] + 0.01
    return across and box["y"] <= tile["y"] and tile["y"] + tile["height"] <= box["y"] + box["height"] + 0.01


def test_a_large_graph_is_laid_out_quickly(compute: Compute) -> None:
    # 2,122 tasks and 6,366 edges: a layout that compares all pairs would take minutes
    script = """(() => {
      const nodes = Array.from({length: 2122}, (_, nth) => ({group: `g${nth % 12}`, wide: false}));
      const edges = [];
      for (let nth = 200; nth < 2122; nth += 1) for (const back of [180, 190, 200]) edges.push([nth - back, nth]);
      const made = m.layout(nodes, edges);
      return [made.nodes.length, made.width / made.height];
    })()"""
    count, aspect = compute("graph/layout.js", script)
    assert count == 2_122
    assert 1 < aspect < 4


def test_zooming_keeps_what_is_under_the_pointer(compute: Compute) -> None:
    before = {"x": 100, "y": 50, "scale": 0.5}
    after = compute("graph/viewport.js", "m.zoomed(x, 200, 120, 2)", before)
    assert after["scale"] == 1
    assert after["x"] + 200 / after["scale"] == before["x"] + 200 / before["scale"]
    assert after["y"] + 120 / after["scale"] == before["y"] + 120 / before["scale"]


def test_a_timeline_begins_with_the_first_task_and_open_tasks_reach_its_end(compute: Compute) -> None:
    task = {"status": "completed", "started_at": 12, "ended_at": 15, "completed": 1, "failed": 0, "members": 1}
    open_task = {**task, "status": "running", "started_at": 14, "ended_at": None}
    waiting = {**task, "status": "waiting", "started_at": None, "ended_at": None}
    groups = {"late": {"tasks": {"c": open_task, "d": waiting}}, "early": {"tasks": {"a": task}}}
    view = {"submitted_at": 11, "started_at": 11.5, "ended_at": None, "groups": groups}
    made = compute("lib/run.js", "m.timeline(x, 20)", view)
    assert (made["began"], made["span"]) == (11.5, 8.5)
    assert [each["group"] for each in made["groups"]] == ["early", "late"]
    assert [(bar["at"], bar["length"]) for bar in made["groups"][1]["bars"]] == [(2.5, 6), (None, None)]


def test_a_newer_view_changes_only_the_nodes_that_it_contains(compute: Compute) -> None:
    nodes = [{"group": "g", "task": name, "status": "waiting", "completed": 0} for name in "ab"]
    view = {"groups": {"g": {"tasks": {"b": {"status": "running", "completed": 0}}}}}
    made = compute("lib/run.js", "m.withStatuses(x.nodes, x.view)", {"nodes": nodes, "view": view})
    assert made["changed"] == [1]
    assert [node["status"] for node in made["nodes"]] == ["waiting", "running"]


def test_a_search_text_becomes_filters(compute: Compute) -> None:
    found = compute("views/runs.js", "m.searchFilters('label:team=core night run session:s1')")
    assert found == {"label": "team:core", "session_id": "s1", "q": "night run"}


def test_every_status_has_its_own_shape_and_colour(compute: Compute) -> None:
    statuses = ["waiting", "running", "held", "completed", "failed", "skipped", "cancelled", "timed_out", "paused"]
    shapes = compute("lib/status.js", "x.map(status => m.appearanceOf(status).path)", statuses)
    assert len(set(shapes)) == len(statuses)
