"""What a dead letter says: the model of a failed member's letter, the header names, and the signature by which
like failures are grouped. Pure; who writes letters and who reads them is not its business.

A letter of a *record* (a refused request, bytes that nobody can decode) holds the original's bytes; a letter of
a *member* holds a `MemberLetter` as JSON. Both have the same headers.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from anabranch.core.expansion.members import member_name

CODE = "anabranch_code"
"""Why the letter was written: an error code, `undecodable`, or `member_failed`."""
REASON = "anabranch_reason"
"""The reason as text."""
ORIGIN = "anabranch_origin"
"""`topic/partition/offset` of the record that led to the letter."""
SIGNATURE = "anabranch_signature"
"""See `signature`."""
PROJECT = "anabranch_project"
"""Project that owns the letter; only set for refused requests and undelivered webhook events."""
LETTER_ID = "anabranch_id"
"""The same in each repetition of a letter, so that a reader can drop it."""

MEMBER_FAILED = "member_failed"
MEMBERS_OMITTED = "members_omitted"
"""The last letter of a task of which more members failed than get letters of their own: see `omitted`."""
WEBHOOK_FAILED = "webhook_failed"
"""An event that a subscriber did not take, in any attempt."""
DISMISSED, REDRIVEN = "dismissed", "redriven"
"""Codes of notes on letters: what somebody decided. The origin of a note is the place of its letter."""
MESSAGE_CHARACTERS = 400
"""So much of a message, after the changing parts were taken out, counts for its signature."""

_CHANGING = (
    (re.compile(r"\bworker \S+"), "worker <id>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}\b"), "<id>"),
    (re.compile(r"[0-9]+(?:\.[0-9]+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


class MemberLetter(BaseModel):
    """A member that failed for good. `index` is null where the task is not expanded.

    `attempts` are the calls that ended in an error, `deliveries` the workers that died while they ran this member
    and no other suspect. A letter that is `held` speaks of a member whose task waits for a redrive or a dismissal.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    request_id: str
    session_id: str
    group: str
    task: str
    index: int | None = None
    member: str
    agent: str
    error_type: str
    message: str
    attempts: int = 0
    deliveries: int = 0
    held: bool = False
    traceback: str | None = None
    """Traceback of the last attempt's exception; null if it has none, or if enough failures of the task have
    one."""
    omitted: int = 0
    """Only of a `members_omitted` letter: so many members of the task failed without a letter of their own."""

    def to_document(self) -> dict[str, Any]:
        """The letter as JSON-able values, without `traceback` if it has none."""
        return self.model_dump(mode="json", exclude={"traceback"} if self.traceback is None else None)

    @property
    def signature(self) -> str:
        """The signature of the failure that the letter speaks of."""
        return signature(MEMBER_FAILED, self.message, subject=self.agent, error_type=self.error_type)


def signature(code: str, message: str, *, subject: str = "", error_type: str = "") -> str:
    """16 hexadecimal digits that failures of one kind share.

    Args:
        code: of the letter.
        message: its numbers, ids and white space do not count, and only its beginning does.
        subject: what failed: the agent of a member, else nothing.
        error_type: of the exception, where there was one.
    """
    parts = (code, subject, error_type, normalised(message))
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def normalised(message: str) -> str:
    """A message without what differs from one failure to the next of its kind: `<n>` for a number, `<id>` for a
    UUID, a hash or another long id."""
    text = message[: 10 * MESSAGE_CHARACTERS]
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text.strip()[:MESSAGE_CHARACTERS]


def member_letter_id(run_id: str, group: str, task: str, index: int | None, redrives: int) -> str:
    """The id of a member's letter: one for each time that it failed for good, first or after a redrive."""
    member = task if index is None else member_name(task, index)
    return f"{run_id}/{group}/{member}/{redrives}"
