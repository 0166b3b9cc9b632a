"""What `helm test` runs in a pod of the release, with its settings.

`check.py servers`: Kafka and Redis answer, and all topics exist.
`check.py request`: submits a request, through the gateway if CHECK_GATEWAY names it, and waits for its result.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

REQUEST = Path(__file__).with_name("request.json")


def say(text: str) -> None:
    """Print one line to the log of the pod."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def check_servers() -> int:
    """Connect to both servers, look for the topics, and return the exit code."""
    from anabranch.core.errors import AnabranchError

    try:
        await connect_and_look()
    except AnabranchError as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    return 0


async def connect_and_look() -> None:
    """Say what answers. Raises AnabranchError for a server or topic that is missing."""
    from anabranch.runtime.process.resources import connect
    from anabranch.runtime.process.settings import Settings
    from anabranch.runtime.process.topics import ensure_topics

    settings = dataclasses.replace(Settings.load(), create_topics=False)
    resources = await connect(settings)
    try:
        await ensure_topics(resources.log, settings)
        say(f"Kafka at {settings.brokers} has the topics of {settings.prefix}")
        await resources.store.get([f"{settings.prefix}check"])
        say("Redis answers")
    finally:
        await resources.close()


def submit(gateway: str, key: str, body: bytes, seconds: float) -> dict[str, Any]:
    """Submit the request through the gateway, and return the final record, or the response of a run still open."""
    headers = {"Content-Type": "application/json", "Prefer": f"wait={seconds:g}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{gateway}/v1/runs", body, headers)
    with urllib.request.urlopen(request, timeout=seconds + 10) as response:
        found: dict[str, Any] = json.load(response)
    return found


def check_request() -> int:
    """Run the request and return the exit code."""
    gateway = os.environ.get("CHECK_GATEWAY")
    if not gateway:
        say("there is no gateway, or no key for it: the request goes to Kafka")
        os.execvp("anabranch", ["anabranch", "run", str(REQUEST)])
    seconds = float(os.environ.get("CHECK_TIMEOUT", "120"))
    try:
        record = submit(gateway, os.environ.get("CHECK_API_KEY", ""), REQUEST.read_bytes(), seconds)
    except urllib.error.HTTPError as error:
        say(f"{gateway} refused the request with {error.code}: {error.read().decode(errors='replace')}")
        return 1
    except OSError as error:
        say(f"{gateway} cannot be reached: {error}. Are its pods ready?")
        return 1
    say(json.dumps(record))
    if record.get("status") == "completed":
        return 0
    run = record.get("run_id")
    say(f"the run has not completed within {seconds:g} s: `anabranch why {run}` shows what it waits for")
    return 1


if __name__ == "__main__":
    if sys.argv[1:] == ["servers"]:
        sys.exit(asyncio.run(check_servers()))
    sys.exit(check_request())
