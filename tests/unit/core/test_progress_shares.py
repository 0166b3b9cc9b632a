"""The progress of a task and of a run: the number that lists, pages, trees and status show."""

from __future__ import annotations

import pytest
from eventmanager_records import batch, entry

from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.view_progress import progress_of_view
from anabranch.cli.top.snapshot import row_of
from anabranch.core.progress import percent, run_share, share_of_run, task_share
from anabranch.core.wire.events import decode_batch
from anabranch.core.wire.run_view import RunView
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_gateway.api import serializers

HELD = {"error_type": "E", "message": "m", "attempt": 1}


def run_that_grows() -> list[bytes]:
    """Two tasks; the second expands to a thousand members, one of which is held, redriven, and completes."""
    accepted = entry("run.accepted", 1, groups={"g": ["a", "b"]}, tasks=2)
    return [
        batch("r", "runs", 1, accepted, request_id="r"),
        batch("r", "groups", 10, entry("group.started", 2, "g"), entry("task.started", 2, "g", "a", attempt=1)),
        batch("r", "groups", 11, entry("task.completed", 3, "g", "a", attempt=1)),
        batch("r", "groups", 12, entry("task.expanded", 4, "g", "b", count=1_000)),
        batch("r", "groups", 13, entry("task.started", 5, "g", "b", spans=[[0, 1_000]], attempt=1)),
        batch("r", "groups", 14, entry("task.failed", 6, "g", "b", spans=[[0, 500]], held=True, **HELD)),
        batch("r", "groups", 15, entry("task.retrying", 7, "g", "b", spans=[[0, 400]], redriven=True, **HELD)),
        batch("r", "groups", 16, entry("task.failed", 8, "g", "b", spans=[[400, 500]], dismissed=True, **HELD)),
        batch("r", "groups", 17, entry("task.completed", 9, "g", "b", spans=[[0, 400], [500, 1_000]], attempt=1)),
        batch("r", "groups", 18, entry("task.joined", 9, "g", "b", status="completed")),
        batch("r", "groups", 19, entry("group.completed", 9, "g")),
        batch("r", "runs", 2, entry("run.completed", 10)),
    ]


def views_of(records: list[bytes]) -> list[RunView]:
    """The view after each record."""
    core, documents, views = EventProjection("ch"), {}, []
    for offset, value in enumerate(records):
        documents |= core.apply(documents, decode_batch(value), RecordPosition(0, offset, 0.0)).writes
        views.append(build_view(documents["run/r"]))
    return views


def test_a_progress_never_goes_back_and_is_the_same_everywhere() -> None:
    followed = RunProgress("r")
    shares = []
    records = run_that_grows()
    for value, view in zip(records, views_of(records), strict=True):
        followed.apply(decode_batch(value))
        shares.append(view.share)
        assert serializers.summary(view)["counts"]["share"] == view.share
        assert row_of(view, 0.0, RateMeter()).to_document()["share"] == view.share
        assert progress_of_view(view).share == view.share
        assert followed.share == view.share

    assert shares == sorted(shares)
    assert shares == [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.55, 0.99, 0.99, 0.99, 1.0]


def test_a_held_member_is_counted_once_and_its_task_goes_on() -> None:
    followed = RunProgress("r")
    for value in run_that_grows()[:8]:
        followed.apply(decode_batch(value))
    wide = followed.group("g").tasks["b"]
    assert (wide.failed, wide.held, wide.done) == (100, 0, 100)

    plain = RunProgress("r")
    plain.apply(decode_batch(batch("r", "groups", 1, entry("task.failed", 6, "g", "a", held=True, **HELD))))
    (task,) = plain.tasks
    assert (task.status, task.ended) != ("failed", 6)


@pytest.mark.parametrize(
    ("status", "members", "ended", "share"),
    [
        ("waiting", None, 0, 0.0),
        ("running", 1_000, 1_000, 0.99),
        ("completed", 0, 0, 1.0),
        ("failed", 10, 2, 1.0),
        ("cancelled", 10, 2, 0.2),
        ("skipped", None, 0, 1.0),
    ],
)
def test_a_cancelled_task_stays_as_far_as_it_came(
    status: str, members: int | None, ended: int, share: float
) -> None:
    assert task_share(status, members, ended) == share


def test_a_run_that_was_cancelled_does_not_look_done() -> None:
    assert run_share("cancelled", [1.0, 0.2, 0.0], 4) == 0.3
    assert run_share("running", [1.0, 1.0], None) is None
    assert run_share("running", [1.0, 1.0], 2) == 0.99
    assert share_of_run(RunView("r", "q", "s", status="failed", tasks_total=3)) is None


@pytest.mark.parametrize(
    ("share", "words"), [(None, ""), (0.0, "0%"), (0.001, "<1%"), (0.125, "13%"), (0.9999, "99%"), (1.0, "100%")]
)
def test_only_what_has_ended_is_at_a_hundred_percent(share: float | None, words: str) -> None:
    assert percent(share) == words
