"""The run's owner: one admission, one join, one answer to repetitions, a final record within the limit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.names import Names
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import (
    ControlRun,
    Counts,
    Failure,
    GroupFinished,
    GroupResults,
    Message,
    OpenRun,
    PauseRun,
    StartGroup,
    StopRun,
    SubmitRun,
    TimerDue,
)
from anabranch.core.wire.results import is_reference, reference_document
from anabranch.core.wire.run_record import RunRecord
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch_agency.run.actor import decide
from anabranch_agency.run.final import fit_results
from anabranch_agency.run.state import (
    SPARE_DEADLINES,
    STOP_SECONDS,
    TOMBSTONE_BYTES,
    PartitionState,
    Run,
)
from anabranch_agency.run.turn import DeadLetterOriginal, DecisionConfig, Turn

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)
LIMIT = 1_000_000


class Owner:
    """A run's owner with its log: each message at the next offset, a second later."""

    def __init__(self) -> None:
        self.partition = PartitionState(0)
        self.log: list[Message] = []
        self.turns: list[Turn] = []

    def receive(self, message: Message) -> Turn:
        self.log.append(message)
        at = message.at if isinstance(message, TimerDue) else float(len(self.log))
        turn = decide(RULES, self.partition, message, len(self.log) - 1, at)
        self.turns.append(turn)
        return turn

    @property
    def finals(self) -> list[tuple[str, Any]]:
        found = itertools.chain.from_iterable(announced(turn) for turn in self.turns)
        return [(kind, body) for kind, body in found if kind not in ("run.accepted", "run.rejected")]


def announced(turn: Turn) -> list[tuple[str, Any]]:
    """Type and body of the records that a turn publishes on the results topic."""
    published = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
    on_results = [each for each in published if each.topic == NAMES.results]
    return [(each.headers["ce_type"].decode(), orjson.loads(each.value)) for each in on_results]


def to_groups(turn: Turn) -> list[Message]:
    published = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
    return [GROUPS.decode(each.value).message for each in published if each.topic == NAMES.groups]


def submit(*groups: str, body: str = "x", **more: Any) -> SubmitRun:
    request = {
        "task_groups": [
            {
                "name": group,
                "tasks": [{"name": "t", "agent": "echo", "inputs": body, "result_keys": [f"{group}.k"]}],
            }
            for group in groups
        ],
        **more,
    }
    return SubmitRun(
        run_id="r",
        request_id="q",
        session_id="s",
        body_hash=body_hash(request),
        request=request,
        origin="t.requests/0/5",
    )


def finished(group: str, status: Any = "completed", results: Any = None, **more: Any) -> GroupFinished:
    counts = Counts(total=1, completed=1)
    return GroupFinished(run_id="r", group=group, status=status, results=results or {}, counts=counts, **more)


def test_a_submitted_run_is_accepted_and_its_groups_are_started() -> None:
    turn = Owner().receive(submit("a", "b"))

    assert [kind for kind, _ in announced(turn)] == ["run.accepted"]
    opened, *starts = to_groups(turn)
    assert isinstance(opened, OpenRun)
    assert opened.groups == ("a", "b")
    assert [start.group for start in starts if isinstance(start, StartGroup)] == ["a", "b"]


def test_the_tombstone_is_stored_before_anything_is_published() -> None:
    turn = Owner().receive(submit("a"))

    kinds = [type(effect) for effect in turn.effects]
    assert kinds.index(StorePut) < kinds.index(PublishAfter)


@given(st.permutations(["a", "b", "c"]), st.lists(st.integers(0, 5), max_size=8), st.booleans())
def test_a_run_ends_once_with_its_last_group_whatever_is_repeated(
    order: list[str], repeats: list[int], submitted_again: bool
) -> None:
    owner = Owner()
    owner.receive(submit("a", "b", "c"))
    for number, group in enumerate(order):
        assert owner.finals == []
        owner.receive(finished(group, results={f"{group}.k": number}))
        for repeat in repeats:
            if repeat <= number:
                owner.receive(finished(order[repeat], status="failed"))
        if submitted_again:
            owner.receive(submit("a", "b", "c"))

    [first, *again] = owner.finals
    assert first[0] == "run.completed"
    assert first[1]["results"] == {f"{group}.k": number for number, group in enumerate(order)}
    assert first[1]["executions"] == {"total": 3, "completed": 3, "failed": 0, "skipped": 0}
    assert all(each == first for each in again)
    assert owner.partition.runs == {}


