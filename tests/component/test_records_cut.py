"""Records that a log refuses for their size: none is published over the limit, none is retried for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.adapters.limits import MIN_LEARNED_BYTES, RecordLimits, record_bytes
from anabranch.core.errors import RecordTooLarge
from anabranch.core.names import Names
from anabranch.core.wire.fragments import Assembler
from anabranch.core.wire.record_fitting import LEFT_OUT, fit_result
from anabranch.ports import Outgoing
from anabranch.runtime.fitted_log import FittedLog
from anabranch.testing import System

NAMES = Names("t.")
LIMIT = 60_000


class Strict:
    """A log with a size limit for records, which it reports or hides."""

    def __init__(self, says: int = 1_000_000) -> None:
        self.says = says
        self.limits = RecordLimits()
        self.taken: list[Outgoing] = []

    async def record_limit(self, topic: str) -> int:
        return self.limits.known(topic, 0) or self.limits.note(topic, self.says)

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        for record in records:
            if (size := record_bytes(record)) > LIMIT:
                self.limits.refused(record.topic, size)
                raise RecordTooLarge(record.topic, size, LIMIT)
        self.taken += records
        return range(len(self.taken))


def fitted(inner: Any) -> FittedLog:
    return FittedLog(inner, NAMES)


async def test_records_shrink_until_a_log_with_an_unknown_limit_accepts_them() -> None:
    """An installation may forbid clients to read the settings of a topic."""
    inner = Strict()

    await fitted(inner).publish([Outgoing(NAMES.groups, "s", b"x" * 900_000)])

    assembler = Assembler()
    assert [assembler.whole(each.value, at, 0.0) for at, each in enumerate(inner.taken)][-1] == b"x" * 900_000


def test_no_limit_is_learned_from_records_that_cannot_be_too_large() -> None:
    """A refusal may have another reason than one record's size."""
    limits = RecordLimits()
    limits.refused("t", 4_000)

    assert limits.note("t", 1_000_000) == MIN_LEARNED_BYTES


def test_a_lowered_limit_is_obeyed_as_the_log_reports_it() -> None:
    limits = RecordLimits()
    limits.note("t", 1_000_000)
    limits.refused("t", 900_000)

    assert limits.note("t", 500_000) == 500_000
    assert (limits.smallest(1_000_000), limits.smallest(300_000)) == (500_000, 300_000)


async def test_a_dead_letter_of_a_small_record_with_large_headers_fits() -> None:
    """The size of its value alone would not show it, and any client may write such a request."""
    inner = Strict(says=LIMIT)
    headers = {"theirs": b"h" * 100_000, "anabranch_code": b"undecodable"}

    await fitted(inner).publish([Outgoing(NAMES.dead_letters, None, b"{", headers=headers)])

    assert len(inner.taken) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"value": [[["x" * 1_000] * 200]]},
        {"value": {"a": "x" * 200_000}},
        {"results": {"a": "x" * 200_000}, "failures": [{"group": "g", "details": ["x" * 200_000]}]},
        {"errors": [{"hint": {"deep": "x" * 200_000}}], "warnings": ["x" * 200_000]},
    ],
)
async def test_a_result_fits_whatever_it_contains(body: dict[str, Any]) -> None:
    value = orjson.dumps({"run_id": "r", **body})

    found = fit_result(value, LIMIT)

    assert len(found) <= LIMIT
    assert any(LEFT_OUT in each for each in orjson.loads(found)["warnings"])
    assert orjson.loads(found)["run_id"] == "r"


# --- offers ----------------------------------------------------------------------------------------------


def test_offers_are_rebuilt_once_one_of_their_records_is_too_large(
    anabranch_system: Callable[..., System],
) -> None:
    """The limit was lowered while the service was running. Items stored apart are deleted with their run."""

    def many(task: Task) -> list[str]:
        return ["x" * 70_000] * 20

    def length(task: Task) -> int:
        return len(task.variables["item"])

    s = anabranch_system(agents={"many": many, "length": length})
    log: Any = s.embedded.log
    log._inner._broker.max_record_bytes = LIMIT
    wide = task("wide", "length", dependencies=["items"], expansion_config=array("items"))
    run = s.submit(request(task("items", "many"), wide, timeout=86_400))

    result = run.result(600)

    assert (result.status, result.results["wide"]) == ("completed", [70_000] * 20)
    alive(s)
    server: Any = s.embedded.store
    kept = [key for key in server._server._values if ":items:" in key]
    assert kept, "no record could hold them"
    s.advance(2 * 3_600)
    assert not [key for key in kept if s.wait(s.embedded.store.get([key]))[0] is not None]
