"""Dead letters: the model for failed members, the header names, and the signature that groups similar failures.
Pure.

The dead letter of a *record* (a refused request, undecodable bytes) has the bytes of the original; that of a
*member* has a `MemberDeadLetter` as JSON. Both have the same headers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from anabranch.core.expansion.members import member_name

CODE = "anabranch_code"
"""Header: an error code, `undecodable`, or `member_failed`."""
REASON = "anabranch_reason"
"""Header: the reason as text."""
ORIGIN = "anabranch_origin"
"""Header: `topic/partition/offset` of the record that caused the dead letter."""
SIGNATURE = "anabranch_signature"
"""Header; see `signature`."""
PROJECT = "anabranch_project"
"""Header: project that owns the dead letter; only set for refused requests and undelivered webhook events."""
DEAD_LETTER_ID = "anabranch_id"
"""Header: id of the dead letter, the same in each repetition, so that readers can drop duplicates."""

MEMBER_FAILED = "member_failed"
MEMBERS_OMITTED = "members_omitted"
"""Code of the last dead letter of a task with more failed members than dead letters; see `omitted`."""
WEBHOOK_FAILED = "webhook_failed"
"""Code of an event that a subscriber did not accept in any attempt."""
DISMISSED, REDRIVEN = "dismissed", "redriven"
"""Codes of decisions on dead letters. The origin of such a record is the position of its dead letter."""
MESSAGE_CHARACTERS = 400
"""Maximum characters of a normalised message that count for its signature."""

# In this order: the pattern of numbers would cut ids into pieces.
_CHANGING = (
    (re.compile(r"\bworker \S+"), "worker <id>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}\b"), "<id>"),
    (re.compile(r"[0-9]+(?:\.[0-9]+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


class MemberDeadLetter(BaseModel):
    """A member that failed for good. `index` is null if the task is not expanded.

    `attempts` counts the calls that ended in an error, `deliveries` the workers that died while they ran this
    member and no other suspect. `held`: the task waits for a redrive or a dismissal of the member.
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
    """Only with the code `members_omitted`: the number of failed members without a dead letter of their own."""
    iteration: tuple[int, ...] | None = None
    """Numbers of the iterations of the loops around the task, from 0, that of the outermost loop first."""

    def to_document(self) -> dict[str, Any]:
        """The fields as JSON-able values, without `traceback` and `iteration` if it has none."""
        left_out = {"iteration"} if not self.iteration else set()
        if self.traceback is None:
            left_out.add("traceback")
        return self.model_dump(mode="json", exclude=left_out)

    @property
    def signature(self) -> str:
        """The signature of the failure."""
        return signature(MEMBER_FAILED, self.message, subject=self.agent, error_type=self.error_type)


def signature(code: str, message: str, *, subject: str = "", error_type: str = "") -> str:
    """A hash, in 16 hexadecimal digits, that failures of one kind have in common.

    Args:
        code: of the dead letter.
        message: only its beginning counts, without numbers, ids and white space.
        subject: the agent of a member; empty for other dead letters.
        error_type: of the exception; empty if there was none.
    """
    parts = (code, subject, error_type, normalised(message))
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def normalised(message: str) -> str:
    """A message without the parts that differ between failures of one kind: `<n>` replaces a number, `<id>` a
    UUID, a hash or another long id."""
    # Bounds the work. Ten times the limit, because the replacements shorten the text.
    text = message[: 10 * MESSAGE_CHARACTERS]
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text.strip()[:MESSAGE_CHARACTERS]


def member_dead_letter_id(
    run_id: str, group: str, task: str, index: int | None, redrives: int, iteration: Sequence[int] = ()
) -> str:
    """The id of a member's dead letter: one for each final failure, the first or after a redrive, in each
    iteration of a loop."""
    member = task if index is None else member_name(task, index)
    if iteration:
        member += f"[{','.join(map(str, iteration))}]"
    return f"{run_id}/{group}/{member}/{redrives}"