def test_a_repeated_request_gets_the_same_answer_and_starts_nothing() -> None:
    owner = Owner()
    first = owner.receive(submit("a"))
    early = owner.receive(submit("a"))
    owner.receive(finished("a"))
    late = owner.receive(submit("a"))

    assert announced(early) == announced(first)
    assert announced(late) == [*announced(first), *owner.finals[:1]]
    assert to_groups(early) == to_groups(late) == []


def test_a_run_of_which_only_the_end_is_known_is_not_run_again() -> None:
    """A tombstone that was rebuilt from the results topic has no hash: any body with its id counts as the same."""
    first = Owner()
    first.receive(submit("a"))
    first.receive(finished("a"))
    [known] = first.partition.tombstones.values()
    owner = Owner()
    owner.partition.remember(submit("a").run_id, replace(known, body_hash=None, offset=-1))

    turn = owner.receive(submit("a", body="y"))

    assert announced(turn) == [*announced(first.turns[0]), *first.finals]
    assert to_groups(turn) == []


def test_another_body_under_the_same_id_is_refused_and_dead_lettered() -> None:
    owner = Owner()
    owner.receive(submit("a"))
    during = owner.receive(submit("a", body="y"))
    owner.receive(finished("a"))
    after = owner.receive(submit("a", body="y"))

    for turn in (during, after):
        [(kind, body)] = announced(turn)
        assert (kind, [error["code"] for error in body["errors"]]) == ("run.rejected", ["request_id_conflict"])
        assert [effect.origin for effect in turn.effects if isinstance(effect, DeadLetterOriginal)] == [
            "t.requests/0/5"
        ]
        assert to_groups(turn) == []
    assert [kind for kind, _ in owner.finals] == ["run.completed"]


def test_a_cancel_stops_the_groups_once_and_names_the_end() -> None:
    owner = Owner()
    owner.receive(submit("a", "b"))
    first, second = (
        owner.receive(ControlRun(run_id="r", action="cancel")),
        owner.receive(ControlRun(run_id="r", action="cancel")),
    )
    owner.receive(finished("a", results={"a.k": 1}))
    owner.receive(finished("b", "cancelled"))

    assert to_groups(first) == [StopRun(run_id="r", reason="cancelled", admission=1)]
    assert to_groups(second) == []
    [(kind, body)] = owner.finals
    assert (kind, body["status"], body["results"]) == ("run.cancelled", "cancelled", {"a.k": 1})


def test_a_cancel_that_stopped_nothing_leaves_a_completed_run() -> None:
    owner = Owner()
    owner.receive(submit("a"))
    owner.receive(ControlRun(run_id="r", action="cancel"))
    owner.receive(finished("a"))

    assert [kind for kind, _ in owner.finals] == ["run.completed"]


def test_a_cancel_that_overtakes_its_request_is_obeyed() -> None:
    owner = Owner()
    owner.receive(ControlRun(run_id="r", action="cancel"))
    turn = owner.receive(submit("a"))

    assert to_groups(turn)[-1] == StopRun(run_id="r", reason="cancelled", admission=2)


def test_a_cancel_after_the_end_changes_nothing() -> None:
    owner = Owner()
    owner.receive(submit("a"))
    owner.receive(finished("a"))

    assert owner.receive(ControlRun(run_id="r", action="cancel")).effects == []
    assert [kind for kind, _ in announced(owner.receive(submit("a")))] == ["run.accepted", "run.completed"]


def pauses(turn: Turn) -> list[bool]:
    return [message.paused for message in to_groups(turn) if isinstance(message, PauseRun)]


def test_pause_and_resume_are_passed_on() -> None:
    owner = Owner()
    owner.receive(submit("a"))

    assert pauses(owner.receive(ControlRun(run_id="r", action="pause"))) == [True]
    assert pauses(owner.receive(ControlRun(run_id="r", action="resume"))) == [False]


