"""The trace of a whole run, span by span: parents, links, times, statuses; what is sampled; what comes again."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace.status import StatusCode
from small_requests import array, request, task
from trace_tools import (
    PRODUCER,
    PRODUCER_SPAN,
    TRACE_ID,
    Traced,
    attributes_of,
    check_tree,
    content_of,
    id_of,
    links_of,
    parent_of,
)

from anabranch import GiveUp, Task
from anabranch.core import telemetry as names
from anabranch.core.tracing import FAILURES, MEMBERS
from anabranch.testing import System, SystemRun, system

Start = Callable[..., System]


def submit(s: System, document: dict[str, Any], traceparent: str | None = PRODUCER) -> SystemRun:
    return SystemRun(s, s.wait(s.embedded.client.submit(document, traceparent=traceparent)))


async def slow(task: Task) -> int:
    await asyncio.sleep(1)
    return 1


async def moody(task: Task) -> int:
    await asyncio.sleep(0.5)
    if task.index == 1 and task.attempt == 1:
        raise ValueError("not yet")
    if task.index == 2:
        raise GiveUp("never")
    return task.attempt


DIAMOND = request(
    task("first", "slow", expansion_config=array([1, 2, 3])),
    task(
        "moody",
        "moody",
        expansion_config=array("first"),
        tolerated_failures=1,
        retry={"strategy": "fixed", "max_attempts": 2, "delay": "200ms"},
    ),
    task("last", "echo", inputs={"all": "{moody}", "both": "{first}"}, dependencies=["moody", "first"]),
    name="nightly",
)


# --- a whole run ---------------------------------------------------------------------------------


def test_the_trace_of_a_run_span_by_span(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(agents={"slow": slow, "moody": moody}, telemetry=traced.telemetry)

    run = submit(s, DIAMOND)
    result = run.result(60)
    s.advance(1)

    assert result.status == "completed"
    spans = traced.spans
    check_tree(spans, PRODUCER_SPAN)
    assert {span.context.trace_id for span in spans if span.context} == {TRACE_ID}
    assert sorted(span.name for span in spans) == [
        "group g",
        "member first_1",
        "member first_2",
        "member first_3",
        "member last",
        "member moody_1",
        "member moody_2",
        "member moody_2",
        "member moody_3",
        "run nightly",
        "task first",
        "task last",
        "task moody",
    ]
    root, group = traced.one("run nightly"), traced.one("group g")
    first, mood, last = (traced.one(f"task {name}") for name in ("first", "moody", "last"))
    assert parent_of(root) == PRODUCER_SPAN
    assert parent_of(group) == id_of(root)
    assert {parent_of(each) for each in (first, mood, last)} == {id_of(group)}
    for above in (first, mood, last):
        below = traced.named(above.name.replace("task", "member"))
        assert {parent_of(span) for span in below} == {id_of(above)}
    assert {span.status.status_code for span in (root, group, first, mood, last)} == {StatusCode.UNSET}
    assert attributes_of(root) | {
        names.RUN_ID: run.run_id,
        names.STATUS: "completed",
        names.RUN_NAME: "nightly",
        names.MEMBERS: 7,
        names.COMPLETED: 6,
        names.FAILED: 1,
        "messaging.system": "kafka",
        "messaging.destination.name": "anabranch.requests",
    } == attributes_of(root)
    assert first.start_time is not None
    assert first.end_time is not None
    assert (first.end_time - first.start_time) / 1e9 == pytest.approx(1.0, abs=0.3)


def test_links_lead_from_a_task_to_what_it_used_and_to_its_members(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(agents={"slow": slow, "moody": moody}, telemetry=traced.telemetry)

    submit(s, DIAMOND).result(60)
    s.advance(1)

    first, mood, last = (traced.one(f"task {name}") for name in ("first", "moody", "last"))
    final_attempts = {
        id_of(span) for span in traced.named("member moody") if attributes_of(span)[names.STATUS] != "retried"
    }
    assert links_of(first) == {id_of(span) for span in traced.named("member first")}
    assert links_of(mood) == {id_of(first)} | final_attempts
    assert links_of(last) == {id_of(mood), id_of(first), id_of(traced.one("member last"))}


def test_attempts_have_spans_of_their_own_and_failed_ones_say_why(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(agents={"slow": slow, "moody": moody}, telemetry=traced.telemetry)

    submit(s, DIAMOND).result(60)
    s.advance(1)

    retried, done = traced.named("member moody_2")
    [gave_up] = traced.named("member moody_3")
    assert [attributes_of(each)[names.STATUS] for each in (retried, done, gave_up)] == [
        "retried",
        "completed",
        "failed",
    ]
    assert [attributes_of(each)[names.ATTEMPT] for each in (retried, done)] == [1, 2]
    assert (retried.status.status_code, retried.status.description) == (StatusCode.ERROR, "ValueError: not yet")
    assert done.status.status_code is StatusCode.UNSET
    [event] = gave_up.events
    assert event.name == "exception"
    assert dict(event.attributes or {}) == {"exception.type": "GiveUp", "exception.message": "never"}
    assert attributes_of(gave_up)["error.type"] == "GiveUp"
    assert retried.end_time is not None
    assert done.start_time is not None
    assert (done.start_time - retried.end_time) / 1e9 == pytest.approx(0.2, abs=0.05)


def test_every_attribute_is_in_the_registry_where_it_belongs(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(agents={"slow": slow, "moody": moody}, telemetry=traced.telemetry)

    submit(s, DIAMOND).result(60)
    s.advance(1)

    kinds = {kind.prefix: set(kind.attributes) for kind in names.SPANS}
    for span in traced.spans:
        extra = attributes_of(span).keys() - kinds[span.name.partition(" ")[0]]
        assert extra == set(), span.name
    used = {name for kind in names.SPANS for name in kind.attributes}
    assert used == names.ATTRIBUTES.keys()


def test_a_failed_run_and_skipped_tasks_say_so(anabranch_system: Start) -> None:
    async def broken(task: Task) -> None:
        raise RuntimeError("no")

    traced = Traced()
    s = anabranch_system(agents={"broken": broken}, telemetry=traced.telemetry)
    document = request(task("a", "broken"), task("b", "echo", inputs="{a}", dependencies=["a"]))

    assert submit(s, document | {"request_id": "q"}).result(60).status == "failed"
    s.advance(1)

    check_tree(traced.spans, PRODUCER_SPAN)
    assert traced.one("run q").status.description == "the run failed"
    assert traced.one("task a").status.description == "RuntimeError: no"
    assert attributes_of(traced.one("task a"))["error.type"] == "RuntimeError"
    skipped = traced.one("task b")
    assert (skipped.status.status_code, attributes_of(skipped)[names.STATUS]) == (StatusCode.UNSET, "skipped")
    assert skipped.start_time == skipped.end_time


def test_an_item_without_the_identifier_is_a_failed_member_with_a_span(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(telemetry=traced.telemetry)
    odd = array([{"id": 1}, {}], identifiers={"name": "item.id"})
    document = request(task("t", expansion_config=odd, tolerated_failures=1))

    assert submit(s, document).result(60).status == "completed"
    s.advance(1)

    check_tree(traced.spans, PRODUCER_SPAN)
    assert attributes_of(traced.one("member t_2"))["error.type"] == "ExpansionError"
    assert len(links_of(traced.one("task t"))) == 2


def test_a_cancelled_run_has_a_whole_tree_of_what_ended(anabranch_system: Start) -> None:
    async def endless(task: Task) -> None:
        await asyncio.sleep(task.variables["item"])

    traced = Traced()
    s = anabranch_system(agents={"endless": endless}, telemetry=traced.telemetry)
    run = submit(s, request(task("t", "endless", expansion_config=array([1, 9_999])), name="n"))
    s.advance(10)
    run.cancel()
    assert run.result(60).status == "cancelled"
    s.advance(1)

    check_tree(traced.spans, PRODUCER_SPAN)
    assert [span.name for span in traced.named("member")] == ["member t_1"]
    for name in ("run n", "group g", "task t"):
        span = traced.one(name)
        assert (attributes_of(span)[names.STATUS], span.status.status_code) == ("cancelled", StatusCode.UNSET)


def test_a_retry_links_to_no_member_that_it_took_over(anabranch_system: Start) -> None:
    broken = True

    async def fixed_later(task: Task) -> int:
        if broken and task.index == 1:
            raise ValueError("no")
        return 1

    traced = Traced()
    s = anabranch_system(agents={"later": fixed_later}, telemetry=traced.telemetry)
    first = submit(s, request(task("t", "later", expansion_config=array([1, 2, 3]))))
    assert first.result(60).status == "failed"
    broken = False
    assert s.retry(first).result(60).status == "completed"
    s.advance(1)

    [again] = [span for span in traced.named("task t") if attributes_of(span)[names.STATUS] == "completed"]
    members = [span for span in traced.spans if parent_of(span) == id_of(again)]
    assert [span.name for span in members] == ["member t_2"]
    assert links_of(again) == {id_of(members[0])}
    [root] = [span for span in traced.named("run") if attributes_of(span).get(names.RETRY_OF)]
    assert attributes_of(root)[names.RETRY_OF] == first.run_id


def test_a_run_without_a_producers_trace_begins_one(anabranch_system: Start) -> None:
    traced = Traced()
    s = anabranch_system(agents={"slow": slow}, telemetry=traced.telemetry)

    for wrong in (None, "00-0-0-01"):
        submit(s, request(task("t", "slow"), name=str(wrong)), wrong).result(60)
    s.advance(1)

    roots = traced.named("run ")
    assert [parent_of(each) for each in roots] == [None, None]
    assert len({each.context.trace_id for each in roots if each.context}) == 2


# --- what is sampled -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MEMBERS, 10 * MEMBERS, 2_345])
def test_members_are_sampled_evenly_and_failures_beside_them(anabranch_system: Start, count: int) -> None:
    async def picky(task: Task) -> int:
        if task.index is not None and task.index % 7 == 3:
            raise ValueError("no")
        return 0

    traced = Traced()
    s = anabranch_system(agents={"picky": picky}, telemetry=traced.telemetry)
    wide = task("t", "picky", expansion_config=array(list(range(count))), tolerated_failures=count)

    submit(s, request(wide)).result(600)
    s.advance(1)

    check_tree(traced.spans, PRODUCER_SPAN)
    joined = traced.one("task t")
    stride = attributes_of(joined)[names.SAMPLED_EVERY]
    members = traced.named("member ")
    indexes = {attributes_of(each)[names.INDEX] for each in members}
    sampled = set(range(0, count, stride))
    failures = {index for index in range(count) if index % 7 == 3} - sampled
    assert sampled <= indexes
    assert len(sampled) <= MEMBERS
    assert indexes - sampled <= failures
    assert len(indexes - sampled) == min(FAILURES, len(failures))
    assert links_of(joined) == {id_of(each) for each in members if attributes_of(each)[names.INDEX] in sampled}


@pytest.mark.parametrize(
    ("flags", "sampler", "is_emitted"),
    [
        ("00", None, False),
        ("01", None, True),
        ("01", ALWAYS_OFF, False),
        ("01", ParentBased(TraceIdRatioBased(0.0)), True),
        ("00", ParentBased(TraceIdRatioBased(1.0)), False),
    ],
)
def test_the_producers_flag_and_the_sampler_decide_for_all_spans_together(
    anabranch_system: Start, flags: str, sampler: Any, is_emitted: bool
) -> None:
    traced = Traced(sampler)
    s = anabranch_system(agents={"slow": slow}, telemetry=traced.telemetry)

    submit(s, request(task("t", "slow")), PRODUCER[:-2] + flags).result(60)
    s.advance(1)

    assert len(traced.spans) == (4 if is_emitted else 0)


def test_a_share_of_runs_is_sampled_whole(anabranch_system: Start) -> None:
    traced = Traced(TraceIdRatioBased(0.5))
    s = anabranch_system(telemetry=traced.telemetry)

    for number in range(40):
        submit(s, request(task("t"), request_id=f"q{number}"), None).result(60)
    s.advance(1)

    by_trace: dict[int, int] = {}
    for span in traced.spans:
        assert span.context is not None
        by_trace[span.context.trace_id] = by_trace.get(span.context.trace_id, 0) + 1
    assert 8 < len(by_trace) < 32
    assert set(by_trace.values()) == {4}


# --- what agents see -----------------------------------------------------------------------------


def test_an_agents_own_spans_are_under_its_member(anabranch_system: Start) -> None:
    traced = Traced()
    tracer = traced.telemetry.provider.get_tracer("an agent's")

    async def looped(task: Task) -> None:
        with tracer.start_as_current_span(f"own {task.name}"):
            await asyncio.sleep(0.1)

    def threaded(task: Task) -> None:
        with tracer.start_as_current_span(f"own {task.name}"):
            pass

    s = anabranch_system(agents={"looped": looped, "threaded": threaded}, telemetry=traced.telemetry)
    many = array(list(range(3 * MEMBERS)))
    submit(s, request(task("l", "looped", expansion_config=many), task("t", "threaded", timeout="5s"))).result(60)
    s.advance(1)

    own = traced.named("own ")
    assert len(own) == MEMBERS + 1
    for span in own:
        assert parent_of(span) == id_of(traced.one(span.name.replace("own", "member")))
        assert span.context is not None
        assert span.context.trace_id == TRACE_ID


@contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A local server: its address, and the headers of each request."""
    received: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append({name.lower(): value for name, value in self.headers.items()})
            body = json.dumps({}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on standard error."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_http_agent_propagates_the_trace(anabranch_system: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "127.0.0.1")
    traced = Traced()
    with listening() as (url, received):
        s = anabranch_system(telemetry=traced.telemetry)
        document = request(task("t", "http", inputs={"url": url}))
        assert submit(s, document).result(60).status == "completed"
        s.advance(1)

    member = traced.one("member t")
    assert received[0]["traceparent"] == f"00-{TRACE_ID:032x}-{id_of(member):016x}-01"


def test_without_telemetry_the_producers_trace_is_propagated_unchanged(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "127.0.0.1")
    with listening() as (url, received):
        s = anabranch_system()
        document = request(task("t", "http", inputs={"url": url}))
        assert submit(s, document).result(60).status == "completed"
        assert submit(s, document, None).result(60).status == "completed"

    assert [each.get("traceparent") for each in received] == [PRODUCER, None]


def test_a_client_sends_the_span_that_it_runs_within() -> None:
    traced = Traced()
    tracer = traced.telemetry.provider.get_tracer("a producer")
    with system(telemetry=traced.telemetry) as s:

        async def produce() -> Any:
            with tracer.start_as_current_span("produce"):
                return await s.embedded.client.submit(request(task("t"), name="n"))

        SystemRun(s, s.wait(produce())).result(60)
        s.advance(1)

    assert parent_of(traced.one("run n")) == id_of(traced.one("produce"))


# --- once more -----------------------------------------------------------------------------------


def test_a_replaced_owner_emits_no_conflicting_spans(anabranch_system: Start) -> None:
    """Owners lose their partitions during a run and after it, before any commit, so the next owner decides again
    about what ended. Each span has one content, whichever owner emits it and however often.
    """
    traced = Traced()
    s = anabranch_system(agents={"slow": slow, "moody": moody}, telemetry=traced.telemetry, loss_window=30.0)
    run = submit(s, DIAMOND)
    s.advance(1.2)
    replace_owners(s)
    assert run.result(120).status == "completed"
    s.advance(1)
    before = {content_of(span) for span in traced.spans}
    replace_owners(s)
    s.advance(30)

    by_id: dict[int, set[Any]] = {}
    for span in traced.spans:
        by_id.setdefault(id_of(span), set()).add(content_of(span))
    assert {len(contents) for contents in by_id.values()} == {1}
    assert {content_of(span) for span in traced.spans} == before
    assert len(traced.spans) > len(before), "nothing was told again: this test decides nothing"
    check_tree(list({id_of(span): span for span in traced.spans}.values()), PRODUCER_SPAN)


def replace_owners(s: System) -> None:
    for service in s.embedded.services:
        owner = getattr(service, "_owner", None)
        if owner is not None:
            s.wait(owner._membership._rejoin())
    s.advance(2)
