"""Turns an exception that an agent raised into what is recorded of it: type, message, names, traceback.

An exception is code of somebody else. Its `__str__` may raise or return megabytes, its class may lie about its
name, its attributes may be properties that fail. Nothing here raises, whatever the exception does, and what is
recorded is bounded and is text that UTF-8 can hold.

The type of an exception and what led to it are read through the descriptors of `type` and `BaseException`
themselves, which a class cannot override, and classes are compared by identity: a metaclass may define `==`.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from anabranch.core.errors import GiveUp, RetryLater

MESSAGE_CHARACTERS: Final = 2_000
TYPE_CHARACTERS: Final = 200
TRACEBACK_FRAMES: Final = 30
"""Frames of one traceback, with those of its causes: the innermost ones are kept."""
TRACEBACK_BYTES: Final = 16_000
SHOWN_LEAVES: Final = 3
"""Leaves of an exception group whose texts make up its message."""
MOST_LEAVES: Final = 10_000
"""Leaves of an exception group that are looked at."""
MOST_CAUSES: Final = 5

_MACHINERY: Final = ("anabranch_taskgroup.", "asyncio.", "concurrent.futures.")
"""Modules that call agents: their frames at the outer end of a traceback are left out."""

_name_of: Callable[[type], str] = vars(type)["__name__"].__get__
_qualname_of: Callable[[type], str] = vars(type)["__qualname__"].__get__
_module_of: Callable[[type], Any] = vars(type)["__module__"].__get__
_mro_of: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
_cause_of: Callable[[BaseException], Any] = vars(BaseException)["__cause__"].__get__
_context_of: Callable[[BaseException], Any] = vars(BaseException)["__context__"].__get__
_suppresses: Callable[[BaseException], Any] = vars(BaseException)["__suppress_context__"].__get__
_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
_leaves_of: Callable[[BaseException], tuple[BaseException, ...]] = vars(BaseExceptionGroup)["exceptions"].__get__


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """What is recorded of one exception. An exception group is recorded as what is in it.

    `names` are the names of all classes that count for a retry policy. `retry_after` are the seconds that a
    `RetryLater` asked for.
    """

    type: str
    message: str
    names: tuple[str, ...]
    retry_after: float | None
    error: BaseException

    @property
    def traceback(self) -> str | None:
        """The frames that led to the error, formatted at each call; None where there are none."""
        return traceback_text(self.error)


def error_record(error: BaseException) -> ErrorRecord:
    """What is recorded of an exception. Never raises.

    A group is judged by its leaves: a `GiveUp` among them decides, else a `RetryLater`; the names of all of them
    count.
    """
    if not isinstance_of(error, BaseExceptionGroup):
        return ErrorRecord(type_name(error), text_of(error), error_names(error), _retry_after(error), error)
    leaves = list(_leaves(error))
    names = tuple(dict.fromkeys(name for each in (error, *leaves) for name in error_names(each)))
    delays = [after for each in leaves if (after := _retry_after(each)) is not None]
    kind, message = _said_of_group(error, leaves)
    return ErrorRecord(kind, message, names, max(delays, default=None), error)


def isinstance_of(error: BaseException, kind: type) -> bool:
    """`isinstance` by the real class: one that claims another `__class__` is not believed."""
    return any(cls is kind for cls in _mro_of(type(error)))


def error_names(error: BaseException) -> tuple[str, ...]:
    """Return the names of the error's class and of its bases, each plain and with its module."""
    classes = [cls for cls in _mro_of(type(error)) if cls is not object and cls is not BaseException]
    return tuple(name for cls in classes for name in (_name_of(cls), f"{_module_name(cls)}.{_qualname_of(cls)}"))


def type_name(error: BaseException) -> str:
    """The name of the error's class, shortened and printable."""
    return _shortened(_clean(_name_of(type(error))[: TYPE_CHARACTERS + 1]), TYPE_CHARACTERS)


def text_of(error: BaseException) -> str:
    """The text of an error, shortened and fit for UTF-8; where it cannot be had, a sentence that says so."""
    try:
        text = str.__getitem__(str(error), slice(0, MESSAGE_CHARACTERS + 1))
    except BaseException as raised:  # noqa: BLE001  # `__str__` is an agent's code, and may raise anything
        return f"the text of this {type_name(error)} could not be had: its __str__ raised {type_name(raised)}"
    return _shortened(_clean(text), MESSAGE_CHARACTERS)


