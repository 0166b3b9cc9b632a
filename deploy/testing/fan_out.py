"""A fan-out over a gateway's HTTP API, for the scripts of this folder.

    fan_out.py submit URL MEMBERS SECONDS   prints the run's id; each member sleeps SECONDS and returns its number
    fan_out.py progress URL RUN MEMBERS     waits until MEMBERS members have completed; fails if the run has ended
    fan_out.py verify URL RUN MEMBERS       waits until the run has ended; fails unless each member is in the
                                            result exactly once, and completed once

Needs only Python. A gateway that does not respond is asked again: it may be the one that was killed.
$ANABRANCH_API_KEY is sent if it is set.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

DEADLINE_SECONDS = int(os.environ.get("PATIENCE", "240"))
POLL_SECONDS = 0.2
PAGE = 10_000


def call(url: str, document: object = None) -> Any:
    """The JSON that `url` answers; asks again until it does."""
    headers = {"content-type": "application/json"}
    if key := os.environ.get("ANABRANCH_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    body = None if document is None else json.dumps(document).encode()
    last: Exception | None = None
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code < 500 and refused.code not in (404, 429):
                sys.exit(f"fan_out: {url}: {refused.code} {refused.read().decode(errors='replace')}")
            last = refused
        except (OSError, json.JSONDecodeError) as lost:
            last = lost
        time.sleep(POLL_SECONDS)
    sys.exit(f"fan_out: {url}: no answer in {DEADLINE_SECONDS} s: {last}")


def submit(url: str, members: int, seconds: float) -> None:
    task = {
        "name": "each",
        "agent": "sleep",
        "expansion_config": {"type": "array", "array_mapping": {"item": list(range(members))}},
        "inputs": {"seconds": seconds, "value": "{item}"},
        "result_keys": ["out"],
    }
    document = {"name": "fan-out", "task_groups": [{"name": "g", "tasks": [task]}]}
    print(call(f"{url}/v1/runs", document)["run_id"])


def progress(url: str, run: str, members: int) -> None:
    done = 0
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        view = call(f"{url}/v1/runs/{run}")
        if view["status"] not in ("accepted", "running"):
            sys.exit(f"fan_out: {run} has ended ({view['status']}) before {members} members were seen to complete")
        done = view["groups"].get("g", {}).get("tasks", {}).get("each", {}).get("completed", 0)
        if done >= members:
            print(f"{done} members have completed")
            return
        time.sleep(POLL_SECONDS)
    sys.exit(f"fan_out: {run}: only {done} of {members} members completed in {DEADLINE_SECONDS} s")


def verify(url: str, run: str, members: int) -> None:
    view: Any = {}
    end = time.monotonic() + DEADLINE_SECONDS
    while view.get("ended_at") is None:
        if time.monotonic() > end:
            sys.exit(f"fan_out: {run} has not ended after {DEADLINE_SECONDS} s: {json.dumps(view)[:1000]}")
        time.sleep(POLL_SECONDS)
        view = call(f"{url}/v1/runs/{run}")
    problems = []
    if view["status"] != "completed":
        problems.append(f"it is {view['status']}")
    elif (values := list(result_values(f"{url}/v1/runs/{run}/results/out"))) != list(range(members)):
        problems.append(f"the result has {len(values)} values, {len(set(map(str, values)))} different")
    problems.extend(repeated_events(url, run, members))
    if problems:
        sys.exit(f"fan_out: {run}: {'; '.join(problems)}")
    seconds = view["ended_at"] - view["submitted_at"]
    print(f"{members} members, each once in the result, in {seconds:.1f} s")


def result_values(url: str) -> Iterator[Any]:
    start: int | None = 0
    while start is not None:
        page = call(f"{url}?from={start}&limit={PAGE}")
        yield from page["items"]
        start = page.get("next_from")


def repeated_events(url: str, run: str, members: int) -> Iterator[str]:
    """What the run's events say that one execution of it would not: an end twice, a member twice or never."""
    ends, completed = Counter[str](), Counter[int]()
    after: str | None = ""
    while after is not None:
        query = f"types=task.completed,group.completed,run.completed&limit={PAGE}" + (
            f"&after={after}" if after else ""
        )
        page = call(f"{url}/v1/runs/{run}/events?{query}")
        for event in page["events"]:
            if event["type"] == "task.completed":
                completed[event["index"]] += 1
            else:
                ends[event["type"]] += 1
        after = page.get("next_after") if page["events"] else None
    for kind in ("group.completed", "run.completed"):
        if ends[kind] != 1:
            yield f"{ends[kind]} events {kind}"
    if twice := sum(count > 1 for index, count in completed.items() if index is not None):
        yield f"{twice} members completed more than once"
    if (missing := members - sum(index is not None for index in completed)) != 0:
        yield f"{missing} members never completed"


def main(arguments: list[str]) -> None:
    match arguments:
        case ["submit", url, members, seconds]:
            submit(url, int(members), float(seconds))
        case ["progress", url, run, members]:
            progress(url, run, int(members))
        case ["verify", url, run, members]:
            verify(url, run, int(members))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
