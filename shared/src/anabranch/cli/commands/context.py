"""`context RUN`: prints the versions of a session's context, or the differences between two. Read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli.backends.backend import Differences
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import say, short, short_line
from anabranch.cli.render.tables import Column, Form, Listing, moment, number, show, timestamp
from anabranch.core.context_versions import Change
from anabranch.core.errors import Misconfigured, NoSuchVersion
from anabranch.runtime.reading.contexts import Difference, SharedContext, Version

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

SHOWN_CHARACTERS = 60


async def show_context(
    settings: Settings, run: str, *, at: int | None, between: tuple[int, int] | None, form: Form
) -> int:
    """Print the context as of version `at` (None: the latest), or the differences `between` two versions.

    Raises:
        Misconfigured: both are given, or a version is not stored.
    """
    if at is not None and between is not None:
        raise Misconfigured("context", "--at and --diff cannot be combined", "omit one of them")
    async with open_installation(settings) as system:
        try:
            if between is not None:
                _show_differences(await system.differences(run, *between), form)
            else:
                _show(await system.context(run, at), form)
        except NoSuchVersion as error:
            shown = f"--at {error.version}" if at is not None else "context"
            raise Misconfigured(shown, str(error), "list the versions with: anabranch context RUN") from error
    return COMPLETED


def _show(context: SharedContext, form: Form) -> None:
    if context.dropped:
        say(f"The first {context.dropped:,} versions of session {context.session_id} are no longer stored")
    nothing = f"The context of session {context.session_id} is empty, or it has expired"
    show(Listing(VERSION_COLUMNS, context.versions, context.to_document(), nothing), form)


def writer_of(change: Change) -> str:
    """The writer of a value, for people: the task (several under a policy) and the run."""
    if change.kind != "result":
        return f"{change.kind}, run {change.run_id}"
    by = ", ".join(change.writers) or f"{change.group}/{change.task}"
    policy = f" ({change.policy})" if change.policy else ""
    return f"{by}{policy}, run {change.run_id}"


def _show_differences(differ: Differences, form: Form) -> None:
    document: dict[str, Any] = {"session_id": differ.session_id, "a": differ.a, "b": differ.b}
    document["differences"] = [each.to_document() for each in differ.found]
    nothing = f"Versions {differ.a} and {differ.b} of session {differ.session_id} are equal"
    show(Listing(DIFFERENCE_COLUMNS, differ.found, document, nothing), form)


def _value(value: Any) -> str:
    return short(value, SHOWN_CHARACTERS)


def _cell(text: str | None) -> str:
    """A value in JSON, shortened for people."""
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
