"""The messages between a run and its sub-runs. Import them from `messages`.

A sub-run, or child, is requested on `runs`, which only services write to: so no request of a user can name a
parent. Its owner answers on `groups`, to the owner of the session of the parent.
"""

from __future__ import annotations

from typing import Literal

from anabranch.core.costs import NO_COSTS
from anabranch.core.lanes import Priority
from anabranch.core.request.budget_fields import Limit
from anabranch.core.wire.message_parts import Failure, Json, Message, empty_object

ChildAction = Literal["check", "cancel", "terminate", "pause", "resume"]
ChildStatus = Literal["completed", "failed", "cancelled", "timed_out", "rejected", "lost"]


class ParentLink(Message):
    """The member of a step that a sub-run is the work of."""

    run_id: str
    session_id: str
    group: str
    task: str
    index: int = 0
    iteration: tuple[int, ...] = ()
    attempt: int = 1
    admission: int = 0
    """Of the parent's run, see OpenRun."""
    depth: int = 1
    """Depth of the child: 1 if its parent is no sub-run itself."""


class Inherited(Message):
    """What a sub-run has of its parent if its own request does not say otherwise."""

    priority: Priority | None = None
    pool: str | None = None
    fairness_key: str | None = None
    due_at: float | None = None
    """The time by which the parent is wanted, see OpenRun."""


class SubmitChild(Message):
    """Request a sub-run, keyed by its run id. It is repeated until the child is known, and admitted once."""

    type: Literal["submit_child"] = "submit_child"
    run_id: str
    request_id: str
    parent: ParentLink
    project: str
    session_id: str | None = None
    """The session of the parent, if the child uses it too."""
    request: dict[str, Json] | None = None
    definition: str | None = None
    """`name` or `name@version`, in place of `request`."""
    context: dict[str, Json] = empty_object()
    """Merged over the context of the request."""
    timeout: float | None = None
    """Maximum timeout of the child in seconds."""
    inherited: Inherited | None = None
    traceparent: str | None = None
    budget: Limit | None = None
    """The most that the child may use: what is reserved for it of its parent's budgets."""


class ControlChild(Message):
    """A command of a parent to its sub-run, keyed by the run id of the child.

    Each but `pause` and `resume` is answered, also by an owner that does not know the child. A child that is
    cancelled before it is admitted is never admitted.
    """

    type: Literal["control_child"] = "control_child"
    run_id: str
    action: ChildAction
    parent: ParentLink
    position: int = 0
    """Log position of the parent's decision: of `pause` and `resume` the later one counts."""


class ChildMessage(Message):
    """An answer about a sub-run, for the member of the parent that it is the work of."""

    run_id: str
    """Of the parent, as `group` and `task`."""
    group: str
    task: str
    index: int = 0
    iteration: tuple[int, ...] = ()
    attempt: int = 1
    admission: int | None = None
    """Of the parent."""


class ChildStarted(ChildMessage):
    """A sub-run was admitted."""

    type: Literal["child_started"] = "child_started"
    child_run_id: str


class ChildEnded(ChildMessage):
    """A sub-run has ended, or was rejected; `lost`: its owner does not know it any more."""

    type: Literal["child_ended"] = "child_ended"
    child_run_id: str
    child_session_id: str = ""
    status: ChildStatus
    results: dict[str, Json] = empty_object()
    """As in the final record of the child: large values are references into the session of the child."""
    message: str = ""
    """Why the child did not complete."""
    failures: tuple[Failure, ...] = ()
    """The first failures of the child."""
    costs: tuple[int, int, int, int] = NO_COSTS
    """What the child has used; see `core.costs`."""


class ChildValue(ChildMessage):
    """The results of a sub-run as the value of its member: the parent's owner has read them from the store.

    Payload and `items`: see MembersReported.
    """

    type: Literal["child_value"] = "child_value"
    items: tuple[int, ...] = ()
    error: str | None = None
    """Why the results cannot be the value of the member."""
    costs: tuple[int, int, int, int] = NO_COSTS
    """As in `ChildEnded`."""
