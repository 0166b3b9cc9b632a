"""`why RUN`: explains what an open run waits for and what to do; `--heal` re-sends pending work.

Needs Kafka and Redis but no running service, or else a gateway such as that of `anabranch dev`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import count, print_json, say, seconds, wide_console
from anabranch.cli.render.tables import Column, Form, print_csv, table_of, timestamp
from anabranch.core.reasons import MEANINGS, Fact, Missing, shown
from anabranch.operations.why.answer import document_of
from anabranch.operations.why.examination import Answer
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

MAX_ROWS = 40


async def why(settings: Settings, run: str, *, heal: bool, form: Form) -> int:
    """Explain why a run does not end.

    Raises:
        Misconfigured: there is no such run.
        ServerUnavailable: Kafka or Redis does not answer.
    """
    async with open_installation(settings) as system:
        answer, healed = await system.why(run, heal=heal)
    now = SystemClock().now()
    if form is Form.JSON:
        print_json(document_of(answer) | ({"healed": healed} if heal else {}))
    elif form is Form.CSV:
        print_csv(_columns(now), answer.missing)
    else:
        _show(answer, now)
        for line in healed:
            say(f"Done: {line}.")
        if heal and not answer.is_open:
            say("Nothing to heal: the run has ended.")
    return COMPLETED


def _show(answer: Answer, now: float) -> None:
    if not answer.is_open:
        ended = f" at {_clock(answer.ended_at)}" if answer.ended_at is not None else ""
        nothing = "" if answer.missing else " Nothing is missing."
        say(f"Run {answer.run_id} has ended{ended}: {answer.status}.{nothing}")
        if answer.reason:
            say(answer.reason)
        _list(answer.missing, now)
        return
    facts = sum(each.count for each in answer.missing)
    say(f"Run {answer.run_id} is open. It is blocked on {count(facts, 'missing fact')}:")
    _list(answer.missing, now)


def _list(missing: list[Missing], now: float) -> None:
    if missing:
        wide_console().print(table_of(_columns(now), missing[:MAX_ROWS]))
    if len(missing) > MAX_ROWS:
        say(f"and {count(len(missing) - MAX_ROWS, 'more row')}; print all of them with --json")
    _explain({each.fact for each in missing})


def _columns(now: float) -> tuple[Column[Missing], ...]:
    return (
        Column("task", lambda each: "/".join(part for part in (each.group, each.task) if part) or "(whole run)"),
        Column("members", lambda each: shown(each.members) if each.members else None),
        Column("reason", lambda each: _reason(each, now)),
        Column(
            "since",
            lambda each: timestamp(each.since),
            words=lambda at: _ago(at, now),
        ),
        Column("log position", _position),
    )


def _ago(at: str | None, now: float) -> str:
    return "" if at is None else f"{seconds(max(0.0, now - datetime.fromisoformat(at).timestamp()))} ago"


def _reason(each: Missing, now: float) -> str:
    parts = [str(each.fact)]
    if each.key is not None:
        parts.append(f"key {each.key!r}")
    if each.worker is not None:
        parts.append(f"by worker {each.worker}" + ("" if each.alive else ", which is not alive"))
    if each.attempt is not None and (each.attempt > 1 or each.fact is Fact.WAITS_FOR_RETRY):
        parts.append(f"attempt {each.attempt}")
    if each.until is not None:
        parts.append(f"due in {seconds(each.until - now)}" if each.until > now else "due now")
    if each.lag is not None:
        parts.append(f"lag {each.lag:,}")
    if each.detail is not None:
        parts.append(f"({each.detail})")
    return " ".join(parts)


def _position(each: Missing) -> str:
    place = [str(part) for part in (each.topic, each.partition, each.offset) if part is not None]
    return "/".join(place)


def _explain(facts: set[Fact]) -> None:
    for fact in Fact:
        if fact in facts:
            say(f"  {fact}: {MEANINGS[fact].says}.")
            say(f"      -> {MEANINGS[fact].remedy}")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
