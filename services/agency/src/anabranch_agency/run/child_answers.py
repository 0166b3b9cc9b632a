"""What the owner of a sub-run answers to the owner of the session of its parent. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.costs import costs_in, costs_of
from anabranch.core.wire.child_messages import ChildStatus
from anabranch.core.wire.messages import ChildEnded, ChildStarted, Failure, ParentLink, SubmitRun
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.turn import Turn

MAX_FAILURES = 5
"""Failures of the child that its parent gets."""


def link_in(accepted: dict[str, Any]) -> ParentLink | None:
    """The parent in the record of an admitted run."""
    found = accepted.get("parent")
    return None if found is None else ParentLink.model_validate(found)


def answer_start(turn: Turn, run_id: str, link: ParentLink) -> None:
    """Tell the parent that the child was admitted."""
    message = ChildStarted(**member_of(link), child_run_id=run_id)
    turn.publish(turn.config.names.groups, link.session_id, message)


def answer_cancelled(turn: Turn, run_id: str, link: ParentLink) -> None:
    """Tell the parent that the child was cancelled before it was admitted."""
    answer_end(turn, run_id, link, "cancelled")


def answer_end(turn: Turn, run_id: str, link: ParentLink, status: ChildStatus, message: str = "") -> None:
    """Tell the parent that there is no such child, and why."""
    ended = ChildEnded(**member_of(link), child_run_id=run_id, status=status, message=message)
    turn.publish(turn.config.names.groups, link.session_id, ended)


def answer_final(turn: Turn, run_id: str, ended: RunRecord) -> None:
    """Tell the parent how the child ended; nothing for a run that is no sub-run."""
    link = link_in(ended.accepted)
    if link is None:
        return
    final = ended.final
    assert final is not None
    message = ChildEnded(
        **member_of(link),
        child_run_id=run_id,
        child_session_id=ended.session_id,
        status=final["status"],
        results=final["results"],
        failures=tuple(Failure.model_validate(each) for each in final["failures"][:MAX_FAILURES]),
        costs=costs_of(costs_in(final)),
    )
    # After the final record of the child: the parent's must not come before it.
    turn.publish_last(turn.config.names.groups, link.session_id, message)


def reject_child(turn: Turn, submit: SubmitRun, message: str) -> None:
    """Tell the parent that the request of its child was refused."""
    if submit.parent is not None:
        answer_end(turn, submit.run_id, submit.parent, "rejected", message)


def member_of(link: ParentLink) -> dict[str, Any]:
    """The fields of an answer that say which member of the parent it is for."""
    return {
        "run_id": link.run_id,
        "group": link.group,
        "task": link.task,
        "index": link.index,
        "iteration": link.iteration,
        "attempt": link.attempt,
        "admission": link.admission,
    }
