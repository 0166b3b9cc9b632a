"""Selects dead letters, and shows them grouped by failure or one by one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.errors import Misconfigured
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.dead_letters.reader import DeadLetter, read_dead_letters

if TYPE_CHECKING:
    from anabranch.sdk.client import Client


async def select(client: Client, *, run: str | None, signature: str | None) -> list[DeadLetter]:
    """The dead letters of a run, or with one signature, or all. Raises ServerUnavailable."""
    found = await read_dead_letters(client.log, client.names)
    run_id = None if run is None else await client.run_id_of(run)
    return [
        letter
        for letter in found
        if (run_id is None or letter.run_id == run_id) and signature in (None, letter.signature)
    ]


def with_ids(found: Iterable[DeadLetter], ids: Sequence[str]) -> list[DeadLetter]:
    """The dead letters with these ids.

    Raises:
        Misconfigured: there is none with one of the ids.
    """
    by_id = {letter.id: letter for letter in found}
    missing = [each for each in ids if each not in by_id]
    if missing:
        raise no_such_dead_letter(missing[0])
    return [by_id[each] for each in dict.fromkeys(ids)]


def no_such_dead_letter(letter_id: str) -> Misconfigured:
    """The error for an id without a dead letter."""
    return Misconfigured(letter_id, "no such dead letter", "ids are partition:offset; see: anabranch dlq list")


# --- documents -----------------------------------------------------------------------------------


def group_by_failure(found: Iterable[DeadLetter]) -> list[dict[str, Any]]:
    """One document for each signature, the group with the latest dead letter first."""
    groups: dict[str, list[DeadLetter]] = {}
    for letter in found:
        groups.setdefault(letter.signature, []).append(letter)
    documents = [_group(signature, letters) for signature, letters in groups.items()]
    return sorted(documents, key=lambda group: str(group["last"]), reverse=True)


def _group(signature: str, found: Sequence[DeadLetter]) -> dict[str, Any]:
    last = found[-1]  # the reader returns dead letters in order of time
    return {
        "signature": signature,
        "count": len(found),
        "code": last.code,
        "agent": last.member.agent if last.member else None,
        "error": last.error,
        "first": rfc3339(found[0].record.timestamp),
        "last": rfc3339(last.record.timestamp),
        "held": sum(letter.member is not None and letter.member.held for letter in found),
        "example": last.id,
        "ids": [letter.id for letter in found],
        "runs": sorted({letter.run_id for letter in found if letter.run_id is not None}),
    }


def to_document(letter: DeadLetter) -> dict[str, Any]:
    """All details of a dead letter; bytes that are not UTF-8 are in base64."""
    reason = letter.reason
    return {
        "id": letter.id,
        "state": letter.state,
        "time": rfc3339(letter.record.timestamp),
        "signature": letter.signature,
        "code": letter.code,
        "error": letter.error,
        "reason": orjson.loads(reason) if letter.problems else reason,
        "origin": letter.origin,
        "run_id": letter.run_id,
        "member": letter.member.model_dump(mode="json") if letter.member else None,
        "key": _readable(letter.record.key),
        "headers": [[name, _readable(value)] for name, value in letter.record.headers],
        "bytes": len(letter.record.value),
        "is_cut": letter.is_cut,
        "value": _readable(letter.record.value),
    }


def _readable(data: bytes | None) -> Any:
    """UTF-8 as text, other bytes as `{"base64": ...}`."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
