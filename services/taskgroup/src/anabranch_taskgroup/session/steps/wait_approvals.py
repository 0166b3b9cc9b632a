"""Counts the decisions of people about members that wait for one; an event says whether a decision counts. Pure.

The first decision that ends a member stands. Whoever decides later is told which one that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from anabranch.core.json_documents import dumps
from anabranch.core.request.flow import Approval
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.messages import DecideApproval, Json
from anabranch_taskgroup.session.known_runs import open_run
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.wait_endings import close, fail_member, satisfy, skip, waits_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.wait_state import Vote

MAX_TOLD = 4_000
"""Bytes of a decision's data that later decisions are told."""
REJECT = "reject"
"""The option that ends an approval as `on_reject` says."""

Refusal = Literal["not_found", "not_waiting", "decided", "unknown_decision", "form", "not_assignee", "requester"]


def decide_approval(turn: Turn, message: DecideApproval, segments: tuple[bytes, ...]) -> None:
    """Apply a decision, once for each id."""
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("decision about a run that is not open")
        return
    task = _addressed(run, message)
    if task is None:
        _refuse(turn, run, None, None, message, "not_found", f"no task {message.task!r} waits for a decision")
        return
    index = _member(task, message)
    if index is None:
        _refuse(turn, run, task, None, message, "not_waiting", "the task does not wait for a decision")
    # Whoever repeats an id with another decision would believe that this one counts.
    elif (same := _of_this_id(task, index, message)) is not None:
        if same.decision == message.decision:
            _tell(turn, run, task, index, message, repeated=True)
        else:
            _refuse(turn, run, task, index, message, "decided", _stands(same), stood=_shown(same))
    elif index in waits_of(task).ended or task.is_over:
        _refuse_late(turn, run, task, index, message)
    else:
        _decide(turn, run, task, index, message)


def _addressed(run: Run, message: DecideApproval) -> Task | None:
    """The task that a decision is about: the one it names, else the first of the name that waits."""
    found = list(_approvals(run, message))
    waiting = (task for task in found if task.state is TaskState.RUNNING)
    return next(waiting, found[0] if found else None)


def _approvals(run: Run, message: DecideApproval) -> Iterator[Task]:
    for group in run.groups.values():
        if message.group in (None, group.name):
            task = group.tasks.get(message.task)
            if task is not None and task.order.wait is not None and task.order.wait.approval is not None:
                yield task


def _member(task: Task, message: DecideApproval) -> int | None:
    """The index of the member that a decision is about; None if that has not begun to wait."""
    waits = task.waits
    if waits is None or message.iteration not in (None, task.iteration):
        return None
    if message.index is not None:
        return message.index if message.index < waits.opened else None
    if task.order.expansion is None:
        return 0
    return next((start for start, _ in waits.open_in(0, waits.opened)), None)


def _of_this_id(task: Task, index: int, message: DecideApproval) -> Vote | None:
    """The decision that has counted with the id of a message."""
    votes = waits_of(task).votes.get(index, ())
    return next((vote for vote in votes if vote.decision_id == message.decision_id), None)


def _refuse_late(turn: Turn, run: Run, task: Task, index: int, message: DecideApproval) -> None:
    votes = waits_of(task).votes.get(index)
    if not votes:
        _refuse(turn, run, task, index, message, "not_waiting", "the wait ended without a decision")
        return
    stood = _shown(votes[-1])
    _refuse(turn, run, task, index, message, "decided", _stands(votes[-1]), stood=stood)


def _stands(vote: Vote) -> str:
    return f"{vote.by or 'somebody'} has decided: {vote.decision}"


def _decide(turn: Turn, run: Run, task: Task, index: int, message: DecideApproval) -> None:
    assert task.order.wait is not None
    assert task.order.wait.approval is not None
    approval = task.order.wait.approval
    problem = _problem(run, task, index, approval, message)
    if problem is not None:
        code, text, more = problem
        _refuse(turn, run, task, index, message, code, text, **more)
        return
    votes = waits_of(task).votes.setdefault(index, [])
    vote = Vote(message.by or "", message.decision, turn.at, message.decision_id, message.data, message.comment)
    votes.append(vote)
    agreed = [each for each in votes if each.decision == vote.decision]
    has_ended = vote.decision == REJECT or len(agreed) >= approval.required
    _tell(turn, run, task, index, message, ended=has_ended, votes=len(agreed))
    if has_ended:
        _end(turn, run, task, index, approval, agreed)
        _shorten(votes)
        close(turn, run, task)


