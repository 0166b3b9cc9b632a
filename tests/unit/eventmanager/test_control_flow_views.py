"""What the view of a run says of control flow: skips, choices, waits, iterations, sub-runs, commands."""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.run_view import RunView
from anabranch_eventmanager.projection.children import MAX_CHILDREN
from anabranch_eventmanager.projection.documents import Draft, apply_entry, new_run
from anabranch_eventmanager.projection.loops import MAX_ITERATIONS
from anabranch_eventmanager.projection.run_views import build_view


def view(*entries: EventEntry) -> RunView:
    """The view after these events, as a reader decodes it."""
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=entries)
    draft = Draft(new_run(batch))
    for entry in entries:
        apply_entry(draft, entry)
    return RunView.from_document(build_view(draft.run).to_document())


_OF_ENTRY = ("spans", "iteration", "time", "attempt")


def event(kind: str, task: str | None = None, **data: Any) -> EventEntry:
    """An event; those of `_OF_ENTRY` are its own fields, the others are its data."""
    fields = {"time": 5.0, **{name: data.pop(name) for name in _OF_ENTRY if name in data}}
    return EventEntry(type=kind, cause=1, group="g" if task else None, task=task, data=data, **fields)


def test_a_skipped_task_has_its_reason() -> None:
    found = view(
        event("task.skipped", "t", reason="condition", because="n is 3"),
        event("task.cancelled", "u", because="t completed and decided the group"),
    )

    skipped, cancelled = found.groups["g"].tasks["t"], found.groups["g"].tasks["u"]
    assert (skipped.status, skipped.reason, skipped.because) == ("skipped", "condition", "n is 3")
    assert (cancelled.status, cancelled.reason) == ("cancelled", None)
    assert cancelled.because == "t completed and decided the group"


def test_a_paused_run_says_who_paused_it_until_it_is_resumed() -> None:
    paused = event("run.paused", by="Ada", reason="look first")

    assert view(paused).paused_by == {"by": "Ada", "reason": "look first", "at": 5.0}
    assert view(paused, event("run.resumed", by="Ada")).paused_by is None


def test_a_stopped_run_says_who_stopped_it() -> None:
    assert view(event("run.cancelled", action="terminate", by="Ada")).stopped_by == {
        "action": "terminate",
        "by": "Ada",
        "reason": None,
    }
    assert view(event("run.cancelled")).stopped_by is None


def test_a_switch_says_which_case_it_chose() -> None:
    found = view(event("task.completed", "(switch)", case=1, because=""))

    task = found.groups["g"].tasks["(switch)"]
    assert (task.chosen, task.because, task.reason) == (1, None, None)


def test_a_wait_and_a_loop_say_what_ended_them() -> None:
    found = view(
        event("task.completed", "wait", ended_by="signal"),
        event("task.failed", "late", ended_by="timeout", error_type="WaitTimeout", message="after 5 s"),
        event("task.completed", "loop", iterations=3, ended_by="condition"),
    )

    assert {name: task.ended_by for name, task in found.groups["g"].tasks.items()} == {
        "wait": "signal",
        "late": "timeout",
        "loop": "condition",
    }


def test_a_loop_runs_from_its_first_iteration_on() -> None:
    found = view(event("iteration.started", "loop", iteration=(0,), time=3.0))

    loop = found.groups["g"].tasks["loop"]
    assert (loop.status, loop.started_at) == ("running", 3.0)
    assert loop.loop == {"within": [], "running": 0, "ended": 0, "failed": 0, "last": []}


def test_an_inner_loop_starts_again_in_each_iteration_of_the_outer_one() -> None:
    inner = {"in_loop": "outer"}
    entries = [
        event("iteration.started", "inner", iteration=(0, 0), **inner),
        event("iteration.completed", "inner", iteration=(0, 0), **inner),
        event("task.completed", "inner", iteration=(0,), iterations=1, ended_by="condition", **inner),
        event("iteration.started", "inner", iteration=(1, 0), time=9.0, **inner),
    ]

    ended = view(*entries[:3]).groups["g"].tasks["inner"]
    again = view(*entries).groups["g"].tasks["inner"]

    assert ended.loop is not None
    assert (ended.status, ended.ended_by, ended.loop["ended"], ended.in_loop) == (
        "completed",
        "condition",
        1,
        "outer",
    )
    assert again.loop == {"within": [1], "running": 0, "ended": 0, "failed": 0, "last": []}
    assert (again.status, again.ended_by, again.started_at, again.iteration) == ("running", None, 9.0, [1])


def test_a_view_has_the_last_iterations_of_a_long_loop_and_the_number_of_all() -> None:
    entries = [
        event(f"iteration.{action}", "loop", iteration=(number,))
        for number in range(1_000)
        for action in ("started", "failed" if number % 100 == 99 else "completed")
    ]

    loop = view(*entries).groups["g"].tasks["loop"].loop

    assert loop is not None
    assert (loop["ended"], loop["failed"], len(loop["last"])) == (1_000, 10, MAX_ITERATIONS)
    assert [each["number"] for each in loop["last"]] == list(range(1_000 - MAX_ITERATIONS, 1_000))


def test_a_sub_run_has_the_status_of_its_member() -> None:
    entries = [
        event("task.started", "greet", spans=((0, 1),), child_run_id="c0"),
        event("task.started", "greet", spans=((1, 2),), child_run_id="c1"),
        event("task.started", "greet", spans=((2, 3),), child_run_id="c2"),
        event("task.started", "alone", child_run_id="c3"),
        event("task.completed", "greet", spans=((0, 1),)),
        event("task.retrying", "greet", spans=((1, 2),), attempt=1),
        event("task.started", "greet", spans=((1, 2),), attempt=2, child_run_id="c4"),
        event("task.cancelled", "alone"),
    ]

    found = view(*entries, *entries).children

    assert found is not None
    assert [(each["run_id"], each["index"], each["status"]) for each in found] == [
        ("c0", 0, "completed"),
        ("c1", 1, "failed"),
        ("c2", 2, "running"),
        ("c3", None, "cancelled"),
        ("c4", 1, "running"),
    ]


def test_a_view_lists_the_first_sub_runs_and_counts_all() -> None:
    entries = [event("task.started", "t", spans=((i, i + 1),), child_run_id=f"c{i}") for i in range(300)]

    found = view(*entries)

    assert found.children is not None
    assert (len(found.children), found.child_count) == (MAX_CHILDREN, 300)


def test_a_failure_of_a_loop_says_in_which_iteration_it_was() -> None:
    found = view(event("task.failed", "t", iteration=(4,), in_loop="loop", error_type="E", message="no"))

    assert found.failures[0]["iteration"] == [4]
    assert found.path("g", "t") == "loop[4]/t"


def test_a_task_of_a_loop_counts_in_the_share_once_the_loop_has_ended() -> None:
    accepted = event("run.accepted", tasks=2)
    body = event("task.completed", "draft", iteration=(0,), in_loop="loop")
    entries = [accepted, event("iteration.started", "loop", iteration=(0,)), body]

    assert view(*entries).share == 0.0
    assert view(*entries, event("task.completed", "loop", iterations=1, ended_by="limit")).share == 0.99
