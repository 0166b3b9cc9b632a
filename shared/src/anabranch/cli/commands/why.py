"""`why RUN`: explains what an open run waits for and what to do; `--heal` re-sends pending work.

Needs Kafka and Redis but no running service, or else a gateway such as that of `anabranch dev`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import reached
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import count, print_json, say, seconds, wide_console
from anabranch.cli.render.tables import Column, Form, print_csv, table_of, timestamp
from anabranch.core.reasons import MEANINGS, Fact, Missing, shown
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Nudge
from anabranch.operations.why.examination import Answer, examine
from anabranch.operations.why.observations import Sources
from anabranch.ports import Outgoing
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client

MAX_ROWS = 40


async def why(settings: Settings, run: str, *, heal: bool, form: Form) -> int:
    """Say why a run does not end.

    Raises:
        Misconfigured: there is no such run.
        ServerUnavailable: Kafka or Redis does not answer.
    """
    async with reached(settings) as system:
        answer, healed = await system.why(run, heal=heal)
    now = SystemClock().now()
    if form is Form.JSON:
        print_json(_document(answer) | ({"healed": healed} if heal else {}))
    elif form is Form.CSV:
        print_csv(_columns(now), answer.missing)
    else:
        _show(answer, now)
        for line in healed:
            say(f"Done: {line}.")
        if heal and not answer.is_open:
            say("There is nothing to heal.")
    return COMPLETED


async def explain(client: Client, settings: Settings, run: str, *, heal: bool) -> dict[str, Any]:
    """The document of `why --json`, of a client that is open. Raises as `why`."""
    answer, _, healed = await examined(client, settings, run, heal=heal)
    return _document(answer) | ({"healed": healed} if heal else {})


async def examined(client: Client, settings: Settings, run: str, *, heal: bool) -> tuple[Answer, float, list[str]]:
    """The answer, the time of it, and what was done."""
    now = client.links.clock.now()
    sources = Sources(client.log, client.store, client.names)
    answer = await examine(sources, settings, run, await client.run_id_of(run), now)
    return answer, now, await _heal(client, answer, now) if heal and answer.is_open else []


async def _heal(client: Client, answer: Answer, now: float) -> list[str]:
    """Tell again what the log lacks, and have the session's owner look at everything anew. Both change nothing
    where nothing is missing: whoever gets a fact twice drops it."""
    done = []
    if answer.lost_news:
        await client.log.publish(answer.lost_news)
        done.append(f"told {count(len(answer.lost_news), 'record')} again that the log lacks")
    if answer.session_id is not None:
        silent_for = max(0.0, now - answer.last_at) if answer.last_at is not None else 0.0
        nudge = Nudge(run_id=answer.run_id, silent_for=silent_for)
        await client.log.publish([Outgoing(client.names.groups, answer.session_id, encode(nudge))])
        done.append("asked the session's owner to look again: to tell, offer and read anew what it waits for")
    return done or ["nothing: no owner has the run yet"]


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "run_id": answer.run_id,
        "request_id": answer.request_id,
        "session_id": answer.session_id,
        "status": answer.status,
        "ended_at": answer.ended_at,
        **({"reason": answer.reason} if answer.reason is not None else {}),
        "missing": [each.to_document() for each in answer.missing],
    }


def answer_of(document: Mapping[str, Any]) -> Answer:
    """Rebuild the answer from a document of `why --json`."""
    names = ("run_id", "status", "request_id", "session_id", "ended_at")
    missing = [Missing.of_document(each) for each in document["missing"]]
    return Answer(**{name: document[name] for name in names}, reason=document.get("reason"), missing=missing)


def _show(answer: Answer, now: float) -> None:
    if not answer.is_open:
        ended = f" at {_clock(answer.ended_at)}" if answer.ended_at is not None else ""
        nothing = "" if answer.missing else " Nothing is missing."
        say(f"Run {answer.run_id} has ended{ended}: {answer.status}.{nothing}")
        if answer.reason:
            say(answer.reason)
        _list(answer.missing, now)
        return
    members = sum(each.count for each in answer.missing)
    say(f"Run {answer.run_id} is open: {count(members, 'fact')} missing.")
    _list(answer.missing, now)


def _list(missing: list[Missing], now: float) -> None:
    if missing:
        wide_console().print(table_of(_columns(now), missing[:MAX_ROWS]))
    if len(missing) > MAX_ROWS:
        say(f"and {count(len(missing) - MAX_ROWS, 'more row')}: --json has all of them")
    _meanings({each.fact for each in missing})


def _columns(now: float) -> tuple[Column[Missing], ...]:
    return (
        Column("of", lambda each: "/".join(part for part in (each.group, each.task) if part) or "the run"),
        Column("members", lambda each: shown(each.members) if each.members else None),
        Column("missing because", lambda each: _because(each, now)),
        Column(
            "since",
            lambda each: timestamp(each.since),
            words=lambda at: _ago(at, now),
        ),
        Column("where", _where),
    )


def _ago(at: str | None, now: float) -> str:
    return "" if at is None else f"{seconds(max(0.0, now - datetime.fromisoformat(at).timestamp()))} ago"


def _because(each: Missing, now: float) -> str:
    parts = [str(each.fact)]
    if each.key is not None:
        parts.append(f"key {each.key!r}")
    if each.worker is not None:
        parts.append(f"by worker {each.worker}" + ("" if each.alive else ", which shows no life"))
    if each.attempt is not None and (each.attempt > 1 or each.fact is Fact.WAITS_FOR_RETRY):
        parts.append(f"attempt {each.attempt}")
    if each.until is not None:
        parts.append(f"due in {seconds(each.until - now)}" if each.until > now else "due")
    if each.lag is not None:
        parts.append(f"lag {each.lag:,}")
    if each.detail is not None:
        parts.append(f"({each.detail})")
    return " ".join(parts)


def _where(each: Missing) -> str:
    place = [str(part) for part in (each.topic, each.partition, each.offset) if part is not None]
    return "/".join(place)


def _meanings(facts: set[Fact]) -> None:
    for fact in Fact:
        if fact in facts:
            say(f"  {fact}: {MEANINGS[fact].says}.")
            say(f"      -> {MEANINGS[fact].remedy}")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
