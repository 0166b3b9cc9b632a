"""Reads dead letters and the decisions about them from their topic.

A decision is a record on the same topic and partition as its dead letter, and so after it: its code is
`dismissed` or `redriven`, and its origin is the location of the dead letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from anabranch.core.names import Names, run_id_for
from anabranch.core.request.envelope import unwrap
from anabranch.core.wire import dead_letters
from anabranch.core.wire.dead_letters import DISMISSED, MEMBER_FAILED, MEMBERS_OMITTED, REDRIVEN, MemberDeadLetter
from anabranch.ports import EventLog, Headers, Incoming, Outgoing
from anabranch.runtime.reading.log_range import records_between

State = Literal["open", "redriven", "dismissed", "superseded"]
ADDED = frozenset(
    {
        dead_letters.CODE,
        dead_letters.REASON,
        dead_letters.ORIGIN,
        dead_letters.SIGNATURE,
        dead_letters.DEAD_LETTER_ID,
        dead_letters.PROJECT,
        "anabranch_null",
        "anabranch_bytes",
    }
)
"""Headers that the writer of a dead letter appends to those of the original record."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        code: why the record could not be handled; see `core.wire.dead_letters`.
        reason: the error as text; for a refused request a JSON list of its errors.
        origin: location of the original record, `topic/partition/offset`.
        signature: equal for dead letters with the same kind of failure.
        member: the failed member; None if the dead letter is about a record.
        state: the decision about it; `superseded` if the member has a newer dead letter.
    """

    record: Incoming
    code: str
    reason: str
    origin: str
    signature: str
    member: MemberDeadLetter | None = None
    state: State = "open"

    @property
    def id(self) -> str:
        """`partition:offset` of the dead letter."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def origin_topic(self) -> str:
        """The topic of the original record."""
        return self.origin.rsplit("/", 2)[0]

    @property
    def is_cut(self) -> bool:
        """True if the original record was too large, and its value was truncated."""
        return any(name == "anabranch_bytes" for name, _ in self.record.headers)

    @property
    def original_headers(self) -> Headers:
        """The headers of the original record."""
        headers = list(self.record.headers)
        # From the end, because the original record may have headers with the same names.
        while headers and headers[-1][0] in ADDED:
            headers.pop()
        return tuple(headers)

    @property
    def project(self) -> str | None:
        """The project in the headers; None if they have none.

        Only headers after the last `anabranch_code` count: the writer of the dead letter added those, while the
        original record may have any header.
        """
        for name, value in reversed(self.record.headers):
            if name == dead_letters.PROJECT:
                return _text(value)
            if name == dead_letters.CODE:
                return None
        return None

    @property
    def error(self) -> str:
        """The error in one line."""
        if self.member is not None:
            return f"{self.member.error_type}: {self.member.message}".removeprefix(": ")
        return "; ".join(self.problems) or self.reason

    @property
    def problems(self) -> Sequence[str]:
        """The errors of a refused request; empty for any other dead letter."""
        found = _parsed(self.reason)
        if not isinstance(found, list):
            return ()
        return [
            f"{each.get('path') or '(the request)'}: {each.get('message')}"
            for each in found
            if isinstance(each, dict)
        ]

    @cached_property
    def run_id(self) -> str | None:
        """The run of the member, or the run that the refused request or control record names; None if there is
        none."""
        if self.member is not None:
            return self.member.run_id
        document = _parsed(self.record.value)
        if not isinstance(document, Mapping):
            return None
        named = document.get("run_id")
        request_id = unwrap(document).request.get("request_id")
        if isinstance(named, str):
            return named
        return run_id_for(request_id) if isinstance(request_id, str) else None


def _parsed(data: bytes | str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


async def read_dead_letters(log: EventLog, names: Names) -> list[DeadLetter]:
    """All dead letters of the topic, the oldest first; repeated ones once.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    # No process joins this group: the call only serves to get the first and the next offset of each partition.
    standings = await log.group_standing(f"{names.prefix}dead-letters", names.dead_letters)
    partitions = await asyncio.gather(
        *(_partition(log, names.dead_letters, number, each.first, each.end) for number, each in standings.items())
    )
    return from_records(record for partition in partitions for record in partition)


async def _partition(log: EventLog, topic: str, partition: int, start: int, end: int) -> list[Incoming]:
    async with aclosing(records_between(log, topic, partition, start, end)) as found:
        return [record async for record in found]


def from_records(found: Iterator[Incoming]) -> list[DeadLetter]:
    """The dead letters of these records with their states, the oldest first. Pure.

    Args:
        found: dead letters and decisions; the records of each partition in order.
    """
    by_location: dict[str, DeadLetter] = {}
    seen: set[bytes] = set()
    for record in found:
        headers = dict(record.headers)
        code = _text(headers.get(dead_letters.CODE))
        if code in (DISMISSED, REDRIVEN):
            location = _text(headers.get(dead_letters.ORIGIN))
            if location in by_location:
                state: State = "dismissed" if code == DISMISSED else "redriven"
                by_location[location] = replace(by_location[location], state=state)
            continue
        # An owner that repeats a turn after a crash writes its dead letters again, with the same ids.
        letter_id = headers.get(dead_letters.DEAD_LETTER_ID)
        if letter_id is None or letter_id not in seen:
            by_location[f"{record.topic}/{record.partition}/{record.offset}"] = _letter(record, code, headers)
        if letter_id is not None:
            seen.add(letter_id)
    return sorted(_superseded(list(by_location.values())), key=lambda letter: (letter.record.timestamp, letter.id))


def _letter(record: Incoming, code: str, headers: Mapping[str, bytes | None]) -> DeadLetter:
    reason = _text(headers.get(dead_letters.REASON))
    letter = DeadLetter(record, code, reason, _text(headers.get(dead_letters.ORIGIN)), "", _member(record, code))
    signature = _text(headers.get(dead_letters.SIGNATURE))
    return replace(letter, signature=signature or dead_letters.signature(code, letter.error))


def _member(record: Incoming, code: str) -> MemberDeadLetter | None:
    if code not in (MEMBER_FAILED, MEMBERS_OMITTED):
        return None
    try:
        return MemberDeadLetter.model_validate_json(record.value)
    except ValidationError:
        return None


def _superseded(found: list[DeadLetter]) -> Iterator[DeadLetter]:
    """Marks a dead letter as superseded if its member failed again later and has a newer one."""
    newest: dict[object, DeadLetter] = {}
    for letter in found:
        if letter.member is not None:
            # Offsets are comparable: all dead letters of a member are in one partition.
            newest[_subject(letter.member)] = max(
                letter, newest.get(_subject(letter.member), letter), key=lambda each: each.record.offset
            )
    for letter in found:
        is_old = letter.member is not None and newest[_subject(letter.member)] is not letter
        yield replace(letter, state="superseded") if is_old and letter.state == "open" else letter


def _subject(member: MemberDeadLetter) -> object:
    return member.run_id, member.group, member.task, member.index, member.omitted > 0


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def decision_record(names: Names, letter: DeadLetter, code: str) -> Outgoing:
    """The record of a decision about a dead letter; `code` is DISMISSED or REDRIVEN."""
    location = f"{names.dead_letters}/{letter.record.partition}/{letter.record.offset}"
    headers = {
        dead_letters.CODE: code.encode(),
        dead_letters.REASON: f"letter {letter.id} was {code}".encode(),
        dead_letters.ORIGIN: location.encode(),
    }
    value = orjson.dumps({"letter": letter.id, "state": code})
    return Outgoing(
        names.dead_letters, letter.record.key, value, headers=headers, partition=letter.record.partition
    )
