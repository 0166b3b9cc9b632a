"""A bug that a record triggers fails that record's run; neither its owner nor a successor stops."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch.core.wire.messages import MembersReported, SubmitRun
from anabranch.testing import System
from anabranch_agency.run.actor import decide_delivered as decide_run
from anabranch_taskgroup.session.actor import decide as decide_group

Start = Callable[..., System]
LONG = {"timeout": 36_000}


def test_a_report_that_triggers_a_bug_fails_only_its_run(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(rules: Any, partition: Any, delivery: Any) -> Any:
        if isinstance(delivery.message, MembersReported) and delivery.message.task == "bad":
            raise LookupError("a bug")
        return decide_group(rules, partition, delivery)

    monkeypatch.setattr("anabranch_taskgroup.owner.handler.decide", buggy)
    s = anabranch_system()

    bad = s.submit(request(task("bad", inputs=1), task("fine", inputs=2), session_id="s", **LONG))
    good = s.submit(request(task("good", inputs=3), session_id="s"))

    assert good.result(60).status == "completed"
    result = bad.result(60)
    assert (result.status, dict(result.results)) == ("failed", {"fine": 2})
    first = result.failures[0]
    assert first["error_type"] == "InternalError"
    assert "LookupError: a bug" in first["message"]
    reasons = [dict(dead_letter.headers)["anabranch_reason"] for dead_letter in s.records("dead-letters")]
    assert reasons
    assert all(b"LookupError: a bug" in reason for reason in reasons)
    alive(s)


def test_a_submission_that_triggers_a_bug_is_refused(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(rules: Any, partition: Any, delivery: Any) -> Any:
        turn = decide_run(rules, partition, delivery)
        if isinstance(delivery.message, SubmitRun) and delivery.message.request_id == "bad":
            raise LookupError("a bug")
        return turn

    monkeypatch.setattr("anabranch_agency.owner.handler.decide_delivered", buggy)
    s = anabranch_system()

    s.submit(request(task("t", inputs=1), request_id="bad"))
    assert s.run(request(task("t", inputs=1), request_id="good"), timeout=60).status == "completed"
    s.advance(5)

    bodies = [orjson.loads(record.value) for record in s.records("results")]
    [refused] = [body for body in bodies if body["request_id"] == "bad"]
    assert (refused["status"], refused["errors"][0]["code"]) == ("rejected", "internal")
    alive(s)


@pytest.mark.parametrize("function", ["chunk_opening.members_of", "runner.member_scope", "reporter.pack"])
def test_a_bug_in_running_a_chunk_fails_its_members_and_leaves_the_worker(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Five deliveries of the chunk trigger it; then its members count as lost, and the run ends."""
    path = f"anabranch_taskgroup.worker.{function}"
    real = _imported(path)

    def buggy(*args: Any, **more: Any) -> Any:
        if any(re.search(r"\bbad\b", str(each)) for each in args):  # and no address of an object
            raise LookupError("a bug")
        return real(*args, **more)

    monkeypatch.setattr(path, buggy)
    s = anabranch_system()

    result = s.run(
        request(task("bad", inputs="{item}", expansion_config=array(["bad"])), task("fine", inputs=2)), timeout=600
    )

    assert (result.status, dict(result.results)) == ("failed", {"fine": 2})
    assert [failure["task"] for failure in result.failures] == ["bad"]
    alive(s)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
