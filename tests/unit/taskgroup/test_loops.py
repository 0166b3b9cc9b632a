"""Loops, as the session's owner decides them: iterations, conditions, states, limits, and what is known after."""

from __future__ import annotations

from typing import Any

import pytest
from flow_runs import NAMES, RULES, FlowRun, compare, order

from anabranch.core.request.flow import Loop, Switch
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.pending import waits_of
from anabranch_taskgroup.session.snapshots import decode_run, encode_run, snapshot_of
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.timers import TimerKind
from anabranch_taskgroup.session.turn import OfferChunk

NOT_DONE = {"not": compare("draft.done", "equals", True)}


def loop(name: str = "L", *needs: str, keys: tuple[str, ...] = ("draft", "g.loop"), **spec: Any) -> m.TaskOrder:
    """A loop with these fields; it ends after `max_iterations` unless it is told otherwise."""
    fields = {"in_loop": spec.pop("in_loop", None), "announces": spec.pop("announces", False)}
    return order(name, *needs, kind="loop", result_keys=keys, loop=Loop(**spec), **fields)


def body(name: str, *needs: str, of: str = "L", **fields: Any) -> m.TaskOrder:
    return order(name, *needs, in_loop=of, **fields)


def result(run: FlowRun) -> dict[str, Any]:
    return dict(run.finished["g"].results)


def kinds(run: FlowRun, name: str) -> list[str]:
    return [event["type"] for event in run.events if event["task"] == name]


UNTIL = {"until": compare("draft.done", "equals", True)}


# --- one iteration after the other -------------------------------------------------------------------


def test_an_iteration_starts_once_and_only_after_the_one_before_has_ended() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft"), body("check", "draft")]})
    assert run.offered == ["draft"]

    run.complete("draft", {"done": False})
    assert run.offered == ["draft", "check"]
    run.complete("check")
    assert run.offered == ["draft", "check", "draft"]
    assert run.task("draft").iteration == (1,)
    run.complete("draft", {"done": True})
    run.complete("check")

    started = [event["iteration"] for event in run.events if event["type"] == "iteration.started"]
    assert started == [(0,), (1,)]
    assert result(run) == {"draft": {"done": True}, "g.loop": {"iterations": 2, "ended_by": "condition"}}
    assert run.finished["g"].status == "completed"
    assert run.finished["g"].counts == m.Counts(total=4, completed=4)


def test_while_is_evaluated_before_each_iteration_and_sees_the_keys_of_the_last_one() -> None:
    condition = {"any": [compare("draft", "not_exists"), compare("draft.left", "greater_than", 0)]}
    run = FlowRun({"g": [loop(**{"while": condition}), body("draft")]})

    for left in (2, 1, 0):
        run.complete("draft", {"left": left})

    assert result(run)["g.loop"] == {"iterations": 3, "ended_by": "condition"}


def test_a_loop_whose_while_is_false_at_first_completes_without_an_iteration() -> None:
    run = FlowRun(
        {"g": [loop(**{"while": compare("iteration", "less_than", 0)}), body("draft"), order("next", "draft")]}
    )

    assert run.offered == []
    assert result(run) == {"g.loop": {"iterations": 0, "ended_by": "condition"}}
    assert run.finished["g"].status == "completed"
    assert [(each.task, each.reason) for each in run.finished["g"].skipped] == [
        ("draft", "condition"),
        ("next", "dependency"),
    ]


def test_each_goes_through_a_list_of_the_request_or_of_a_key() -> None:
    run = FlowRun({"g": [order("files"), loop("L", "files", each="files.names"), body("draft")]})

    run.complete("files", {"names": ["a", "b"]})
    for item in ("a", "b"):
        assert run.task("L").loop.item.data == item
        run.complete("draft", item.upper())

    assert result(run)["draft"] == "B"
    assert result(run)["g.loop"] == {"iterations": 2, "ended_by": "items"}


def test_each_over_something_that_is_no_list_fails_the_loop() -> None:
    run = FlowRun({"g": [order("files"), loop("L", "files", each="files"), body("draft")]})

    run.complete("files", {"names": 1})

    assert run.finished["g"].status == "failed"
    assert run.finished["g"].failures[0].error_type == "ExpansionError"


def test_an_empty_list_gives_no_iteration_and_an_empty_list() -> None:
    run = FlowRun({"g": [loop(each=[], collect="append"), body("draft")]})

    assert result(run) == {"draft": [], "g.loop": {"iterations": 0, "ended_by": "items"}}