def _problem(
    run: Run, task: Task, index: int, approval: Approval, message: DecideApproval
) -> tuple[Refusal, str, dict[str, Any]] | None:
    """Why a decision does not count: a code, a text, and further fields of the event; None if it counts."""
    if message.decision not in approval.options:
        return "unknown_decision", f"{message.decision!r} is none of {', '.join(approval.options)}", {}
    assignees = waits_of(task).asked.get(index, list(approval.assignees))
    if assignees and message.by not in assignees:
        return "not_assignee", f"{message.by or 'somebody without a name'} is not asked to decide", {}
    if approval.forbid_requester and (not message.by or message.by == run.requested_by):
        who = "the person who submitted the request" if message.by else "somebody without a name"
        return "requester", f"{who} may not decide", {}
    for vote in waits_of(task).votes.get(index, ()):
        if vote.by == (message.by or ""):
            return "decided", _stands(vote), {"stood": _shown(vote)}
    problems = _form_problems(approval, message)
    if problems:
        text = "; ".join(f"{path or 'data'}: {problem}" for path, problem in problems)
        errors = [{"path": f"/data{path}", "message": problem} for path, problem in problems]
        return "form", text, {"errors": errors}
    return None


def _form_problems(approval: Approval, message: DecideApproval) -> list[tuple[str, str]]:
    # A rejection needs no form: who rejects has nothing to fill in.
    if approval.form is None or (message.decision == REJECT and message.data is None):
        return []
    from anabranch.core.waits.payload_schemas import payload_problems

    return payload_problems(approval.form, message.data)


def _end(turn: Turn, run: Run, task: Task, index: int, approval: Approval, agreed: list[Vote]) -> None:
    vote, spans = agreed[-1], ((index, index + 1),)
    if vote.decision == REJECT and approval.on_reject == "fail":
        why = f": {vote.comment}" if vote.comment else ""
        message = f"{vote.by or 'somebody'} has rejected it{why}"
        fail_member(turn, run, task, index, "ApprovalRejected", message, ended_by="approval", by=vote.by)
    elif vote.decision == REJECT and approval.on_reject == "skip":
        skip(turn, run, task, spans, "approval")
    else:
        value: dict[str, Json] = _shown(vote)
        if approval.required > 1:
            value["votes"] = [_shown(each) for each in agreed]
        satisfy(turn, run, task, spans, dumps(value), "approval", decision=vote.decision, by=vote.by)


def _shorten(votes: Iterable[Vote]) -> None:
    """Drop the large data of decisions about a member that has ended: its value has them, and the state of the run
    has the decisions for later ones to be told."""
    for vote in votes:
        if vote.data is not None and len(dumps(vote.data)) > MAX_TOLD:
            vote.data = None


def _shown(vote: Vote) -> dict[str, Json]:
    """A decision as the value of its task has it."""
    return {
        "decision": vote.decision,
        "by": vote.by or None,
        "at": rfc3339(vote.at),
        "data": vote.data,
        "comment": vote.comment,
    }


def _tell(turn: Turn, run: Run, task: Task, index: int, message: DecideApproval, **data: Any) -> None:
    turn.event(
        run,
        "approval.decided",
        task=task,
        spans=((index, index + 1),),
        decision_id=message.decision_id,
        decision=message.decision,
        by=message.by,
        comment=message.comment,
        **data,
    )


def _refuse(
    turn: Turn,
    run: Run,
    task: Task | None,
    index: int | None,
    message: DecideApproval,
    code: Refusal,
    text: str,
    **data: Any,
) -> None:
    turn.event(
        run,
        "approval.refused",
        task=task,
        spans=None if index is None else ((index, index + 1),),
        decision_id=message.decision_id,
        decision=message.decision,
        by=message.by,
        code=code,
        message=text,
        **data,
    )
