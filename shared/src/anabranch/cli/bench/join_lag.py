"""`bench join-lag`: time from the end of a fan-out's last member to the start of the task that depends on its
join.

The bench's own agent returns when it ran, by its worker's clock, so workers should share a machine or have
synchronized clocks. If no worker has loaded the agent, the times of events are used instead. These are the
timestamps of workers' reports, so the result includes the delay of a report.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.client import BenchClient, NotMeasured, open_bench_client
from anabranch.cli.bench.command import STAMPING, BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import ECHO, STAMP, Document, stamp_request, two_stage_request
from anabranch.cli.render.output import say
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.references import resolve_all

WARM_UP_REQUESTS = 5
"""Warm-up requests, which open connections and load code; not counted."""
PROBE_SECONDS = 5.0
"""Maximum duration of the probe request that only workers with the bench's agent can run."""

BY_AGENTS = "agents"
BY_EVENTS = "events"
_REMARKS = {
    BY_AGENTS: "times from the workers' clocks",
    BY_EVENTS: f"times from events, because no worker was started with --agents {STAMPING}",
}


async def join_lag(settings: Settings, options: BenchOptions, requests: int, members: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{requests:,} requests, each a fan-out of {members:,} and a task that depends on its join"
    return await run_bench(settings, options, words, partial(_measure, requests=requests, members=members))


async def _measure(client: BenchClient, requests: int, members: int) -> Measurement:
    clock = BY_AGENTS if await _workers_stamp(client) else BY_EVENTS
    say(f"Join lag: {_REMARKS[clock]}")
    one = _lag_by_agents if clock == BY_AGENTS else _lag_by_events
    lags = [await one(client, members) for _ in range(WARM_UP_REQUESTS + requests)]
    return join_lag_report(clock, members, Distribution.of(lags[WARM_UP_REQUESTS:]))


def join_lag_report(clock: str, members: int, lags: Distribution) -> Measurement:
    """The figures and the table; `lags` has the join lag of each request, in seconds."""
    requests = len(lags.values)
    document = {"requests": requests, "members": members, "clock": clock, **lags.milliseconds()}
    rows = [("joins", f"{requests:,}", f"of {members:,} members each, {_REMARKS[clock]}")]
    return Measurement(
        "Join lag: end of the last member to start of the dependent task", document, rows, [("join lag", lags)]
    )


async def _workers_stamp(client: BenchClient) -> bool:
    """True if a worker has loaded the bench's agent: a probe request for it completes in time."""
    async with open_bench_client(client.system, client.clock, PROBE_SECONDS * 2) as probing:
        try:
            await probing.run(stamp_request(PROBE_SECONDS))
        except NotMeasured:
            return False
    return True


async def _lag_by_agents(client: BenchClient, members: int) -> float:
    ended = await client.run(two_stage_request(members, STAMP))
    links, body = client.links, ended.body
    results = await resolve_all(links.store, links.names, body["results"], within=body["session_id"])
    return lag_of_stamps(results)


def lag_of_stamps(results: Document) -> float:
    """Join lag in seconds, from the results of a two-stage request that ran with the bench's agent."""
    return float(results["start"]["started"] - max(stamp["ended"] for stamp in results["ends"]))


async def _lag_by_events(client: BenchClient, members: int) -> float:
    run = await client.system.client.submit(two_stage_request(members, ECHO))
    events = [entry async for batch in run.event_batches() for entry in batch.entries]
    return lag_of_events([(entry.type, entry.task, entry.time) for entry in events])


def lag_of_events(events: list[tuple[str, Any, float]]) -> float:
    """Join lag in seconds, from the events of a two-stage request, each as (type, task, time).

    Raises:
        NotMeasured: the events contain no join: the run did not complete.
    """
    ends = [time for kind, task, time in events if (kind, task) == ("task.completed", "first")]
    starts = [time for kind, task, time in events if (kind, task) == ("task.started", "second")]
    if not ends or not starts:
        raise NotMeasured("failed", "the run did not complete: its events contain no join")
    return min(starts) - max(ends)