def test_a_pause_that_is_repeated_after_the_resume_changes_nothing() -> None:
    """A stalled reader of requests repeats the pause, after another reader forwarded the pause and the resume."""
    owner = Owner()
    owner.receive(submit("a"))
    pause = ControlRun(run_id="r", action="pause", origin="requests/3/7")
    owner.receive(pause)
    owner.receive(ControlRun(run_id="r", action="resume", origin="requests/3/8"))

    assert owner.receive(pause).effects == []
    assert owner.partition.runs["r"].paused is False
    assert pauses(owner.receive(pause.model_copy(update={"origin": "requests/4/2"}))) == [True], "another one"


def test_a_pause_that_is_repeated_before_the_run_is_submitted_changes_nothing() -> None:
    owner = Owner()
    for action, origin in (("pause", "requests/3/7"), ("resume", "requests/3/8"), ("pause", "requests/3/7")):
        owner.receive(ControlRun(run_id="r", action=action, origin=origin))  # type: ignore[arg-type]
    owner.receive(submit("a"))

    assert owner.partition.runs["r"].paused is False


def test_the_deadline_stops_a_run_and_only_once_it_is_due() -> None:
    owner = Owner()
    owner.receive(submit("a", timeout=60))
    assert owner.partition.next_deadline() == 61.0

    assert to_groups(owner.receive(TimerDue(run_id="r", at=60.9))) == []
    stop = StopRun(run_id="r", reason="timed_out", admission=1)
    assert to_groups(owner.receive(TimerDue(run_id="r", at=61.0))) == [stop]
    assert owner.partition.next_deadline() == 61.0 + STOP_SECONDS
    owner.receive(finished("a", "timed_out"))
    assert [kind for kind, _ in owner.finals] == ["run.timed_out"]


@pytest.mark.parametrize(
    ("status", "final"), [("failed", "failed"), ("timed_out", "failed"), ("cancelled", "cancelled")]
)
def test_a_group_that_ended_badly_by_itself_ends_the_run_so(status: str, final: str) -> None:
    owner = Owner()
    owner.receive(submit("a", "b"))
    owner.receive(finished("a", status))
    owner.receive(finished("b"))

    assert [kind for kind, _ in owner.finals] == [f"run.{final}"]


def test_results_in_parts_are_put_together() -> None:
    owner = Owner()
    owner.receive(submit("a"))
    for part in (0, 1, 0):
        owner.receive(GroupResults(run_id="r", group="a", part=part, results={f"k{part}": part}))
    owner.receive(finished("a", results={"k2": 2}, parts=2))

    assert owner.finals[0][1]["results"] == {"k0": 0, "k1": 1, "k2": 2}


def test_a_refused_plan_starts_nothing() -> None:
    document = submit("a").request
    document["task_groups"][0]["tasks"][0]["dependencies"] = ["nobody"]
    owner = Owner()
    turn = owner.receive(submit("a").model_copy(update={"request": document}))

    assert [kind for kind, _ in announced(turn)] == ["run.rejected"]
    assert (to_groups(turn), owner.partition.runs) == ([], {})


def test_replaying_the_log_gives_the_same_runs_and_the_same_messages() -> None:
    owner = Owner()
    messages = [
        submit("a", "b"),
        finished("a"),
        ControlRun(run_id="r", action="cancel"),
        finished("b", "cancelled"),
    ]
    for message in messages:
        owner.receive(message)
    again = Owner()
    for message in messages:
        again.receive(message)

    assert [turn.effects for turn in again.turns] == [turn.effects for turn in owner.turns]
    assert again.partition.runs == owner.partition.runs


def run_with(results: dict[str, Any]) -> Run:
    tombstone = RunRecord("h", 0, "s", "q", {}, 0.0)
    return Run("r", tombstone, 1.0, None, {}, set(), (), results=results)


@given(st.dictionaries(st.text(min_size=1, max_size=255), st.integers(0, 90_000), max_size=30))
@settings(deadline=None)
def test_a_final_record_holds_any_results(sizes: dict[str, int]) -> None:
    results = {key: "x" * size for key, size in sizes.items()}

    fitted, asides = fit_results(NAMES, run_with(results))

    assert len(orjson.dumps(fitted)) < 700_000
    by_name = {aside.key: orjson.loads(aside.value)["value"] for aside in asides}
    assert _resolved(fitted, sizes, by_name) == results


