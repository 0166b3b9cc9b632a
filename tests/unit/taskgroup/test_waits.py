"""Steps that wait: one ending for each member, by time or by signal, whatever is read twice."""

from __future__ import annotations

from typing import Any

import pytest
from waiting_runs import WaitingRun, each_of, waits

from anabranch.core.names import Names
from anabranch.core.ranges import Ranges
from anabranch.core.reasons import Fact
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.idle import is_idle
from anabranch_taskgroup.session.pending import waits_of
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.turn import CountArrays, RenderWaits
from anabranch_taskgroup.session.wait_state import OpenWaits

OBJECT = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [{"for": "1h"}, {"for": 3600}, {"until": "1970-01-01T01:16:40Z"}])
def test_a_wait_ends_with_null_when_its_time_has_come(wait: dict[str, Any]) -> None:
    run = WaitingRun(waits(**wait))
    run.pass_time(4_599.0)
    assert run.finished is None
    assert run.task().state is TaskState.RUNNING

    run.pass_time(4_600.0)

    assert run.results == {"w": None}
    assert run.events("task.waiting") == [{"reason": "time", "until": 4_600.0}]
    assert run.events("task.completed") == [{"ended_by": "time"}]


@pytest.mark.parametrize(
    "wait", [{"for": 0}, {"until": "1969-12-31T23:00:00Z"}, {"until": "1970-01-01T00:00:00+00:00"}]
)
def test_a_time_in_the_past_ends_the_wait_at_once(wait: dict[str, Any]) -> None:
    assert WaitingRun(waits(**wait)).results == {"w": None}


def test_a_time_may_be_a_placeholder() -> None:
    order = {"order": {"context_keys": ("order",), "result_keys": ("w",)}}
    run = WaitingRun(waits(until="{order.delivery}", **order), context={"order": {"delivery": 2_000}})
    run.pass_time(1_999.0)
    assert run.finished is None
    run.pass_time(2_000.0)
    assert run.results == {"w": None}


@pytest.mark.parametrize("value", ["tomorrow", None, [], -5, 1e300, True])
def test_a_placeholder_that_makes_no_time_fails_the_task(value: Any) -> None:
    order = {"order": {"context_keys": ("t",), "result_keys": ("w",)}}
    run = WaitingRun(waits(until="{t}", **order), context={"t": value})
    assert run.finished is not None
    [failure] = run.finished.failures
    assert failure.error_type == "InvalidWait"
    assert "`until` of the wait" in failure.message


def test_a_wait_of_a_year_has_one_timer_and_ends() -> None:
    run = WaitingRun(waits(**{"for": "365d"}))
    records = run.offset
    run.pass_time(1_000.0 + 365 * 86_400)
    assert run.results == {"w": None}
    assert run.offset == records + 1


def test_a_timer_that_is_read_twice_ends_nothing_twice() -> None:
    run = WaitingRun(waits(**{"for": 5}), waits("other", **{"for": 50}))
    for _ in range(3):
        run.feed(m.TimerDue(run_id="r", at=1_005.0), at=1_006.0)
    assert len(run.events("task.completed")) == 1


def test_members_may_wait_for_times_of_their_own() -> None:
    run = WaitingRun(waits(until="{item.at}", expansion=each_of([{"at": 3_000}, {"at": 500}, {"at": 2_000}])))
    assert run.events("task.completed") == [{"ended_by": "time", "spans": ((1, 2),)}]
    run.pass_time(2_000.0)
    assert run.events("task.completed")[1:] == [{"ended_by": "time", "spans": ((2, 3),)}]
    run.pass_time(3_000.0)
    assert run.results == {"w": [None, None, None]}


# --- timeouts ------------------------------------------------------------------------------------


def test_a_wait_that_times_out_fails() -> None:
    run = WaitingRun(waits(signal="go", timeout=60))
    run.pass_time(1_060.0)
    assert run.finished is not None
    assert run.finished.status == "failed"
    assert [(each.error_type, each.task) for each in run.finished.failures] == [("WaitTimeout", "w")]
    assert run.events("task.failed")[0]["ended_by"] == "timeout"


def test_on_timeout_value_completes_with_the_value() -> None:
    run = WaitingRun(waits(signal="go", timeout=60, on_timeout="value", value={"default": 1}))
    run.pass_time(1_060.0)
    assert run.results == {"w": {"default": 1}}
    assert run.events("task.completed") == [{"ended_by": "timeout"}]


