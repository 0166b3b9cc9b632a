"""The messages about limits that runs share, between the owner of a limit and those that need a grant of it.

A limit has an address (`core.limit_addresses`). One partition of `runs` has everything under it: wishes and
returns. `run_id` of a message on `runs` is the address, by which its owner keeps it, has timers for it and
restores it from snapshots, as it does a run. Import them from `messages`.
"""

from __future__ import annotations

from typing import Literal

from anabranch.core.limit_addresses import LimitKind, LimitScope
from anabranch.core.request.limits import Breaker, OnFull
from anabranch.core.wire.message_parts import Message


class LimitRule(Message):
    """A limit as the one who needs it knows it."""

    kind: LimitKind
    project: str
    name: str
    limit: int
    per: float = 0.0
    """Of a rate: seconds in which `limit` members may start."""
    burst: int = 0
    """Of a rate: members that may start at once."""
    on_full: OnFull = "queue"
    breaker: Breaker | None = None
    """Of a breaker, whose `limit` says nothing."""
    scope: LimitScope = "key"
    """What the limit is of. The project of a limit of an agent is `*`; the name of one of a project is the
    project."""


class GrantHolder(Message):
    """Who needs a grant, by its path: a task, or (`group` is empty) a run."""

    run_id: str
    session_id: str
    admission: int = 0
    """Of the run, see OpenRun."""
    group: str = ""
    task: str = ""
    iteration: tuple[int, ...] = ()


class WantGrant(Message):
    """A wish: members are to run. A new owner of the session repeats it while it is open, and while it is held."""

    type: Literal["want_grant"] = "want_grant"
    run_id: str
    rule: LimitRule
    holder: GrantHolder
    number: int
    """Distinguishes the wishes of a holder."""
    amount: int
    """Members."""
    since: float
    """Since when the members wait, in seconds since the epoch: the order of wishes of one level."""
    level: int = 2
    """The higher one first."""
    held: int = 0
    """The wish was granted, and so many members still hold it: repeated by a new owner, or as the answer to
    CheckGrant."""


class ReturnGrant(Message):
    """Gives back what was granted, and takes back what was not."""

    type: Literal["return_grant"] = "return_grant"
    run_id: str
    holder: GrantHolder
    number: int | None = None
    """Null: all of the holder."""
    left: int = 0
    """So many members go on."""
    passed: int = 0
    """Of a breaker: attempts under the wish that have passed so far, and those that have `failed`."""
    failed: int = 0


class HoldLimit(Message):
    """Nothing is granted before a time: an agent was told to wait by what the limit is for."""

    type: Literal["hold_limit"] = "hold_limit"
    run_id: str
    rule: LimitRule
    until: float
    """Seconds since the epoch."""


class SetBreaker(Message):
    """A person opens a breaker until it is closed, or closes it."""

    type: Literal["set_breaker"] = "set_breaker"
    run_id: str
    name: str
    """Of the agent."""
    is_open: bool
    by: str = ""
    reason: str = ""


class GrantAnswer(Message):
    """What became of a wish, for the holder: on `groups` for a task, on `runs` for a run."""

    type: Literal["granted"] = "granted"
    run_id: str
    group: str = ""
    task: str = ""
    iteration: tuple[int, ...] = ()
    admission: int | None = None
    session_id: str
    address: str
    kind: LimitKind
    number: int
    amount: int = 0
    """Members that may start, of all answers to the wish together."""
    verdict: Literal["granted", "queued", "refused", "revoked", "replaced"] = "granted"
    """`queued`: a run waits, with `amount` wishes ahead. `refused`: the key is full. `replaced`: a later wish took
    the place of this one. `revoked`: what is held is to be cancelled, for a later wish."""
    because: str = ""


class CheckGrant(Message):
    """Asks a holder whether it still needs what it has, or waits for: nothing was heard of it for a while."""

    type: Literal["check_grant"] = "check_grant"
    run_id: str
    group: str = ""
    task: str = ""
    iteration: tuple[int, ...] = ()
    admission: int | None = None
    session_id: str
    address: str
    numbers: tuple[int, ...]