# --- limits ----------------------------------------------------------------------------------------


def test_a_loop_at_its_bound_fails_with_loop_exhausted() -> None:
    run = FlowRun({"g": [loop(max_iterations=2, **UNTIL), body("draft"), order("next", "draft")]})

    run.complete("draft", {"done": False})
    run.complete("draft", {"done": False})

    assert run.offered == ["draft", "draft"]
    finished = run.finished["g"]
    assert (finished.status, [each.error_type for each in finished.failures]) == ("failed", ["LoopExhausted"])
    assert "its 2 iterations" in finished.failures[0].message


def test_a_loop_at_its_bound_completes_if_it_says_so() -> None:
    run = FlowRun({"g": [loop(max_iterations=2, on_limit="complete", **UNTIL), body("draft")]})

    run.complete("draft", {"done": False})
    run.complete("draft", {"done": False, "n": 1})

    assert result(run) == {"draft": {"done": False, "n": 1}, "g.loop": {"iterations": 2, "ended_by": "limit"}}


def test_the_last_iteration_that_a_bound_allows_may_end_the_loop() -> None:
    run = FlowRun({"g": [loop(max_iterations=1, **UNTIL), body("draft")]})

    run.complete("draft", {"done": True})

    assert result(run)["g.loop"] == {"iterations": 1, "ended_by": "condition"}


def test_max_duration_cancels_the_running_iteration() -> None:
    run = FlowRun({"g": [loop(max_duration=10, on_limit="complete", **UNTIL), body("draft")]})
    run.complete("draft", {"done": False, "n": 0})

    run.feed(m.TimerDue(run_id="r", at=100.0))
    assert run.finished == {}  # the record is not that late
    while not run.finished:
        run.feed(m.TimerDue(run_id="r", at=100.0))

    assert result(run) == {"draft": {"done": False, "n": 0}, "g.loop": {"iterations": 1, "ended_by": "duration"}}
    assert run.finished["g"].status == "completed"


def test_a_delay_holds_no_slot_and_ends_by_a_timer() -> None:
    run = FlowRun({"g": [loop(delay=3, **UNTIL), body("draft")]})

    run.complete("draft", {"done": False})
    assert run.offered == ["draft"]
    [wait] = waits_of(run.run, NAMES)
    assert wait.missing.fact == "waits_for_iteration"
    assert wait.missing.detail == "iteration 1 of at most 100 of g/L starts after the delay between iterations"
    for _ in range(3):
        run.feed(m.TimerDue(run_id="r", at=100.0))

    assert run.offered == ["draft", "draft"]


# --- failures --------------------------------------------------------------------------------------


def test_a_failed_task_fails_the_loop_once_the_iteration_has_ended() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft"), body("other")]})

    run.fail("draft")
    assert run.finished == {}
    run.complete("other")

    finished = run.finished["g"]
    assert (finished.status, [(each.task, each.iteration) for each in finished.failures]) == (
        "failed",
        [("draft", (0,))],
    )


def test_on_failure_continue_goes_on_and_the_run_completes() -> None:
    run = FlowRun({"g": [loop(on_failure="continue", collect="append", **UNTIL), body("draft")]})

    run.fail("draft")
    assert run.offered == ["draft", "draft"]
    run.complete("draft", {"done": True})

    assert result(run)["draft"] == [None, {"done": True}]
    assert (run.finished["g"].status, run.finished["g"].failures) == ("completed", ())
    assert run.finished["g"].counts == m.Counts(total=2, completed=1, failed=1)


def test_a_loop_that_goes_on_and_reaches_its_bound_has_one_failure() -> None:
    """The failure of its last iteration is a dead letter, as those of the others are."""
    run = FlowRun({"g": [loop(on_failure="continue", max_iterations=2, **UNTIL), body("draft")]})

    run.fail("draft")
    run.fail("draft")

    finished = run.finished["g"]
    assert (finished.status, [each.error_type for each in finished.failures]) == ("failed", ["LoopExhausted"])
    assert finished.counts == m.Counts(total=2, failed=2)


def test_a_condition_that_cannot_be_evaluated_fails_the_loop() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft")]})

    run.complete("draft", {"other": 1})

    [failure] = run.finished["g"].failures
    assert failure.error_type == "ConditionError"
    assert failure.message.startswith("`until` after iteration 0: ")


