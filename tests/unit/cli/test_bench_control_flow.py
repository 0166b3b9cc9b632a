"""The benchmark of control flow: figures and tables."""

from __future__ import annotations

from anabranch.core.request.models import Request
from control_flow.figures import LoopRun, OpenWaits, loop_table, percentile, waits_table
from control_flow.loops import BODIES
from control_flow.waits import BY


def test_the_table_of_loops_has_a_row_for_each_service() -> None:
    run = LoopRun(
        body="an agent",
        iterations=1_000,
        seconds=4.0,
        resident_mib={"agency": [70.0, 71.4], "taskgroup": [80.0, 80.0]},
        snapshots=3,
        snapshot_bytes=(1_500, 1_510),
        processor_seconds={"agency": 0.1, "taskgroup": 2.0},
        load=1.0,
    )

    lines = loop_table([run]).splitlines()

    assert [line.split(" | ")[3] for line in lines[2:4]] == ["agency", "taskgroup"]
    assert "| 250 | agency | 70, 71 | 0 |" in lines[2]
    assert lines[-1] == "3 snapshots: the first has 1,500 bytes, the last 1,510."
    assert run.to_document()["iterations_per_second"] == 250.0


def test_the_table_of_waits_has_the_rate_at_which_they_ended() -> None:
    found = OpenWaits(
        waits=1_000,
        runs=10,
        by="signal",
        opened_seconds=1.0,
        rate=500.0,
        ended_seconds=2.5,
        p50_seconds=0.1,
        p99_seconds=0.5,
        idle_share=0.01,
        resident_mib={"taskgroup": 80.0},
        processor_seconds={"taskgroup": 1.25},
        load=1.0,
    )

    assert (
        "| 1,000 | 10 | signal | 500 | 400 | 0.10 s | 0.50 s | taskgroup 80 | taskgroup 1.2 | 0.010 |"
        in waits_table(found)
    )
    assert found.to_document()["ended_per_second"] == 400.0


def test_percentiles() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


def test_the_requests_are_valid() -> None:
    for body in BODIES.values():
        loop = {"while": "iteration >= 0", "max_iterations": 10, "on_limit": "complete"}
        Request.model_validate({"task_groups": [{"name": "l", "loop": loop, "tasks": [body]}]})
    for wait, _ in BY.values():
        Request.model_validate({"task_groups": [{"name": "g", "tasks": [{"name": "w", "wait": wait("n")}]}]})
