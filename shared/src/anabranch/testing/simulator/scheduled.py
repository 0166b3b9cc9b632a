"""Adds schedules to random workloads: firings by the clock, and a backfill that is sent several times.

For seeds from `SCHEDULES_FROM` on, without lost topics. Each logical time has one run, with the request id
`<schedule>@<time>`: one that is lost never ends, and one that starts before its time is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.names import Names
from anabranch.core.schedules.times import firing_id
from anabranch.core.timestamps import utc_text
from anabranch.ports import Incoming
from anabranch.testing.loop import EPOCH

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected, Workload

SCHEDULES_FROM, SCHEDULES_UNTIL = 10_000_000, 10_100_000
HOUR = 3_600.0
FIRST_FIRING = 44.0
"""Virtual seconds before which no firing is due: a put that waits for a server is applied before."""
PUTS = (0.1, 20.0)
OVERLAPS = ("buffer_all", "allow")


def has_schedules(seed: str) -> bool:
    """True if a seed has schedules."""
    return seed.isdigit() and SCHEDULES_FROM <= int(seed) < SCHEDULES_UNTIL


def add_schedules(
    seed: str,
    workload: Workload,
    make_request: Callable[[Random, int, Workload], dict[str, Any]],
    expect: Callable[[dict[str, Any]], Expected],
) -> None:
    """Add a schedule that fires by the clock, and one with a backfill, with their expected runs."""
    random = Random(f"schedules {seed}")
    by_clock = [EPOCH + FIRST_FIRING + each + random.choice((0.0, 0.5)) for each in range(random.randint(1, 3))]
    catch_up = {"window": "1d", "runs": "all"}
    body = _body(random, workload, make_request)
    put = {"at": by_clock, "overlap": random.choice(OVERLAPS), "catch_up": catch_up, "request": body}
    _send(workload, "clock", "put", PUTS, **put)
    past = [EPOCH - HOUR * number for number in range(random.randint(1, 3), 0, -1)]
    backfilled = _body(random, workload, make_request)
    _send(workload, "past", "put", PUTS, every="1h", request=backfilled)
    times = [2.0 + random.random() * 30 for _ in range(random.randint(1, 3))]
    found = {"from": utc_text(past[0]), "to": utc_text(past[-1]), "overlap": random.choice(OVERLAPS)}
    _send(workload, "past", "backfill", times, **found)
    # A last one, once no fault happens any more: records before the put are refused.
    _send(workload, "past", "backfill", [FIRST_FIRING], **found)
    for schedule, moments, request in (("clock", by_clock, body), ("past", past, backfilled)):
        for at in moments:
            workload.runs.append(expect({**request, "request_id": firing_id(schedule, at)}))


def _body(
    random: Random, workload: Workload, make_request: Callable[[Random, int, Workload], dict[str, Any]]
) -> dict[str, Any]:
    # With a policy, no task of the request waits for values from outside.
    request = make_request(random, 900, replace(workload, policy="append"))
    return {"task_groups": request["task_groups"]}


def _send(workload: Workload, schedule: str, action: str, times: Any, **fields: Any) -> None:
    record = {"type": "schedule", "action": action, "id": schedule, **fields}
    workload.sent += [(at, record) for at in times]


class FiringCheck:
    """Checks the records that submit firings: none before its logical time, and each time one run id.

    Args:
        violated: told each violation.
    """

    def __init__(self, names: Names, violated: Callable[[str], None]) -> None:
        self._topic = names.runs
        self._violated = violated
        self._runs: dict[tuple[str, float], str] = {}

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        if record.topic != self._topic or b'"schedule":{' not in record.value:
            return
        header = orjson.loads(record.value.partition(b"\n")[0])
        link = header.get("schedule")
        if header.get("type") != "submit" or not isinstance(link, dict):
            return
        if link.get("source", "clock") == "clock" and record.timestamp < link["at"]:
            self._violated(
                f"{header['request_id']} was submitted at {utc_text(record.timestamp)}, before its time"
            )
        known = self._runs.setdefault((link["id"], link["at"]), header["run_id"])
        if known != header["run_id"]:
            self._violated(f"{header['request_id']} has two runs: {known} and {header['run_id']}")
