"""`context RUN`: the versions of the context of a run's session, and what two of them differ in. Reads only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anabranch.cli.exits import COMPLETED
from anabranch.cli.output import print_json, say, short, wide_console
from anabranch.cli.systems import connected
from anabranch.core.errors import Misconfigured, NoSuchVersion
from anabranch.core.versions import Change
from anabranch.runtime.contexts import Difference, SharedContext, diff, load_context

if TYPE_CHECKING:
    from anabranch.runtime.settings import Settings
    from anabranch.sdk.client import Client

SHOWN_CHARACTERS = 60


async def show_context(
    settings: Settings, run: str, *, at: int | None, between: tuple[int, int] | None, json: bool
) -> int:
    """`context RUN`, as of version `at`, or with `between` the difference of two versions."""
    if at is not None and between is not None:
        raise Misconfigured("context", "--at and --diff exclude each other", "give one of them")
    async with connected(settings) as client:
        session = await _session_of(client, run)
        if between is not None:
            before, after = [await _load(client, session, version) for version in between]
            _show_differences(before, after, diff(before, after), json=json)
        else:
            _show(await _load(client, session, at), json=json)
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


def _show(context: SharedContext, *, json: bool) -> None:
    if json:
        print_json(context.to_document())
        return
    if context.dropped:
        say(f"The first {context.dropped:,} versions of session {context.session_id} are no longer kept")
    if not context.versions:
        say(f"Nothing was written to the context of session {context.session_id}, or it has expired")
        return
    from rich.table import Table

    table = Table("version", "key", "writer", "when", "bytes", "value", box=None, pad_edge=False)
    for version in context.versions:
        change = version.change
        table.add_row(
            str(version.number),
            change.key,
            writer_of(change),
            datetime.fromtimestamp(change.time, UTC).isoformat(" ", "seconds").removesuffix("+00:00"),
            f"{change.size:,}",
            short(change.value, SHOWN_CHARACTERS),
        )
    wide_console().print(table)


def writer_of(change: Change) -> str:
    """Who wrote a value, in words: the task, or several under a policy, and the run."""
    if change.kind != "result":
        return f"{change.kind}, run {change.run_id}"
    by = ", ".join(change.writers) or f"{change.group}/{change.task}"
    policy = f" ({change.policy})" if change.policy else ""
    return f"{by}{policy}, run {change.run_id}"


def _show_differences(before: SharedContext, after: SharedContext, found: list[Difference], *, json: bool) -> None:
    if json:
        document: dict[str, Any] = {"session_id": before.session_id, "a": before.at, "b": after.at}
        print_json(document | {"differences": [each.to_document() for each in found]})
        return
    if not found:
        say(f"Versions {before.at} and {after.at} of session {before.session_id} do not differ")
        return
    from rich.table import Table

    table = Table("key", "change", "before", "after", "versions", box=None, pad_edge=False)
    for each in found:
        numbers = ", ".join(map(str, each.versions))
        values = (
            "" if each.change == gone else short(value, SHOWN_CHARACTERS)
            for gone, value in (("added", each.before), ("removed", each.after))
        )
        table.add_row(each.key, each.change, *values, numbers)
    wide_console().print(table)
