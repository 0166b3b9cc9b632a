"""`context RUN`: the versions of the context of a run's session, and what two of them differ in. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli.exits import COMPLETED
from anabranch.cli.output import say, short, short_line
from anabranch.cli.systems import connected
from anabranch.cli.tables import Column, Form, Listing, moment, number, show, timestamp
from anabranch.core.errors import Misconfigured, NoSuchVersion
from anabranch.core.versions import Change
from anabranch.runtime.contexts import Difference, SharedContext, Version, diff, load_context

if TYPE_CHECKING:
    from anabranch.runtime.settings import Settings
    from anabranch.sdk.client import Client

SHOWN_CHARACTERS = 60


async def show_context(
    settings: Settings, run: str, *, at: int | None, between: tuple[int, int] | None, form: Form
) -> int:
    """`context RUN`, as of version `at`, or with `between` the difference of two versions."""
    if at is not None and between is not None:
        raise Misconfigured("context", "--at and --diff exclude each other", "give one of them")
    async with connected(settings) as client:
        session = await _session_of(client, run)
        if between is not None:
            before, after = [await _load(client, session, version) for version in between]
            _show_differences(before, after, diff(before, after), form)
        else:
            _show(await _load(client, session, at), form)
    return COMPLETED


async def _session_of(client: Client, run: str) -> str:
    handle = await client.run(run)
    if handle.session_id is None:
        raise Misconfigured(run, "no such run, by run id or by request id", "see: anabranch list")
    return handle.session_id


async def _load(client: Client, session_id: str, at: int | None) -> SharedContext:
    try:
        return await load_context(client.store, client.names, session_id, at)
    except NoSuchVersion as error:
        shown = f"--at {error.version}" if at is not None else "context"
        raise Misconfigured(shown, str(error), "see the versions with: anabranch context RUN") from error


def _show(context: SharedContext, form: Form) -> None:
    if context.dropped:
        say(f"The first {context.dropped:,} versions of session {context.session_id} are no longer kept")
    nothing = f"Nothing was written to the context of session {context.session_id}, or it has expired"
    show(Listing(VERSION_COLUMNS, context.versions, context.to_document(), nothing), form)


def writer_of(change: Change) -> str:
    """Who wrote a value, in words: the task, or several under a policy, and the run."""
    if change.kind != "result":
        return f"{change.kind}, run {change.run_id}"
    by = ", ".join(change.writers) or f"{change.group}/{change.task}"
    policy = f" ({change.policy})" if change.policy else ""
    return f"{by}{policy}, run {change.run_id}"


def _show_differences(before: SharedContext, after: SharedContext, found: list[Difference], form: Form) -> None:
    document: dict[str, Any] = {"session_id": before.session_id, "a": before.at, "b": after.at}
    document["differences"] = [each.to_document() for each in found]
    nothing = f"Versions {before.at} and {after.at} of session {before.session_id} do not differ"
    show(Listing(DIFFERENCE_COLUMNS, found, document, nothing), form)


def _value(value: Any) -> str:
    return short(value, SHOWN_CHARACTERS)


def _cell(text: str | None) -> str:
    """A value that is JSON already, cut for people."""
    return "" if text is None else short_line(text, SHOWN_CHARACTERS)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


VERSION_COLUMNS: tuple[Column[Version], ...] = (
    Column("version", lambda version: version.number, justify="right"),
    Column("key", lambda version: version.change.key),
    Column("writer", lambda version: writer_of(version.change)),
    Column("when", lambda version: timestamp(version.change.time), words=moment),
    Column("bytes", lambda version: version.change.size, words=number, justify="right"),
    Column("value", lambda version: version.change.value, words=_value),
)
DIFFERENCE_COLUMNS: tuple[Column[Difference], ...] = (
    Column("key", lambda each: each.key),
    Column("change", lambda each: each.change),
    Column("before", lambda each: None if each.change == "added" else _json(each.before), words=_cell),
    Column("after", lambda each: None if each.change == "removed" else _json(each.after), words=_cell),
    Column("versions", lambda each: list(each.versions), words=lambda found: ", ".join(map(str, found))),
)
