"""Converts an exception raised by an agent into an error record: type, message, names, traceback.

An exception is untrusted code: its `__str__` may raise or return megabytes, its class may override its name, and
its attributes may be properties that raise. So no function here raises, and the record is bounded and valid UTF-8.

The type of an exception and its causes are read through the descriptors of `type` and `BaseException`, which a
class cannot override. Classes are compared by identity, because a metaclass may define `==`.
"""

from __future__ import annotations

import math
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Final

from anabranch.core.errors import GiveUp, RetryLater

MESSAGE_CHARACTERS: Final = 2_000
TYPE_CHARACTERS: Final = 200
TRACEBACK_FRAMES: Final = 30
"""Maximum frames of a traceback, including those of its causes."""
TRACEBACK_BYTES: Final = 16_000
SHOWN_LEAVES: Final = 3
"""Leaves of an exception group whose messages its own message contains."""
MAX_LEAVES: Final = 10_000
"""Leaves of an exception group that are examined."""
MAX_CAUSES: Final = 5

INNERMOST_FRAMES: Final = 5
"""Innermost frames that are kept in preference to frames of the agent's own code."""
CAUSE_FRAMES: Final = 5
"""Frames reserved for each cause; causes get at most half of all frames."""
LINE_CHARACTERS: Final = 300

_OWN: Final = ("anabranch.", "anabranch_taskgroup.")
"""Packages of Anabranch: their frames are omitted."""
_CALLERS: Final = ("asyncio.", "concurrent.futures.")
"""Modules that call agents: their outermost frames are omitted from a traceback."""
_LIBRARY: Final = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))

Frame = tuple[FrameType, int]
"""A frame and its line number."""

_UNSAID: Final = {
    "CancelledError": "an operation that the agent awaited was cancelled; the run was not",
    "KeyboardInterrupt": "raised by the agent's code; the process was not interrupted",
    "StopIteration": "the agent called next() on an exhausted iterator",
}
"""Messages for exceptions that usually have none."""

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
    """Error record of one exception. For an exception group it describes the group's leaves.

    `names` are the class names that a retry policy matches. `retry_after` is the delay in seconds that a
    `RetryLater` asked for.
    """

    type: str
    message: str
    names: tuple[str, ...]
    retry_after: float | None
    error: BaseException
    holds_key: bool = False
    """A `RetryLater` asked for a delay of all members that share the limit of the task."""

    @property
    def traceback(self) -> str | None:
        """Format the traceback; None if it has no frames of the agent. Formatted at each call."""
        return traceback_text(self.error)


def error_record(error: BaseException) -> ErrorRecord:
    """Create the error record of an exception. Never raises.

    A group is judged by its leaves: a `GiveUp` among them decides, else a `RetryLater`; the names of all of them
    count.
    """
    if not isinstance_of(error, BaseExceptionGroup):
        after = _retry_after(error)
        holds_key = after is not None and _holds_key(error)
        return ErrorRecord(type_name(error), text_of(error), error_names(error), after, error, holds_key)
    leaves = list(_leaves(error))
    names = tuple(dict.fromkeys(name for each in (error, *leaves) for name in error_names(each)))
    delays = [after for each in leaves if (after := _retry_after(each)) is not None]
    kind, message = _said_of_group(error, leaves)
    return ErrorRecord(
        kind, message, names, max(delays, default=None), error, any(_holds_key(each) for each in leaves)
    )


def isinstance_of(error: BaseException, kind: type) -> bool:
    """`isinstance` by the real class, ignoring an overridden `__class__`."""
    return any(cls is kind for cls in _mro_of(type(error)))


def error_names(error: BaseException) -> tuple[str, ...]:
    """Return the names of the error's class and of its bases, each plain and with its module."""
    classes = [cls for cls in _mro_of(type(error)) if cls is not object and cls is not BaseException]
    return tuple(name for cls in classes for name in (_name_of(cls), f"{_module_name(cls)}.{_qualname_of(cls)}"))


def type_name(error: BaseException) -> str:
    """The name of the error's class, shortened and printable."""
    return _shortened(storable(_name_of(type(error))[: TYPE_CHARACTERS + 1]), TYPE_CHARACTERS)


def text_of(error: BaseException) -> str:
    """The message of an error, shortened and valid UTF-8; if `__str__` raises, a sentence that says so."""
    try:
        # `__str__` may return a subclass of str with a `__getitem__` of its own. One character more than the limit
        # shows that the text is too long.
        text = str.__getitem__(str(error), slice(0, MESSAGE_CHARACTERS + 1))
    except BaseException as raised:  # noqa: BLE001  # `__str__` is an agent's code, and may raise anything
        return f"the message of this {type_name(error)} is not available: its __str__ raised {type_name(raised)}"
    return _shortened(storable(text), MESSAGE_CHARACTERS) or _UNSAID.get(type_name(error), "")


def _module_name(cls: type) -> str:
    try:
        module = _module_of(cls)
    except AttributeError:  # a class may delete its `__module__`
        return "?"
    return module if type(module) is str else "?"