def test_on_timeout_skip_skips_the_task() -> None:
    run = WaitingRun(waits(signal="go", timeout=60, on_timeout="skip"))
    run.pass_time(1_060.0)
    assert run.results == {}
    assert [data["ended_by"] for data in run.events("task.skipped")] == ["timeout"]


def test_on_timeout_skip_leaves_members_out_of_the_join() -> None:
    order = waits(signal="go-{item}", timeout=60, on_timeout="skip", expansion=each_of(["a", "b", "c"]))
    run = WaitingRun(order)
    run.signal("go-b", "B")
    run.pass_time(1_060.0)
    assert run.results == {"w": ["B"]}
    assert run.finished is not None
    assert run.finished.counts == m.Counts(total=3, completed=1, skipped=2)


def test_tolerated_failures_count_timeouts() -> None:
    more = {"order": {"tolerated_failures": 1, "result_keys": ("w",)}}
    run = WaitingRun(waits(signal="go-{item}", timeout=60, expansion=each_of(["a", "b"]), **more))
    run.signal("go-b", 2)
    run.pass_time(1_060.0)
    assert run.results == {"w": [2]}


def test_a_timeout_and_a_signal_in_the_same_second_have_one_ending() -> None:
    late = WaitingRun(waits(signal="go", timeout=60, on_timeout="value", value="late"))
    late.pass_time(1_060.0)
    late.signal("go", "early")
    early = WaitingRun(
        waits(signal="go", timeout=60, on_timeout="value", value="late"), waits("w2", signal="stay")
    )
    early.at = 1_060.0
    early.signal("go", "early")
    early.feed(m.TimerDue(run_id="r", at=1_060.0))

    assert late.results == {"w": "late"}
    assert [data["ended_by"] for data in early.events("task.completed")] == ["signal"]
    early.signal("stay")
    assert early.results["w"] == "early"


# --- signals -------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_for_its_name_with_its_value() -> None:
    run = WaitingRun(waits(signal="go"))
    run.signal("stop", 1)
    assert run.finished is None
    run.signal("go", {"ok": True})
    assert run.results == {"w": {"ok": True}}
    [completed] = run.events("task.completed")
    assert completed["ended_by"] == "signal"


def test_a_signal_before_its_wait_is_not_lost() -> None:
    run = WaitingRun(waits(**{"for": 60}), waits("later", signal="go", needs=[m.Need(key="w", kind="produced")]))
    run.signal("go", "first")
    run.signal("go", "second")
    assert run.from_snapshot() == run.run
    run.pass_time(1_060.0)
    assert run.results == {"w": None, "later": "first"}


def test_signals_are_given_in_order_to_waits_in_the_order_in_which_they_opened() -> None:
    run = WaitingRun(waits("a", signal="go"), waits("b", signal="go"), waits("c", signal="go"))
    run.signal("go", 1)
    run.signal("go", 2)
    run.signal("go", 3)
    assert run.results == {"a": 1, "b": 2, "c": 3}


def test_the_same_signal_id_counts_once() -> None:
    run = WaitingRun(waits("a", signal="go"), waits("b", signal="go"))
    run.signal("go", 1, "same")
    run.signal("go", 1, "same")
    assert run.finished is None
    assert run.task("b").state is TaskState.RUNNING
    run.signal("go", 2, "other")
    assert run.results == {"a": 1, "b": 2}


def test_one_signal_ends_the_lowest_member_that_waits() -> None:
    run = WaitingRun(waits(signal="go", expansion=each_of(list("abc"), output_format="index")))
    run.signal("go", "x")
    run.signal("go", "y")
    assert [data["spans"] for data in run.events("task.completed")] == [((0, 1),), ((1, 2),)]
    run.signal("go", "z")
    assert run.results == {"w": ["x", "y", "z"]}


def test_a_payload_that_does_not_fit_is_refused_and_the_wait_stays_open() -> None:
    run = WaitingRun(waits(signal="go", schema=OBJECT))
    run.signal("go", {"ok": "yes"}, "bad")
    [refused] = run.events("signal.refused")
    assert (refused["signal_id"], refused["name"]) == ("bad", "go")
    assert "/ok: 'yes' is not of type 'boolean'" in refused["message"]
    run.signal("go", {"ok": True})
    assert run.results == {"w": {"ok": True}}


