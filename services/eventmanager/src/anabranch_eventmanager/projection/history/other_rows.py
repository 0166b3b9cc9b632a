"""The rows of dead letters and of the audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from anabranch.core.timestamps import parse_timestamp
from anabranch.core.wire import dead_letters
from anabranch.core.wire.dead_letters import MemberDeadLetter
from anabranch.ports import Incoming
from anabranch.ports.history import HistoryWrites, Row


def dead_letter_writes(records: Sequence[Incoming]) -> HistoryWrites:
    """The rows of records of the topic of dead letters."""
    return HistoryWrites({"history_dead_letters": [_dead_letter(record) for record in records]})


def audit_writes(records: Sequence[Incoming]) -> HistoryWrites:
    """The rows of records of the audit topic."""
    rows = [row for record in records if (row := _audit(record)) is not None]
    return HistoryWrites({"history_audit": rows})


def _dead_letter(record: Incoming) -> Row:
    # The last header of a name is that of the dead letter: the original may have headers of these names too.
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    row: Row = {
        "partition": record.partition,
        "offset": record.offset,
        "id": _text(headers.get(dead_letters.DEAD_LETTER_ID)),
        "code": _text(headers.get(dead_letters.CODE)),
        "project": _text(headers.get(dead_letters.PROJECT)),
        "origin": _text(headers.get(dead_letters.ORIGIN)),
        "signature": _text(headers.get(dead_letters.SIGNATURE)),
        "reason": _text(headers.get(dead_letters.REASON)),
        **dict.fromkeys(("run_id", "group", "task", "index", "agent", "error_type")),
        "time": record.timestamp,
    }
    if row["code"] == dead_letters.MEMBER_FAILED:
        row |= _member(record.value)
    return row


def _member(value: bytes) -> dict[str, Any]:
    try:
        letter = MemberDeadLetter.model_validate_json(value)
    except ValidationError:
        return {}
    names = ("run_id", "group", "task", "index", "agent", "error_type")
    return {name: _text(getattr(letter, name)) for name in names} | {"reason": _text(letter.message)}


def _audit(record: Incoming) -> Row | None:
    try:
        document = orjson.loads(record.value)
        time = parse_timestamp(document["time"])
    except (orjson.JSONDecodeError, ValueError, KeyError, TypeError):
        return None
    names = ("actor", "role", "project", "action", "run_id", "outcome", "detail", "remote")
    row = {name: _text(document.get(name)) for name in names}
    return {"partition": record.partition, "offset": record.offset, "time": time} | row


def _text(value: Any) -> Any:
    """Without null characters, which PostgreSQL does not store."""
    return value.replace("\x00", "") if isinstance(value, str) else value