def _resolved(fitted: dict[str, Any], keys: Sequence[str] | dict[str, Any], by_name: dict[str, Any]) -> Any:
    if is_reference(fitted, "s"):
        fitted = by_name[NAMES.value_manifest("s", "r", "r.results")]
    return {
        key: by_name[NAMES.value_manifest("s", "r", key)] if isinstance(value, dict) else value
        for key, value in fitted.items()
    }


@pytest.mark.parametrize("value", ["s/k", 5], ids=str)
def test_results_with_the_keys_of_a_reference_become_a_reference(value: Any) -> None:
    """Also if their values are not those of a reference: readers of the record need not check the values."""
    results = {"$anabranch": value, "count": 1, "bytes": 2}

    fitted, [aside] = fit_results(NAMES, run_with(results))

    assert (is_reference(fitted, "s"), fitted["run_id"]) == (True, "r")
    assert (aside.key, orjson.loads(aside.value)["value"]) == (
        NAMES.value_manifest("s", "r", "r.results"),
        results,
    )


def test_a_reference_is_never_stored_in_place_of_what_it_refers_to() -> None:
    """A reference with a long key is as long as a small value."""
    key = "ä" * 250
    reference = reference_document("s", key, "r", 1, 70_000)

    fitted, asides = fit_results(NAMES, run_with({key: reference, "x": "x" * 600}), limit=1_500)

    assert fitted[key] == reference
    assert [aside.key for aside in asides] == [NAMES.value_manifest("s", "r", "x")]


def test_a_great_many_results_become_one_reference() -> None:
    results = {f"{'ä' * 200}{n}": n for n in range(4_000)}

    fitted, [aside] = fit_results(NAMES, run_with(results))

    assert (fitted["count"], orjson.loads(aside.value)["value"]) == (4_000, results)


def test_long_keys_count_by_their_bytes() -> None:
    results = {f"{'長' * 240}{n}": n for n in range(2_300)}

    fitted, _ = fit_results(NAMES, run_with(results))

    assert len(orjson.dumps(fitted)) < LIMIT


def test_a_final_record_fits_with_long_labels_many_failures_and_results() -> None:
    owner = Owner()
    owner.receive(submit("a", labels={f"l{n}": "x" * 1_000 for n in range(500)}))
    failures = tuple(
        Failure(group="a", task="t", index=n, error_type="E", message="m" * 2_000, attempts=1) for n in range(120)
    )
    turn = owner.receive(
        finished("a", "failed", {f"k{n}": "x" * 60_000 for n in range(8)}, failures=failures, failure_count=500)
    )

    [record] = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
    assert len(record.value) < LIMIT
    assert owner.finals[0][1]["failure_count"] == 500


def test_tombstones_in_memory_are_bounded_by_their_size_between_batches() -> None:
    partition = PartitionState(0)
    big = RunRecord("h", 0, "s", "q", {}, 0.0, final={"results": {"out": "x" * (TOMBSTONE_BYTES * 2 // 5)}})
    for number in range(5):
        partition.remember(f"run-{number}", big)
    partition.remember("run-0", big)

    assert len(partition.tombstones) == 5, "within a batch nothing is forgotten"
    partition.trim()
    assert list(partition.tombstones) == ["run-4", "run-0"]
    partition.trim()
    assert partition.cached_bytes == sum(partition.sizes.values()) <= TOMBSTONE_BYTES


def test_deadlines_of_ended_runs_do_not_accumulate_behind_one_that_is_open_for_long() -> None:
    owner = Owner()
    owner.receive(submit("a").model_copy(update={"run_id": "long"}))
    for number in range(1_000):
        run = {"run_id": f"r{number}"}
        owner.receive(submit("a").model_copy(update=run))
        owner.receive(finished("a").model_copy(update=run))

    partition = owner.partition
    assert list(partition.runs) == ["long"]
    assert len(partition.deadlines) <= SPARE_DEADLINES + 4
    assert partition.next_deadline() == partition.runs["long"].deadline