# --- states ----------------------------------------------------------------------------------------


def test_a_state_is_written_by_its_name_and_counts_from_the_next_iteration_on() -> None:
    spec = {"state": {"total": 1}, "until": compare("state.total", "greater_than", 2)}
    run = FlowRun({"g": [loop("L", keys=("total", "g.loop"), **spec), body("draft", result_keys=("total",))]})
    assert run.task("L").loop.state["total"].data == 1

    run.complete("draft", 2)
    assert run.task("L").loop.state["total"].data == 2
    run.complete("draft", 3)

    assert result(run) == {"total": 3, "g.loop": {"iterations": 2, "ended_by": "condition"}}


def test_a_state_that_no_iteration_wrote_keeps_its_value() -> None:
    spec = {"state": {"total": 1}, "each": [1, 2], "on_failure": "continue"}
    run = FlowRun({"g": [loop("L", keys=("total",), **spec), body("draft", result_keys=("total",))]})

    run.fail("draft")
    run.fail("draft")

    assert result(run) == {"total": 1}


# --- stale messages, replays, snapshots --------------------------------------------------------------


def test_a_report_of_an_earlier_iteration_changes_nothing() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft")]})
    old = run.task("draft")
    chunk = next(iter(old.chunks.values()))
    about = {
        "run_id": "r",
        "group": "g",
        "task": "draft",
        "worker": "w",
        "chunk": chunk.number,
        "fence": chunk.fence,
    }
    run.complete("draft", {"done": False})
    assert next(iter(run.task("draft").chunks.values())).number > chunk.number
    before = encode_run(run.run)

    run.feed(m.MembersReported(**about, completed=((0, 1),), items=(1,)), b'[{"done": true}]')
    run.feed(m.MembersReported(**about, failed=(m.MemberFailed(index=0, error_type="E", message="", attempts=1),)))
    run.feed(m.ChunkLost(**about))

    assert encode_run(run.run) == before


def nested() -> FlowRun:
    outer = loop("O", keys=("draft", "O.loop"), each=["x", "y"], collect="append")
    inner = loop("L", "go", keys=("draft", "L.loop"), each=[1, 2], in_loop="O")
    return FlowRun({"g": [outer, body("go", of="O"), inner, body("draft", "go")]})


@pytest.mark.parametrize("after", range(1, 9))
def test_a_snapshot_restores_the_state_of_loops(after: int) -> None:
    run = nested()
    for step in [("go", 1), ("draft", 1), ("draft", 2), ("go", 2), ("draft", 3), ("draft", 4)][:after]:
        run.complete(*step)
    if run.finished:
        return
    snapshot, payload = snapshot_of(run.partition, run.run)

    restored = decode_run(snapshot, payload)

    assert encode_run(restored) == payload
    assert restored == run.run


def test_a_replay_makes_the_same_decisions() -> None:
    run = nested()
    for step in [("go", 1), ("draft", 1), ("draft", 2), ("go", 2), ("draft", 3), ("draft", 4)]:
        run.complete(*step)

    again = PartitionState(0)
    effects = [effect for each in run.log for effect in decide(RULES, again, each).effects]

    assert [each for each in effects if isinstance(each, OfferChunk)] == [
        each for each in run.effects if isinstance(each, OfferChunk)
    ]


def test_state_does_not_grow_with_iterations() -> None:
    spec = {"state": {"total": 100_000_000}, "each": [1] * 1_001, "max_iterations": 2_000}
    run = FlowRun({"g": [loop("L", keys=("total", "g.loop"), **spec), body("draft", result_keys=("total",))]})
    sizes = {}
    for number in range(1_000):
        run.complete("draft", 100_000_000 + number)
        sizes[number] = sum(map(len, snapshot_of(run.partition, run.run)[1]))

    assert abs(sizes[999] - sizes[10]) < 100
    assert len(run.run.values) == 0
    assert len(run.task("draft").chunks) == 1


# --- nested loops ------------------------------------------------------------------------------------


def test_nested_loops_run_the_inner_one_in_each_iteration_of_the_outer_one() -> None:
    run = nested()
    seen = []
    for step in [("go", 1), ("draft", 1), ("draft", 2), ("go", 2), ("draft", 3), ("draft", 4)]:
        seen.append(run.task(step[0]).iteration)
        run.complete(*step)

    assert seen == [(0,), (0, 0), (0, 1), (1,), (1, 0), (1, 1)]
    assert result(run) == {"draft": [2, 4], "O.loop": {"iterations": 2, "ended_by": "items"}}
    assert run.finished["g"].counts == m.Counts(total=6, completed=6)