def test_a_kept_signal_that_does_not_fit_makes_room_for_the_next() -> None:
    later = waits("later", signal="go", schema=OBJECT, needs=[m.Need(key="w", kind="produced")])
    run = WaitingRun(waits(**{"for": 60}), later)
    run.signal("go", 5)
    run.signal("go", {"ok": False})
    run.pass_time(1_060.0)
    assert run.results == {"w": None, "later": {"ok": False}}
    assert len(run.events("signal.refused")) == 1


def test_a_wait_that_collects_too_much_fails_and_frees_it() -> None:
    run = WaitingRun(waits(signal="go", collect=100), waits("other", signal="end"))
    payload = "x" * 900_000
    for _ in range(17):
        run.signal("go", payload)
    assert run.task().state is TaskState.RUNNING
    run.signal("go", payload)
    assert run.task().state is TaskState.FAILED
    assert run.task().waits == OpenWaits(opened=1, ended=Ranges([(0, 1)]), collected_bytes=18 * 900_002)
    run.signal("go", 1)
    run.signal("end")
    assert run.finished is not None
    assert [failure.error_type for failure in run.finished.failures] == ["ResultError"]


def test_a_wait_collects_several_payloads() -> None:
    run = WaitingRun(waits(signal="go", collect=3))
    for number in range(3):
        assert run.finished is None
        assert run.from_snapshot() == run.run
        run.signal("go", [number])
    assert run.results == {"w": [[0], [1], [2]]}


def test_a_payload_over_the_inline_limit_becomes_a_reference() -> None:
    run = WaitingRun(waits(signal="go"), inline_limit=10)
    run.signal("go", "x" * 100)
    assert run.results["w"]["$anabranch"] == "s/w"


def test_names_of_members_in_a_separate_join() -> None:
    expansion = each_of([{"id": "de"}, {"id": "fr"}], output_format="separate", identifiers={"id": "id"})
    run = WaitingRun(waits(signal="ready-{id}", expansion=expansion))
    run.signal("ready-fr", 2)
    run.signal("ready-de", 1)
    assert run.results == {"w": {"de": 1, "fr": 2}, "de_w": 1, "fr_w": 2}


def test_signals_are_accepted_while_the_run_is_paused() -> None:
    run = WaitingRun(waits(signal="go"))
    run.feed(m.PauseRun(run_id="r", paused=True, cause=1))
    run.signal("go", 1)
    assert run.results == {"w": 1}


def test_more_signals_than_a_run_keeps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch_taskgroup.session.mailboxes.MAX_KEPT", 2)
    run = WaitingRun(waits(signal="go"))
    for _ in range(3):
        run.signal("other")
    assert len(run.events("signal.refused")) == 1


# --- stops, snapshots, takeovers -----------------------------------------------------------------


def test_a_cancelled_wait_ends_once_and_leaves_no_trace() -> None:
    run = WaitingRun(waits(signal="go", timeout=60))
    run.feed(m.StopRun(run_id="r", reason="cancelled"))
    run.signal("go", 1)
    run.feed(m.TimerDue(run_id="r", at=1_060.0), at=1_060.0)
    assert run.finished is not None
    assert run.finished.status == "cancelled"
    assert run.events("task.completed") == []


def test_a_step_that_has_ended_is_in_no_mailbox() -> None:
    run = WaitingRun(
        waits(signal="go-{item}", timeout=5, expansion=each_of(list("abc"))), waits("x", signal="go-a")
    )
    run.pass_time(1_005.0)
    assert run.run.signals is not None
    assert {name: box.waiting for name, box in run.run.signals.boxes.items()} == {"go-a": [("g", "x")]}


def test_a_run_that_waits_is_idle_and_says_what_for() -> None:
    run = WaitingRun(
        waits("a", signal="go-{item}", timeout=9, expansion=each_of(["x", "y"])), waits(**{"for": 60})
    )
    assert is_idle(run.run)
    found = [each.missing for each in waits_of(run.run, Names("t."))]
    assert [(each.fact, each.key, each.members, each.until) for each in found] == [
        (Fact.WAITS_FOR_SIGNAL, "go-x", ((0, 1),), 1_009.0),
        (Fact.WAITS_FOR_SIGNAL, "go-y", ((1, 2),), 1_009.0),
        (Fact.WAITS_FOR_TIME, None, None, 1_060.0),
    ]


def test_the_snapshot_of_a_run_with_open_waits_restores_it() -> None:
    run = WaitingRun(
        waits("a", signal="go-{item}", timeout=9, expansion=each_of(["x", "y"])), waits(**{"for": 60})
    )
    run.signal("go-y", 1)
    run.signal("unknown", 1)
    assert run.from_snapshot() == run.run


