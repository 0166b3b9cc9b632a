"""Version history of a session's context: one entry for each change of a key, with its writer and time. Pure.

The number of a version is the rank of its change in its session, and is not stored. Changes are ordered by their
position on the session's log, so a change that is written again replaces itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Literal

import orjson

from anabranch.core.json_documents import dumps

MAX_VERSIONS = 1_000
"""Maximum number of changes that are kept of one session; older ones are only counted."""
# A position is an exact number in Lua below 2**53, which leaves 35 bits for offsets.
_NTH_BITS = 18

Kind = Literal["context", "result", "outside"]


@dataclass(frozen=True, slots=True)
class Change:
    """A value that was written to a key.

    Args:
        kind: a value of a request's context, a result, or a value from outside when a run first used it.
        group, task: the task that produced it, null unless it is a result; of several tasks the last in declared
            order.
        time: seconds since the epoch.
        size: bytes of the value as JSON.
        hash: the first 128 bits of the SHA-256 of the JSON of `value`, in hexadecimal digits.
        value: the value, or a reference to it.
        policy: the policy of the key in the run's request, null for the default.
        writers: with a policy, all tasks that contributed, as `group/task`.
        submitted: with a policy, the time at which the run was submitted, in seconds since the epoch.
        replaces: with a policy, the run that this run retries.
    """

    key: str
    kind: Kind
    run_id: str
    time: float
    size: int
    hash: str
    value: Any
    group: str | None = None
    task: str | None = None
    policy: str | None = None
    writers: tuple[str, ...] = ()
    submitted: float | None = None
    replaces: str | None = None

    @classmethod
    def of_entry(cls, entry: bytes) -> Change:
        """The change in these bytes, made by `entry_of`; fields of a later release are ignored."""
        document = orjson.loads(entry)
        known = {name: document[name] for name in _FIELDS if name in document}
        return cls(**known | {"writers": tuple(known.get("writers", ()))})


_FIELDS = tuple(each.name for each in fields(Change))


def entry_of(
    key: str,
    kind: Kind,
    run_id: str,
    time: float,
    data: bytes,
    size: int,
    *,
    group: str | None = None,
    task: str | None = None,
    policy: str | None = None,
    writers: tuple[str, ...] = (),
    submitted: float | None = None,
    replaces: str | None = None,
) -> bytes:
    """The bytes to store of a change, without the fields that are null or empty; see `Change`.

    Args:
        data: the JSON of the value, or of the reference to it.
        size: bytes of the value as JSON.
    """
    document: dict[str, Any] = {
        "key": key,
        "kind": kind,
        "run_id": run_id,
        "time": time,
        "size": size,
        "hash": hashlib.sha256(data).hexdigest()[:32],
    }
    if group is not None:
        document["group"] = group
    if task is not None:
        document["task"] = task
    if policy is not None:
        document["policy"] = policy
    if writers:
        document["writers"] = writers
    if submitted is not None:
        document["submitted"] = submitted
    if replaces is not None:
        document["replaces"] = replaces
    # The value is encoded already: a fragment is inserted without parsing it.
    document["value"] = orjson.Fragment(data)
    return dumps(document)


def position_of(offset: int, nth: int) -> int:
    """The position of the `nth` change (from 0) that the record at `offset` of the session's partition made."""
    return (offset << _NTH_BITS) + min(nth, (1 << _NTH_BITS) - 1)
