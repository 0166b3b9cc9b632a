"""`signal` and `publish` end waits, `approve` and `reject` decide about a task that waits for a person."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.sdk.approvals import Answerable, DecisionRefused

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def send_signal(
    settings: Settings, run: str, name: str, value: str, *, signal_id: str | None, json: bool
) -> int:
    """Send a signal. A run that has ended gets none; for one that is not submitted yet it is kept.

    Raises:
        Misconfigured: the value is not JSON.
    """
    payload = json_of("JSON", value)
    async with open_installation(settings) as system:
        done = await system.signal(run, name, payload, signal_id)
    if json:
        print_json({"run_id": done.run_id, "action": "signal", "known": done.known, "ended": done.ended})
    if done.ended is not None:
        say(f"Run {done.run_id} had already ended: {done.ended}. No task waits for a signal.")
    elif done.known:
        say(f"Signal {name!r} sent to run {done.run_id}.")
    else:
        say(f"There is no run {run} yet. Signal {name!r} is kept for it.")
    return COMPLETED


async def publish(settings: Settings, event: Mapping[str, Any], value: str, *, json: bool) -> int:
    """Publish an event; fields of it that are None are left out.

    Raises:
        Misconfigured: the data is not JSON.
        RequestRefused: a field is invalid.
    """
    given = {name: each for name, each in event.items() if each is not None}
    async with open_installation(settings) as system:
        event_id = await system.publish({**given, "data": json_of("JSON", value)})
    if json:
        print_json({"name": event["name"], "key": event["key"], "id": event_id})
    say(f"Event {event['name']!r} of the key {event['key']!r} published, id {event_id}.")
    return COMPLETED


async def decide(
    settings: Settings,
    run: str,
    task: str,
    decision: str,
    *,
    index: int | None,
    data: str | None,
    comment: str,
    by: str | None,
    json: bool,
) -> int:
    """Decide about a task; returns once the decision counts.

    Raises:
        Misconfigured: the decision does not count, or the data is not JSON.
    """
    group, _, name = task.rpartition("/")
    wanted = Answerable(
        run,
        name,
        decision,
        group=group or None,
        index=index,
        data=None if data is None else json_of("--data", data),
        comment=comment,
        by=by or getpass.getuser(),
    )
    async with open_installation(settings) as system:
        try:
            done = await system.decide_approval(wanted)
        except DecisionRefused as refused:
            raise Misconfigured(task, str(refused), _hint(refused)) from refused
    if json:
        print_json(asdict(done))
    member = "" if done.index is None else f"[{done.index}]"
    more = "" if done.ended else " More people have to decide."
    say(f"{done.group}/{done.task}{member} of run {done.run_id}: {done.decision}, by {done.by}.{more}")
    return COMPLETED


def _hint(refused: DecisionRefused) -> str:
    if refused.code in ("not_found", "not_waiting", "gone"):
        return "see what waits: anabranch status RUN"
    return "correct the data and decide again" if refused.code == "form" else ""


def json_of(name: str, text: str) -> Any:
    """The value of a JSON text; text that begins like no JSON value is not guessed to be a string.

    Raises:
        Misconfigured: it is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Misconfigured(name, f"{text[:100]!r} is not JSON: {error}", "write a text as '\"text\"'") from error
