"""The message with the state of one open run. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class Snapshot(Message):
    """The state of an open run after all records up to offset `upto`, appended by the owner of its partition.

    Payload: the document of the state, then its byte strings (see `core.state_codec`). Values above the inline
    limit are references in it, as in other records. `core.snapshots` says which snapshots count.
    """

    type: Literal["snapshot"] = "snapshot"
    run_id: str
    admission: int
    generation: int = 0
    """Generation of the log (see `core.admissions`): a snapshot of an earlier life of the topic does not count."""
    opened_at: int
    """Offset of the record that opened the run."""
    upto: int
    version: int
    """Version of the encoding of the state, which each service counts for itself."""
    touched_at: float
    """Timestamp of the last record before that may have changed the run, in seconds since the epoch."""
