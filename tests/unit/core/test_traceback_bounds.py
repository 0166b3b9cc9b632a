"""Limits of tracebacks: those that workers send, owners keep and records contain."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson
import pytest
from eventmanager_records import batch, entry
from held_and_lost import Play
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.error_records import ErrorRecord, error_record
from anabranch.core.failures import fit_failures
from anabranch.core.redaction import redactor
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.dead_letters import MemberDeadLetter
from anabranch.core.wire.messages import Failure, MemberFailed, MemberRetry, MembersReported, Offer
from anabranch.runtime.process.settings import Settings
from anabranch_eventmanager.projection.documents import (
    MAX_TRACEBACKS as MAX_TRACEBACKS_IN_A_VIEW,
)
from anabranch_eventmanager.projection.documents import (
    Documents,
    Draft,
    apply_entry,
    new_run,
    run_key,
)
from anabranch_eventmanager.projection.run_views import MAX_TRACEBACK_BYTES, build_view
from anabranch_taskgroup.session.failures import MAX_FAILURE_BYTES, first_failures
from anabranch_taskgroup.session.traceback_limits import MAX_ALIKE, MAX_BYTES, MAX_TRACEBACKS, TracebackBudget
from anabranch_taskgroup.worker.attempt_errors import (
    LOG_BURST,
    LOG_SECONDS,
    TRACEBACK_BURST,
    TRACEBACK_BURST_OF_LINE,
    TRACEBACK_SECONDS,
    AttemptErrors,
)
from anabranch_taskgroup.worker.reports import PendingReport, pack

SECRET = "hunter2horse"
OFFER = Offer(
    run_id="r",
    session_id="s",
    group="g",
    task="t",
    agent="a",
    chunk=1,
    fence=1,
    spans=((0, 500),),
    expanded=True,
    deadline=1e9,
    claim_ttl=9.0,
)


def text_at(line: int, message: str = "no") -> str:
    return f'Traceback (most recent call last):\n  File "/a/b.py", line {line}, in f\n    f()\nE: {message}\n'


def failure(index: int, traceback: str | None, message: str = "no") -> Failure:
    return Failure(group="g", task="t", index=index, error_type="E", message=message, traceback=traceback)


def size_of(failures: tuple[Failure, ...]) -> int:
    return len(orjson.dumps([each.to_document() for each in failures]))


# --- records -----------------------------------------------------------------------------------------


def test_tracebacks_leave_most_of_the_space_to_failures() -> None:
    failures = [failure(n, "x" * 15_000, "why " * 90) for n in range(900)]
    bare = [each.model_copy(update={"traceback": None}) for each in failures]

    found = first_failures(failures)

    assert size_of(found) <= MAX_FAILURE_BYTES
    assert [each.index for each in found if each.traceback] == [0, 1]
    assert len(first_failures(bare)) * 7 / 8 - 1 <= len(found) < 900


@given(
    st.lists(st.tuples(st.text(max_size=60), st.none() | st.text(max_size=300)), max_size=40),
    st.integers(0, 6_000),
    st.integers(0, 50),
)
def test_failures_that_fit_are_the_first_ones_within_the_limit(
    sent: list[tuple[str, str | None]], limit: int, maximum: int
) -> None:
    failures = [failure(n, traceback, message) for n, (message, traceback) in enumerate(sent)]

    found = fit_failures(failures, limit, maximum)

    assert [each.index for each in found] == list(range(len(found)))
    assert len(found) <= maximum
    assert not found or size_of(found) <= limit + 2
    assert all(each.traceback in (None, failures[n].traceback) for n, each in enumerate(found))


def test_a_report_of_full_tracebacks_is_split_below_the_limit_of_a_record() -> None:
    text = "\u0001ä" * 5_000
    tally = PendingReport(
        failed=[
            MemberFailed(index=n, error_type="E", message="no", attempts=1, traceback=text) for n in range(200)
        ],
        retried=[
            MemberRetry(index=n, attempt=1, delay=None, error_type="E", message="no", traceback=text)
            for n in range(200)
        ],
    )

    records = list(pack(OFFER, "w", ("k",), tally, last=True, busy=0.5, with_identifiers=False))

    sent = [found for each in records if isinstance(found := GROUPS.decode(each).message, MembersReported)]
    assert max(map(len, records)) < 750_000
    assert [(each.index, each.traceback) for report in sent for each in report.failed] == [
        (n, text) for n in range(200)
    ]
    assert sum(len(report.retried) for report in sent) == 200


def test_a_failure_and_a_dead_letter_without_a_traceback_have_no_such_field() -> None:
    whose = {"run_id": "r", "request_id": "q", "session_id": "s", "group": "g", "task": "t", "member": "t"}
    dead_letter = MemberDeadLetter.model_validate({**whose, "agent": "a", "error_type": "E", "message": ""})

    assert "traceback" not in failure(1, None).to_document()
    assert "traceback" not in dead_letter.to_document()
    assert failure(1, "x").to_document()["traceback"] == "x"
    assert dead_letter.model_copy(update={"traceback": "x"}).to_document()["traceback"] == "x"


# --- tracebacks that an owner keeps ---------------------------------------------------------------


def test_tracebacks_of_the_same_frames_leave_space_for_others() -> None:
    room = TracebackBudget()

    alike = [room.admit(text_at(1, f"no {n}")) for n in range(1_000)]
    other = room.admit(text_at(2))

    assert alike == [True] * MAX_ALIKE + [False] * (1_000 - MAX_ALIKE)
    assert other


def test_the_tracebacks_of_a_task_are_limited_in_number_and_bytes() -> None:
    few, large = TracebackBudget(), TracebackBudget()

    assert sum(few.admit(text_at(n)) for n in range(10_000)) == MAX_TRACEBACKS
    assert sum(large.admit(text_at(n, "x" * 15_000)) for n in range(10_000)) == MAX_BYTES // 15_100
    assert not TracebackBudget().admit(text_at(1), max_bytes=10)


def fail_all(play: Play, text: Callable[[int], str]) -> None:
    while "r" in play.partition.runs:
        chunk = play.chunks[0]
        for index in list(chunk.pending.indexes()):
            play.fail(chunk, index, traceback=text(index))


def test_the_owner_forwards_the_tracebacks_that_it_keeps() -> None:
    play = Play(300)
    fail_all(play, lambda index: text_at(index % 3, f"no {index}"))

    finished = play.finished
    assert finished is not None
    with_traceback = [dead_letter for dead_letter in play.dead_letters if "traceback" in dead_letter]
    failed = [event for event in play.events if event.type == "task.failed" and event.spans]
    expected = 3 * MAX_ALIKE
    assert len([each for each in finished.failures if each.traceback]) == expected
    assert [dead_letter["index"] for dead_letter in with_traceback] == list(range(expected))
    assert [each.data.get("traceback") for each in failed[:2]] == [text_at(0, "no 0"), text_at(1, "no 1")]
    assert sum("traceback" in each.data for each in failed) == expected
    assert (len(finished.failures), len(play.dead_letters)) == (300, 300)


def test_a_redriven_member_releases_the_space_of_its_traceback() -> None:
    play = Play(1, on_failure="hold")

    for round_ in range(3 * MAX_ALIKE):
        play.fail(play.chunks[-1], 0, traceback=text_at(1))
        assert play.dead_letters[-1]["traceback"] == text_at(1)
        play.release("redrive", command_id=f"c{round_}")


def test_events_of_retries_have_tracebacks_too() -> None:
    play = Play(1)

    play.retry(play.chunks[0], 0, 5.0, traceback=text_at(1))

    assert [each.data.get("traceback") for each in play.events if each.type == "task.retrying"] == [text_at(1)]


# --- tracebacks that a worker sends and logs ------------------------------------------------------


def raised(message: str, line: int = 0) -> ErrorRecord:
    """An error that was raised on a separate line."""
    code = "\n" * line + "raise ValueError(message)"
    try:
        exec(compile(code, f"/agents/{line}.py", "exec"), {"message": message})  # one line for each number
    except ValueError as error:
        return error_record(error)
    raise AssertionError


def test_a_worker_sends_few_tracebacks_of_one_line_and_then_one_in_a_while() -> None:
    errors = AttemptErrors(str)
    record = raised("no")

    at_once = sum(errors.failure_of(record, 10.0).traceback is not None for _ in range(1_000))
    later = [errors.failure_of(record, 10.0 + n * TRACEBACK_SECONDS / 4).traceback is not None for n in range(40)]

    assert at_once == TRACEBACK_BURST_OF_LINE
    assert sum(later) == 9
    assert errors.failure_of(record, 10.0).message == "no"


def test_a_worker_sends_few_tracebacks_of_many_lines() -> None:
    errors = AttemptErrors(str)
    records = [raised("no", line) for line in range(300)]

    assert sum(errors.failure_of(each, 5.0).traceback is not None for each in records) == TRACEBACK_BURST


def test_the_message_and_traceback_that_a_worker_sends_have_no_secret() -> None:
    settings = Settings.load({"ANABRANCH_REDIS_PASSWORD": SECRET, "ANABRANCH_KAFKA_SASL_PASSWORD": "tops3cret"})
    errors = AttemptErrors(redactor(settings.secrets))

    sent = errors.failure_of(raised(f"login with {SECRET} and tops3cret failed"), 0.0)

    assert sent.message == "login with *** and *** failed"
    assert sent.traceback is not None
    assert SECRET not in sent.traceback
    assert "tops3cret" not in sent.traceback


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"redis://user:{SECRET}@h:6379/0 is away", "redis://user:***@h:6379/0 is away"),
        (f"redis://:{SECRET}/more@h", "redis://:***@h"),
        (f"GET https://h/x?page=2&api_key={SECRET}&q=1", "GET https://h/x?page=2&api_key=***&q=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        ("http://host:8080/path says token=3 at 10:30", "http://host:8080/path says token=3 at 10:30"),
    ],
)
def test_credentials_are_masked_and_other_text_stays(text: str, shown: str) -> None:
    assert redactor(())(text) == shown


def test_passwords_of_the_settings_are_masked_however_they_are_written() -> None:
    settings = Settings.load({"ANABRANCH_REDIS_URL": "redis://user:p%40ssw0rd@h"})

    assert redactor(settings.secrets)("p%40ssw0rd p@ssw0rd") == "*** ***"


def test_the_workers_log_has_the_traceback_and_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    errors = AttemptErrors(str, "w-1")
    record = raised("no")

    for index in range(1_000):
        errors.log(OFFER, index, 2, errors.failure_of(record, 7.0), None, 7.0)
    errors.log(OFFER, 1_000, 1, errors.failure_of(record, 7.0), 0.5, 7.0 + LOG_SECONDS)

    lines = [each for each in caplog.records if each.name == "anabranch.attempts"]
    first, last = lines[0], lines[-1]
    assert len(lines) == LOG_BURST + 1
    assert (first.levelname, last.levelname) == ("WARNING", "INFO")
    assert first.getMessage() == (
        "taskgroup worker: attempt 2 of member g/t[0] of run r failed, it is not tried again: ValueError: no"
    )
    assert 'File "/agents/0.py", line 1' in first.__dict__["error"]
    assert "the next attempt is in 0.5 s" in last.getMessage()
    assert f"{1_000 - LOG_BURST} failed attempts of this task before it are not logged" in last.getMessage()


# --- tracebacks in a view -------------------------------------------------------------------------


def test_a_view_has_one_traceback_of_a_task_and_few_bytes_of_all() -> None:
    long = "x" * 16_000
    documents: Documents = {}
    for task in range(20):
        failed = [
            entry("task.failed", 5, "g", f"t{task}", index=n, error_type="E", message="m", traceback=long)
            for n in range(5)
        ]
        documents = applied(documents, [entry("task.expanded", 5, "g", f"t{task}", count=5), *failed])

    failures = build_view(documents["run/r"]).failures

    kept = [each for each in failures if "traceback" in each]
    assert MAX_TRACEBACKS_IN_A_VIEW == 1
    assert {each["index"] for each in kept} == {0}
    assert len(kept) == MAX_TRACEBACK_BYTES // len(long)
    assert len(failures) == 50


def applied(documents: Documents, entries: list[object]) -> Documents:
    from anabranch.core.wire.events import EventEntry, decode_batch

    sent = [each for each in entries if isinstance(each, EventEntry)]
    found = decode_batch(batch("r", "groups", 5, *sent))
    draft = Draft(documents.get(run_key("r"), new_run(found)))
    for each in found.entries:
        apply_entry(draft, each)
    return {run_key("r"): draft.run}