def _module_name(cls: type) -> str:
    try:
        module = _module_of(cls)
    except AttributeError:
        return "?"
    return module if type(module) is str else "?"


def _clean(text: str) -> str:
    """Lone surrogates and NUL as escapes: no UTF-8 has the former, and few tools take the latter."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _retry_after(error: BaseException) -> float | None:
    if not isinstance_of(error, RetryLater):
        return None
    try:
        after = float(error.after)  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001  # a subclass may have made a failing property of it
        return None
    return after if math.isfinite(after) else None


# --- groups ---------------------------------------------------------------------------------------


def _leaves(group: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups within it, in order. Not recursive: nesting has no bound."""
    waiting, found = [group], 0
    while waiting and found < MOST_LEAVES:
        each = waiting.pop()
        if isinstance_of(each, BaseExceptionGroup):
            waiting.extend(reversed(_leaves_of(each)))
        else:
            found += 1
            yield each


def _said_of_group(group: BaseException, leaves: list[BaseException]) -> tuple[str, str]:
    """The type and message of a group: those of the leaf that decides, else of its first leaves."""
    for decides in (GiveUp, RetryLater):
        for leaf in leaves:
            if isinstance_of(leaf, decides):
                return type_name(leaf), text_of(leaf)
    if all(type(leaf) is type(leaves[0]) for leaf in leaves):
        texts, kind = [text_of(leaf) for leaf in leaves[:SHOWN_LEAVES]], type_name(leaves[0])
    else:
        texts = [f"{type_name(leaf)}: {text_of(leaf)}" for leaf in leaves[:SHOWN_LEAVES]]
        kind = type_name(group)
    more = f" (and {len(leaves) - SHOWN_LEAVES} more)" if len(leaves) > SHOWN_LEAVES else ""
    return kind, _shortened("; ".join(texts), MESSAGE_CHARACTERS - len(more)) + more


# --- tracebacks -----------------------------------------------------------------------------------


def traceback_text(error: BaseException) -> str | None:
    """The last frames that led to an error, and to what caused it, in Python's own form. Never raises.

    The frames of what called the agent are left out. Of what is too long the innermost part is kept.
    """
    try:
        blocks = _blocks(error)
    except BaseException:  # noqa: BLE001  # reading sources and attributes of somebody else's code
        return None
    return _last_bytes("".join(blocks), TRACEBACK_BYTES) if blocks else None


def _blocks(error: BaseException) -> list[str]:
    """The error and its causes, outermost cause first, as Python prints them."""
    room, blocks = TRACEBACK_FRAMES, []
    for each, led_to in _chain(error):
        frames = _frames(_traceback_of(each))[-room:] if room else []
        if not frames and each is not error:
            break
        room -= len(frames)
        blocks.append(led_to)
        blocks.append(f"{type_name(each)}: {text_of(each)}\n")
        if frames:
            blocks.append("Traceback (most recent call last):\n" + "".join(traceback.format_list(frames)))
    return blocks[::-1] if room < TRACEBACK_FRAMES else []


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The error, then what caused it, each with the sentence that links it to the one before. A group goes on
    with its first leaf, which is where it came from."""
    seen: set[int] = set()
    each, link = error, ""
    while id(each) not in seen and len(seen) <= MOST_CAUSES:
        seen.add(id(each))
        yield each, link
        cause, context = _cause_of(each), _context_of(each)
        if isinstance_of(each, BaseExceptionGroup):
            each, link = _leaves_of(each)[0], "\nThe above exception is the first of the following group:\n\n"
        elif cause is not None:
            each, link = cause, "\nThe above exception was the direct cause of the following exception:\n\n"
        elif context is not None and not _suppresses(each):
            each, link = context, "\nDuring handling of the above exception, another exception occurred:\n\n"


def _frames(found: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames of a traceback from the agent's first on; all where none is an agent's."""
    first = found
    while first is not None and _is_machinery(first):
        first = first.tb_next
    start = found if first is None else first
    return list(traceback.StackSummary.extract(traceback.walk_tb(start), limit=-TRACEBACK_FRAMES))


def _is_machinery(frame: TracebackType) -> bool:
    name = frame.tb_frame.f_globals.get("__name__")
    return type(name) is str and name.startswith(_MACHINERY)


def _last_bytes(text: str, most: int) -> str:
    encoded = _clean(text).encode()
    if len(encoded) <= most:
        return encoded.decode()
    start = "…\n"
    return start + encoded[len(start.encode()) - most :].decode("utf-8", "ignore")
