"""The record of a run in the store: its bytes, older records, and what services derive from it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from anabranch.core.errors import Code
from anabranch.core.names import Names, run_id_for
from anabranch.core.request.request_hash import has_other_body, request_id_conflict
from anabranch.core.retention import ttl_for
from anabranch.core.session_owner import SessionOwner
from anabranch.core.wire.run_record import RunRecord

OPEN = RunRecord("h", 7, "s", "q", {"run_id": "r", "project": "billing", "name": "n"}, 12.5)


def test_the_bytes_in_the_store_are_fixed() -> None:
    assert OPEN.encode() == (
        b'{"hash":"h","offset":7,"session_id":"s","request_id":"q",'
        b'"accepted":{"run_id":"r","project":"billing","name":"n"},"accepted_at":12.5,"final":null,"ended_at":null}'
    )


def test_a_record_is_decoded_from_its_own_bytes() -> None:
    ended = replace(OPEN, final={"status": "failed"}, ended_at=13.0)
    assert RunRecord.decode(ended.encode()) == ended
    assert ended.final_status == "failed"
    assert OPEN.final_status is None


def test_missing_and_unknown_fields_are_tolerated() -> None:
    document = OPEN.to_document() | {"accepted": {}, "later": 1}
    del document["hash"], document["final"], document["ended_at"]
    record = RunRecord.decode(orjson.dumps(document))
    assert (record.body_hash, record.final, record.ended_at) == (None, None, None)
    assert (record.project, record.name, record.retry_of) == ("default", None, None)


@pytest.mark.parametrize(("known", "sent", "other"), [("a", "a", False), ("a", "b", True), (None, "b", False)])
def test_only_a_known_hash_conflicts(known: str | None, sent: str, other: bool) -> None:
    assert has_other_body(known, sent) is other
    assert request_id_conflict().code == Code.REQUEST_ID_CONFLICT


def test_a_session_with_the_id_of_a_run_belongs_to_the_project_of_the_run() -> None:
    run_id = run_id_for("q")
    owner = SessionOwner.of_values(run_id, OPEN.encode(), b"other")
    assert owner.project == "billing"
    assert owner.problem("billing") is None
    assert owner.problem("other") is not None


def test_any_other_session_belongs_to_the_project_that_claimed_it() -> None:
    assert SessionOwner.of_values("s", None, b"billing").project == "billing"
    assert SessionOwner.of_values("s", None, None).project is None
    assert SessionOwner.of_values("s", None, None).problem("billing") is None
    assert SessionOwner.keys(Names("t."), "s") == (Names("t.").tombstone("s"), Names("t.").session_project("s"))


def test_values_are_kept_until_the_deadline_and_the_result_ttl_after_it() -> None:
    assert ttl_for(100.0, 40.0, 10.0) == 70.0
    assert ttl_for(100.0, 140.0, 10.0) == 10.0
