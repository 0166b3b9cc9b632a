"""Requests with `not_before` and `deadline`, from their submission to their end, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from owner_changes import Installation
from small_requests import request, task

from anabranch.core.errors import RequestRefused
from anabranch.core.timestamps import utc_text
from anabranch.operations.why.examination import examine
from anabranch.operations.why.observations import Sources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0


def later(s: System, seconds: float) -> str:
    return utc_text(s.embedded.client.links.clock.now() + seconds)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_run_starts_at_its_time_whichever_process_owns_it(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    run = s.submit(request(task("t", "echo", "hello"), not_before=later(s, HOUR)))
    s.advance(60)
    client = s.embedded.client
    view = s.wait(load_view(client.store, client.names, run.run_id))
    assert view is not None
    assert view.status == "scheduled"
    assert view.not_before == pytest.approx(client.links.clock.now() + HOUR - 60, abs=2)
    sources = Sources(client.log, client.store, client.names)
    answer = s.wait(examine(sources, Settings(), run.run_id, run.run_id, client.links.clock.now()))
    assert [(str(each.fact), each.detail) for each in answer.missing] == [("waits_for_time", "its start")]

    parts = Installation(s, {})
    parts.end("agency", "taskgroup", killed=killed)
    s.advance(20)
    parts.start("agency", "taskgroup")
    began = s.elapsed
    result = run.result(2 * HOUR)
    assert (result.status, result.results) == ("completed", {"t": "hello"})
    assert s.elapsed - began > HOUR - 120


def test_a_scheduled_run_is_cancelled_before_its_start(anabranch_system: Start) -> None:
    s = anabranch_system()
    run = s.submit(request(task("t", "echo", "hello"), not_before=later(s, 24 * HOUR)))
    s.advance(5)
    run.cancel()
    result = run.result(60)
    assert (result.status, result.results) == ("cancelled", {})


def test_a_run_times_out_at_its_deadline(anabranch_system: Start) -> None:
    s = anabranch_system()
    body = request(task("t", external_dependencies=["never"]), deadline=later(s, HOUR))
    run = s.submit(body)
    began = s.elapsed
    assert run.result(2 * HOUR).status == "timed_out"
    assert s.elapsed - began == pytest.approx(HOUR, abs=90)


def test_a_deadline_before_the_start_is_refused_for_each_request_of_its_shape(anabranch_system: Start) -> None:
    s = anabranch_system()
    for _ in range(4):
        with pytest.raises(RequestRefused) as refused:
            s.submit(request(task("t"), not_before="2031-01-01T00:00:00Z", deadline="2030-01-01T00:00:00Z"))
        assert [each.path for each in refused.value.errors] == ["/deadline"]
