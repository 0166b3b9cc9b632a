"""Output streams: data goes to standard output, messages for people to standard error."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.visible import visible, visible_json
from anabranch.runtime.process.streams import has_reader, standard_error, standard_output

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 160
"""Minimum width of tables in columns. A narrow terminal wraps long lines, so that no value is cut."""


def print_json(document: Any, *, indent: bool = True) -> None:
    """Print one JSON document and a newline, in ASCII if the encoding of standard output is not UTF-8."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    text = orjson.dumps(document, option=option).decode()
    stream = standard_output()
    stream.write(visible_json(text, ascii_only=not _is_utf8(stream.encoding)))
    stream.flush()


def print_text(text: str) -> None:
    """Print text and a newline on standard output."""
    stream = standard_output()
    stream.write(visible(text) + "\n")
    stream.flush()


def say(text: str = "") -> None:
    """Print a line for people on standard error."""
    stream = standard_error()
    stream.write(visible(text) + "\n")
    stream.flush()


def is_read() -> bool:
    """True while standard output has a reader. Endless commands end when it has none."""
    return has_reader(standard_output())


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "utf-8").name == "utf-8"
    except LookupError:
        return False


@contextmanager
def foreign_output_to_stderr(json: bool) -> Iterator[None]:
    """With `json`, redirect everything that modules and agents print to standard error, so that standard output
    has the JSON document only."""
    if not json:
        yield
        return
    standard = standard_output()
    standard.flush()
    # sys.stdout covers print() in this process; file descriptor 1 covers C libraries and programs that agents
    # start.
    original = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(standard_error()):
            yield
    finally:
        standard.flush()  # text written through a saved reference to sys.stdout still belongs to standard error
        os.dup2(original, 1)
        os.close(original)


def wide_console() -> Console:
    """A console on standard output for tables and trees: at least WIDTH columns, lines are wrapped and not cut."""
    console = terminal(soft_wrap=True)
    console.width = max(console.width, WIDTH)
    return console


def terminal(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console on standard output or error, without markup and with control characters shown as escapes."""
    from anabranch.cli.render.terminal import Terminal

    file = standard_error() if stderr else standard_output()
    return Terminal(file=file, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def short(value: Any, limit: int = 160) -> str:
    """A value as compact JSON, truncated to `limit` characters."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def short_line(text: str, limit: int = 160) -> str:
    """The text on one line, truncated to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def failure_location(failure: Mapping[str, Any]) -> str:
    """The place of a failure: `group/member`, `group/task[index]`, each with its iteration, or the run."""
    if not failure.get("group"):
        return "the run"
    index = "" if failure.get("index") is None else f"[{failure['index']}]"
    iteration = failure.get("iteration")
    where = f" in iteration {'.'.join(map(str, iteration))}" if iteration else ""
    return f"{failure['group']}/{failure.get('member') or str(failure.get('task')) + index}{where}"


def continued(text: str) -> str:
    """Indent all lines of a text but the first, so that none looks like output of this command."""
    return text.replace("\n", "\n      ")


def count(number: int, noun: str) -> str:
    """`1 member`, `1,200 members`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def used(costs: Mapping[str, Any]) -> str:
    """Costs for people: `$0.042 and 1,200 tokens`."""
    parts = [f"${costs['usd']:,.10g}"] if costs["usd"] else []
    parts += [count(costs["tokens"], "token")] if costs["tokens"] else []
    return " and ".join(parts) or "nothing"


def seconds(value: float) -> str:
    """Format a duration: `12 ms`, `3.4 s`, `2.5 min`, `3.1 h`, `12.5 days`."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    for unit, size, longest in (("s", 1, 120), ("min", 60, 7_200), ("h", 3_600, 172_800)):
        if value < longest:
            return f"{value / size:.1f} {unit}"
    return f"{value / 86_400:.1f} days"