def test_values_in_the_store_are_read_by_the_shell() -> None:
    needs = [m.Need(key="order", kind="context")]
    run = WaitingRun(waits(until="{order.at}", needs=needs), context={"order": {"at": 2_000}})
    assert run.task().state is TaskState.RUNNING

    large = {"order": {"at": 2_000, "more": "x" * 100}}
    external = [m.Need(key="order", kind="external")]
    run = WaitingRun(waits(until="{order.at}", needs=external))
    reference = {"$anabranch": "s/order", "count": 2, "bytes": 900, "run_id": "other"}
    turn = run.feed(m.ValueFound(run_id="r", key="order", value=reference, is_reference=True))
    assert RenderWaits("r", "g", "w") in turn.effects
    assert RenderWaits("r", "g", "w") in derive(run.run)
    assert not is_idle(run.run)
    page = m.WaitsRendered(run_id="r", group="g", task="w")
    for _ in range(2):
        run.feed(page, (b"[[2000.0,null,null,null]]",))
    run.pass_time(large["order"]["at"])
    assert run.results == {"w": None}
    assert run.partition.dropped == {"waits rendered before": 1}


def test_pages_of_rendered_members_are_applied_once_each_in_order() -> None:
    reference = {"$anabranch": "s/list", "count": 3, "bytes": 900, "run_id": "other"}
    needs = [m.Need(key="list", kind="external")]
    run = WaitingRun(waits(signal="go-{item}", expansion=each_of("list"), needs=needs))
    turn = run.feed(m.ValueFound(run_id="r", key="list", value=reference, is_reference=True))
    assert RenderWaits("r", "g", "w") in turn.effects

    first = m.WaitsRendered(run_id="r", group="g", task="w", first=0, total=3)
    second = m.WaitsRendered(run_id="r", group="g", task="w", first=2, total=3)
    run.feed(second, (b'[[null,"go-c",null,null]]',))
    run.feed(first, (b'[[null,"go-a",null,null],[null,"go-b",null,null]]',))
    run.signal("go-b", "B")
    run.signal("go-c", "C")
    assert not is_idle(run.run)
    run.feed(first, (b'[[null,"go-a",null,null],[null,"go-b",null,null]]',))
    run.feed(second, (b'[[null,"go-c",null,null]]',))
    assert is_idle(run.run)
    run.signal("go-a", "A")
    assert run.results == {"w": ["A", "B", "C"]}


def test_members_that_wait_for_the_same_are_only_counted() -> None:
    reference = {"$anabranch": "s/list", "count": 3, "bytes": 900, "run_id": "other"}
    needs = [m.Need(key="list", kind="external")]
    run = WaitingRun(waits(**{"for": 60}, expansion=each_of("list"), needs=needs))
    turn = run.feed(m.ValueFound(run_id="r", key="list", value=reference, is_reference=True))
    assert CountArrays("r", "g", "w") in turn.effects
    run.feed(m.ArrayCounted(run_id="r", group="g", task="w", count=3))
    run.pass_time(1_060.0)
    assert run.results == {"w": [None] * 3}


def test_an_expansion_without_members_waits_for_nothing() -> None:
    assert WaitingRun(waits(signal="go", expansion=each_of([]))).results == {"w": []}


def test_10_000_open_waits_are_ended_one_by_one_and_by_time() -> None:
    run = WaitingRun(waits(signal="go-{item}", timeout=60, expansion=each_of(list(range(10_000)))))
    for number in range(0, 10_000, 2):
        run.signal(f"go-{9_999 - number}", number)
    assert run.task().ended == 5_000
    run.pass_time(1_060.0)
    assert run.finished is not None
    assert run.finished.counts == m.Counts(total=10_000, completed=5_000, failed=5_000)


# --- retries -------------------------------------------------------------------------------------


def test_a_retry_takes_over_ended_waits() -> None:
    order = waits(signal="go-{item}", expansion=each_of(["a", "b"]))
    run = WaitingRun(order, retry_of="before")
    taken = m.MembersTaken(run_id="r", group="g", task="w", total=2, completed=((1, 2),), items=(1,))
    run.feed(taken, (b'["B"]',))
    run.feed(m.RunTaken(run_id="r"))
    assert run.events("task.waiting") == [{"reason": "signal", "name": "go-a", "spans": ((0, 1),)}]
    run.signal("go-a", "A")
    assert run.results == {"w": ["A", "B"]}
    assert run.finished is not None
    assert run.finished.taken_over == 1