def test_a_switch_in_a_loop_chooses_again_in_each_iteration() -> None:
    choice = m.BranchOrder(key="{g/S}", case=0)
    other = m.BranchOrder(key="{g/S}", case=1)
    cases = Switch(cases=(compare("iteration", "equals", 0),), has_default=True)
    run = FlowRun(
        {
            "g": [
                loop("L", keys=("draft", "g.loop"), each=[1, 2]),
                order("S", kind="switch", switch=cases, result_keys=(), announces=True, in_loop="L"),
                body("one", "{g/S}", branch=choice, result_keys=("draft",)),
                body("two", "{g/S}", branch=other, result_keys=("draft",)),
            ]
        }
    )

    assert run.offered == ["one"]
    run.complete("one", "first")
    assert run.offered == ["one", "two"]
    run.complete("two", "second")

    assert result(run)["draft"] == "second"


def test_a_body_without_members_goes_on_in_turns_of_its_own() -> None:
    cases = Switch(cases=(True,))
    run = FlowRun(
        {
            "g": [
                loop("L", keys=("g.loop",), each=list(range(120)), max_iterations=200),
                order("S", kind="switch", switch=cases, result_keys=(), in_loop="L"),
            ]
        }
    )
    turns = 0
    while not run.finished:
        assert run.run.timers.due_at((TimerKind.ITERATION, "g", "L")) is not None
        run.feed(m.TimerDue(run_id="r", at=1e8))
        turns += 1

    assert turns == 2
    assert result(run)["g.loop"] == {"iterations": 120, "ended_by": "items"}


# --- pause, cancel, timeout ----------------------------------------------------------------------------


def test_a_paused_loop_starts_its_next_iteration_with_the_resume() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft")]})
    run.feed(m.PauseRun(run_id="r", paused=True, cause=1))

    run.complete("draft", {"done": False})
    run.feed(m.Nudge(run_id="r", silent_for=1.0))
    assert run.offered == ["draft"]
    [wait] = waits_of(run.run, NAMES)
    assert wait.missing.fact == "paused"
    run.feed(m.PauseRun(run_id="r", paused=False, cause=2))

    assert run.offered == ["draft", "draft"]


def test_a_cancel_in_a_paused_loop_ends_the_run_at_once() -> None:
    run = FlowRun({"g": [loop(delay=60, **UNTIL), body("draft"), body("check", "draft")]})
    run.feed(m.PauseRun(run_id="r", paused=True, cause=1))
    run.complete("draft", {"done": False})

    run.feed(m.StopRun(run_id="r", reason="cancelled"))

    assert run.finished["g"].status == "cancelled"
    assert run.partition.runs == {}


def test_a_cancel_in_the_delay_ends_the_run_at_once() -> None:
    run = FlowRun({"g": [loop(delay=60, **UNTIL), body("draft")]})
    run.complete("draft", {"done": False})

    run.feed(m.StopRun(run_id="r", reason="cancelled"))

    assert run.finished["g"].status == "cancelled"


def test_the_timeout_of_the_group_ends_a_loop() -> None:
    run = FlowRun({"g": [loop(**UNTIL), body("draft")]}, {"timeout": 3.0})

    while not run.finished:
        run.feed(m.TimerDue(run_id="r", at=1e8))

    assert run.finished["g"].status == "timed_out"


def test_a_skipped_loop_skips_its_tasks_for_the_same_reason() -> None:
    run = FlowRun({"g": [order("first"), loop("L", "first", **UNTIL), body("draft")]})

    run.fail("first")

    skipped = [(each.task, each.reason) for each in run.finished["g"].skipped]
    assert skipped == [("draft", "dependency")]
    assert kinds(run, "draft") == ["task.skipped"]


def test_a_loop_waits_for_the_parts_of_its_group_that_have_its_tasks() -> None:
    run = FlowRun({})
    run = FlowRun({"g": []}, {"parts": 3})
    run.feed(m.StartGroup(run_id="r", group="g", part=1, parts=3, tasks=(loop(**UNTIL),)))
    assert run.task("L").state is TaskState.READY

    run.feed(m.StartGroup(run_id="r", group="g", part=2, parts=3, tasks=(body("draft"),)))

    assert run.offered == ["draft"]
