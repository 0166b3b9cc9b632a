"""`bench join-lag`: from the end of a fan-out's last member to the start of the task that depends on its join.

The bench's own agent says when it ran, by its worker's clock; several workers should be on one machine, or on
clocks that agree. Workers that lack the agent leave the events, whose times are those of the records that told
the owner: what a short member's worker takes to tell of it is then part of the dependent's start.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.command import STAMPING, BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import ECHO, STAMP, Document, stamp_request, two_stage_request
from anabranch.cli.bench.submitting import Asker, NotMeasured, asker
from anabranch.cli.render.output import say
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.references import resolve_all

FIRST_REQUESTS = 5
"""Not counted: they open connections and load code."""
PROBE_SECONDS = 5.0

BY_AGENTS = "agents"
BY_EVENTS = "events"
_REMARKS = {
    BY_AGENTS: "by the clocks of the workers, as the agents returned them",
    BY_EVENTS: f"by the times of the events: no worker was started with --agents {STAMPING}",
}


async def join_lag(settings: Settings, options: BenchOptions, requests: int, members: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{requests:,} times a fan-out of {members:,} and a task after its join"
    return await run_bench(settings, options, words, partial(_measure, requests=requests, members=members))


async def _measure(asking: Asker, requests: int, members: int) -> Measurement:
    clock = BY_AGENTS if await _workers_stamp(asking) else BY_EVENTS
    say(f"Times are taken {_REMARKS[clock]}")
    one = _lag_by_agents if clock == BY_AGENTS else _lag_by_events
    lags = [await one(asking, members) for _ in range(FIRST_REQUESTS + requests)]
    return join_lag_report(clock, members, Distribution.of(lags[FIRST_REQUESTS:]))


def join_lag_report(clock: str, members: int, lags: Distribution) -> Measurement:
    """The figures and the table; `lags` has the seconds of each request."""
    requests = len(lags.values)
    document = {"requests": requests, "members": members, "clock": clock, **lags.milliseconds()}
    rows = [("joins", f"{requests:,}", f"of {members:,} members each, {_REMARKS[clock]}")]
    return Measurement("From the last member's end to its dependent's start", document, rows, [("join lag", lags)])


async def _workers_stamp(asking: Asker) -> bool:
    """Whether the workers have the bench's agent: a request for it is answered in time."""
    async with asker(asking.place, asking.clock, PROBE_SECONDS * 2) as probing:
        try:
            await probing.ask(stamp_request(PROBE_SECONDS))
        except NotMeasured:
            return False
    return True


async def _lag_by_agents(asking: Asker, members: int) -> float:
    ended = await asking.ask(two_stage_request(members, STAMP))
    links, body = asking.links, ended.body
    results = await resolve_all(links.store, links.names, body["results"], within=body["session_id"])
    return lag_of_stamps(results)


def lag_of_stamps(results: Document) -> float:
    """Seconds out of the results of a two-stage request whose agents stamped."""
    return float(results["start"]["started"] - max(stamp["ended"] for stamp in results["ends"]))


async def _lag_by_events(asking: Asker, members: int) -> float:
    run = await asking.place.client.submit(two_stage_request(members, ECHO))
    events = [entry async for batch in run.event_batches() for entry in batch.entries]
    return lag_of_events([(entry.type, entry.task, entry.time) for entry in events])


def lag_of_events(events: list[tuple[str, Any, float]]) -> float:
    """Seconds out of a two-stage request's events, each as type, task, time.

    Raises:
        NotMeasured: there is no such join among them: the run did not complete.
    """
    ends = [time for kind, task, time in events if (kind, task) == ("task.completed", "first")]
    starts = [time for kind, task, time in events if (kind, task) == ("task.started", "second")]
    if not ends or not starts:
        raise NotMeasured("failed", "the events of a run tell of no join")
    return min(starts) - max(ends)
