"""Adds schedules to random workloads: firings by the clock, through a change of the clocks and takeovers, and a
backfill that is sent several times.

For seeds from `SCHEDULES_FROM` on, without lost topics. Each logical time has one run, with the request id
`<schedule>@<time>`, or where the schedule allows it one event `schedule.missed`: one that is lost never ends, and
one that starts before its time is a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.names import Names
from anabranch.core.schedules.times import firing_id
from anabranch.core.schedules.zones import zone_of
from anabranch.core.timestamps import parse_timestamp, utc_text
from anabranch.ports import Incoming
from anabranch.testing.simulator.daylight import (
    EACH_MINUTE,
    EACH_TWENTY,
    MINUTE,
    ClockPlan,
    draw_clocks,
    expressions,
    naive_times,
)

if TYPE_CHECKING:
    from anabranch.testing.simulator.accounts import Account
    from anabranch.testing.simulator.workload import Expected, Workload

SCHEDULES_FROM, SCHEDULES_UNTIL = 10_000_000, 10_100_000
HOUR = 3_600.0
FIRST_FIRING = 44.0
"""Virtual seconds before which no firing is due: a put that waits for a server is applied before."""
PUTS = (0.1, 20.0)
OVERLAPS = ("buffer_all", "allow")
CATCH_UP_ALL = {"window": "1d", "runs": "all"}
MAY_MISS_SHARE = 0.5

MakeRequest = Callable[[Random, int, "Workload"], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LogicalFiring:
    """The logical time of a schedule that has a run, or where `may_miss`, an event that it was missed."""

    schedule: str
    at: float
    may_miss: bool = False


def has_schedules(seed: str) -> bool:
    """True if a seed has schedules."""
    return seed.isdigit() and SCHEDULES_FROM <= int(seed) < SCHEDULES_UNTIL


def clocks_of(seed: str) -> ClockPlan:
    """The clocks of a seed."""
    return draw_clocks(seed, FIRST_FIRING) if has_schedules(seed) else ClockPlan()


def add_schedules(
    seed: str, workload: Workload, make_request: MakeRequest, expect: Callable[[dict[str, Any]], Expected]
) -> None:
    """Add a schedule that fires by the clock, one with a backfill, and one at a change of the clocks, with their
    expected runs."""
    random = Random(f"schedules {seed}")
    clocks = clocks_of(seed)
    epoch, first = clocks.epoch, clocks.epoch + FIRST_FIRING
    by_clock = [first + each + random.choice((0.0, 0.5)) for each in range(random.randint(1, 3))]
    body = _body(random, workload, make_request)
    put = {"at": by_clock, "overlap": random.choice(OVERLAPS), "catch_up": CATCH_UP_ALL, "request": body}
    _send(workload, "clock", "put", PUTS, **put)
    past = [epoch - HOUR * number for number in range(random.randint(1, 3), 0, -1)]
    # `every` counts from 1970 on, and virtual time begins at any second. Its own times are before the put.
    every = {"every": "1h", "phase": epoch % HOUR, "to": utc_text(epoch)}
    backfilled = _body(random, workload, make_request)
    _send(workload, "past", "put", PUTS, **every, request=backfilled)
    times = [2.0 + random.random() * 30 for _ in range(random.randint(1, 3))]
    found = {"from": utc_text(past[0]), "to": utc_text(past[-1]), "overlap": random.choice(OVERLAPS)}
    _send(workload, "past", "backfill", times, **found)
    # A last one, once no fault happens any more: records before the put are refused.
    _send(workload, "past", "backfill", [FIRST_FIRING], **found)
    for schedule, moments, request in (("clock", by_clock, body), ("past", past, backfilled)):
        for at in moments:
            _expect(workload, LogicalFiring(schedule, at), request, expect)
    _add_cron(random, clocks, workload, make_request, expect)


def _add_cron(
    random: Random,
    clocks: ClockPlan,
    workload: Workload,
    make_request: MakeRequest,
    expect: Callable[[dict[str, Any]], Expected],
) -> None:
    """Add a schedule of cron expressions, at the change of the clocks. It may miss firings, or must not."""
    start, zone = clocks.epoch + FIRST_FIRING, zone_of(clocks.zone)
    end = max(clocks.change + MINUTE, start + clocks.jump + MINUTE)
    lines = expressions(random, clocks)
    moments = naive_times(lines, zone, start, end)
    if not moments:
        lines = [EACH_TWENTY if clocks.jump else EACH_MINUTE]
        moments = naive_times(lines, zone, start, end)
    request = _body(random, workload, make_request)
    may_miss = random.random() < MAY_MISS_SHARE
    overlap, catch_up = random.choice(OVERLAPS), CATCH_UP_ALL
    if may_miss:
        overlap = random.choice(("skip", "buffer_one", "cancel_other", "allow"))
        window = random.choice(("10m", "1h", "1d"))
        catch_up = {"window": window, "runs": random.choice(("latest", "all", "none"))}
    limits = {"from": utc_text(start), "to": utc_text(end)}
    put = {"cron": lines, "timezone": clocks.zone, "overlap": overlap, "catch_up": catch_up, **limits}
    _send(workload, "cron", "put", PUTS, **put, request=request)
    for at in moments:
        _expect(workload, LogicalFiring("cron", at, may_miss), request, expect, is_exact=overlap != "cancel_other")


def _expect(
    workload: Workload,
    firing: LogicalFiring,
    request: dict[str, Any],
    expect: Callable[[dict[str, Any]], Expected],
    *,
    is_exact: bool = True,
) -> None:
    expected = expect({**request, "request_id": firing_id(firing.schedule, firing.at)})
    expected.firing = firing
    expected.is_exact = expected.is_exact and is_exact
    workload.runs.append(expected)


def _body(random: Random, workload: Workload, make_request: MakeRequest) -> dict[str, Any]:
    # With a policy, no task of the request waits for values from outside.
    request = make_request(random, 900, replace(workload, policy="append"))
    return {"task_groups": request["task_groups"]}


def _send(workload: Workload, schedule: str, action: str, times: Any, **fields: Any) -> None:
    record = {"type": "schedule", "action": action, "id": schedule, **fields}
    workload.sent += [(at, record) for at in times]


class FiringCheck:
    """Checks the records that submit firings: none before its logical time, and each time one run id. Notes the
    firings that were missed.

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

    def missed(self, entries: Iterable[Mapping[str, Any]], accounts: Iterable[Account]) -> bool:
        """Note what the events of a schedule tell of missed firings. True if there are some."""
        found = [each["data"] for each in entries if each.get("type") == "schedule.missed"]
        for account in accounts if found else ():
            firing = account.expected.firing if account.expected is not None else None
            for entry in found:
                if firing is None or firing.schedule != entry["schedule"] or not _includes(entry, firing.at):
                    continue
                account.is_missed = True
                if not firing.may_miss:
                    self._violated(f"the firing of {firing} was missed: {entry['reason']}")
        return bool(found)


def _includes(entry: Mapping[str, Any], at: float) -> bool:
    """Whether an event is about a logical time: its own, or one up to `until`."""
    first, until = (parse_timestamp(entry[name]) if name in entry else None for name in ("at", "until"))
    return first == at or (first is not None and until is not None and first <= at < until)


def misreported(account: Account) -> str | None:
    """What is wrong with a firing that was missed: it has a run."""
    if account.is_missed and (account.finals or account.admissions):
        return f"{account.expected and account.expected.firing} was missed, and has a run"
    return None
