"""The record of a run in the store, also called its tombstone: what is known of an admitted run for good. Pure.

The owner of the run writes it when it admits the run, and again with the body of the final record when the run
ends. It expires with the results of the run. Until then it answers a repeated request, and it is the first place
where clients and services look a run up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.project import project_of


@dataclass(frozen=True, slots=True)
class RunRecord:
    """An admitted run.

    Attributes:
        body_hash: the hash of the request's body; None if the record was rebuilt from the results of a run whose
            request is no longer on the log. Then any body with the same request id counts as the same request.
        offset: the log position of the record that admitted the run; see `core.admissions`.
        accepted: the body of its `run.accepted` record.
        accepted_at, ended_at: seconds since the epoch; `ended_at` is None while the run is open.
        final: the body of its final record; None while the run is open.
        is_started: True once a run that was admitted with the status `scheduled` has started. `accepted` stays as
            it was published: a repeated request is answered with the same record.
    """

    body_hash: str | None
    offset: int
    session_id: str
    request_id: str
    accepted: dict[str, Any]
    accepted_at: float
    final: dict[str, Any] | None = None
    ended_at: float | None = None
    is_started: bool = False

    @property
    def project(self) -> str:
        return project_of(self.accepted)

    @property
    def name(self) -> str | None:
        return self.accepted.get("name")

    @property
    def retry_of(self) -> str | None:
        """The run id of the run that this one retries; None if it is no retry."""
        return self.accepted.get("retry_of")

    @property
    def final_status(self) -> str | None:
        """`completed`, `failed`, `cancelled` or `timed_out`; None while the run is open."""
        return None if self.final is None else str(self.final["status"])

    def to_document(self) -> dict[str, Any]:
        document = {
            "hash": self.body_hash,
            "offset": self.offset,
            "session_id": self.session_id,
            "request_id": self.request_id,
            "accepted": self.accepted,
            "accepted_at": self.accepted_at,
            "final": self.final,
            "ended_at": self.ended_at,
        }
        if self.is_started:
            document["is_started"] = True
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RunRecord:
        """The record with this document; fields that it does not know are ignored."""
        return cls(
            body_hash=document.get("hash"),
            offset=document["offset"],
            session_id=document["session_id"],
            request_id=document["request_id"],
            accepted=document["accepted"],
            accepted_at=document["accepted_at"],
            final=document.get("final"),
            ended_at=document.get("ended_at"),
            is_started=document.get("is_started", False),
        )

    def encode(self) -> bytes:
        """The value under `Names.tombstone`."""
        return dumps(self.to_document())

    @classmethod
    def decode(cls, value: bytes) -> RunRecord:
        """The record with this value; the reverse of `encode`."""
        return cls.from_document(orjson.loads(value))