def storable(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot encode, and NUL, which few tools accept."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _retry_after(error: BaseException) -> float | None:
    if not isinstance_of(error, RetryLater):
        return None
    try:
        after = float(error.after)  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001  # a subclass may define it as a property that raises
        return None
    return after if math.isfinite(after) else None


def _holds_key(error: BaseException) -> bool:
    if not isinstance_of(error, RetryLater):
        return False
    try:
        return bool(error.scope == "key")  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001  # as above
        return False


# --- groups ---------------------------------------------------------------------------------------


def _leaves(group: BaseException) -> Iterator[BaseException]:
    """The leaves of a group and of its nested groups, in order. Iterative, because nesting is not bounded."""
    waiting, found = [group], 0
    while waiting and found < MAX_LEAVES:
        each = waiting.pop()
        if isinstance_of(each, BaseExceptionGroup):
            waiting.extend(reversed(_leaves_of(each)))
        else:
            found += 1
            yield each


def _said_of_group(group: BaseException, leaves: list[BaseException]) -> tuple[str, str]:
    """The type and message of a group: those of its decisive leaf (`GiveUp`, `RetryLater`), else of its first
    leaves."""
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
    """Format the traceback of an error and of its causes as Python does. Never raises.

    Frames of Anabranch and of the agent's callers are omitted; None if no other frame is there. Of too many frames
    the innermost ones and those of the agent's own code are kept; causes get the frames that remain.
    """
    try:
        blocks = _blocks(error)
    except BaseException:  # noqa: BLE001  # reads sources and attributes of untrusted code
        return None
    return _last_bytes("".join(blocks), TRACEBACK_BYTES) if blocks else None


def _blocks(error: BaseException) -> list[str]:
    """The error and its causes, outermost cause first, as Python prints them."""
    budget, blocks = TRACEBACK_FRAMES, []
    chain = [(each, led_to, _frames_of(each)) for each, led_to in _chain(error)]
    with_frames = sum(bool(frames) for _, _, frames in chain)
    for each, led_to, frames in chain:
        if each is not error and not (frames and budget):
            break
        with_frames -= bool(frames)
        shown, lines = _lines(frames, budget - min(CAUSE_FRAMES * with_frames, budget // 2))
        budget -= shown
        blocks.append(led_to)
        blocks.append(f"{type_name(each)}: {text_of(each)}\n")
        if frames:
            blocks.append("Traceback (most recent call last):\n" + "".join(lines))
    # Python prints causes first. A text without frames would only repeat the type and the message.
    return blocks[::-1] if budget < TRACEBACK_FRAMES else []


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield the error and its causes, each with the sentence that links it to the previous one. A group continues
    with its first members, then with the causes of its first member."""
    seen: set[int] = set()
    each, link = error, ""
    # Exceptions can be linked in a cycle. Without a cause `each` stays the same, which ends the loop, too.
    while id(each) not in seen and len(seen) <= MAX_CAUSES:
        seen.add(id(each))
        yield each, link
        cause, context = _cause_of(each), _context_of(each)
        if isinstance_of(each, BaseExceptionGroup):
            members = _leaves_of(each)
            # Descending, because the blocks are printed in reverse.
            for number in range(min(SHOWN_LEAVES, len(members)), 1, -1):
                yield members[number - 1], _link_to_group(number, members)
            each, link = members[0], _link_to_group(1, members)
        elif cause is not None:
            each, link = cause, "\nThe above exception was the direct cause of the following exception:\n\n"
        elif context is not None and not _suppresses(each):
            each, link = context, "\nDuring handling of the above exception, another exception occurred:\n\n"


def _link_to_group(number: int, members: Sequence[BaseException]) -> str:
    return f"\nThe above exception is number {number} of {len(members)} in the group below.\n\n"


def _frames_of(error: BaseException) -> list[Frame]:
    """The frames of an error from the agent's first frame on, outermost first; empty if all frames are
    Anabranch's."""
    found: list[Frame] = []
    each = _traceback_of(error)
    while each is not None:
        if found or not _is_machinery(each.tb_frame):
            found.append((each.tb_frame, each.tb_lineno))
        each = each.tb_next
    return [frame for frame in found if not _is_own(frame[0])]


def _lines(frames: Sequence[Frame], budget: int) -> tuple[int, list[str]]:
    """The number of frames shown, and their formatted lines."""
    kept = sorted(_kept(frames, budget))
    lines: list[str] = []
    before = -1
    for position in kept:
        if position > before + 1:
            lines.append(f"  [{position - before - 1} frames are left out]\n")
        lines += _frame_lines(frames[position])
        before = position
    return len(kept), lines


def _kept(frames: Sequence[Frame], budget: int) -> set[int]:
    """Positions of the frames to show: the innermost few, then those of the agent's code, then the others."""
    positions = range(len(frames) - 1, -1, -1)
    if len(frames) <= budget:
        return set(positions)
    code = _module(frames[0][0]).partition(".")[0]
    is_agents = {place for place in positions if _is_agents(frames[place][0], code)}
    wanted = [*positions[:INNERMOST_FRAMES], *sorted(is_agents, reverse=True), *positions]
    return set(list(dict.fromkeys(wanted))[:budget])


def _frame_lines(frame: Frame) -> list[str]:
    [text] = traceback.format_list(traceback.StackSummary.extract(iter([frame])))
    return [_shortened(line, LINE_CHARACTERS) + "\n" for line in text.splitlines()]


def _is_agents(frame: FrameType, package: str) -> bool:
    """True if code belongs to an agent: to the package of the called function, or to no installed library."""
    if _module(frame).partition(".")[0] == package:
        return True
    name = frame.f_code.co_filename
    # "<": code without a file, such as `<string>` or `<frozen importlib._bootstrap>`.
    return not (name.startswith(("<", *_LIBRARY)) or "site-packages" in name)


def _is_machinery(frame: FrameType) -> bool:
    return _module(frame).startswith((*_OWN, *_CALLERS))


def _is_own(frame: FrameType) -> bool:
    return _module(frame).startswith(_OWN)


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""


def _last_bytes(text: str, limit: int) -> str:
    encoded = storable(text).encode()
    if len(encoded) <= limit:
        return encoded.decode()
    start = "…\n"
    # "ignore": the cut may be within a character.
    return start + encoded[len(start.encode()) - limit :].decode("utf-8", "ignore")
