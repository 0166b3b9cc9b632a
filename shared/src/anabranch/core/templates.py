"""Parses and renders templates: text, or JSON with text in it, with placeholders. Pure.

``{name}`` and dotted ``{item.field.sub}`` are replaced one by one; a placeholder without a value stays exactly as
it was written, and so do literal braces and JSON.

The rules, in the order in which they are applied at each ``{``:

1. ``{{name}}`` gives the literal text ``{name}``, whether the name is known or not. A name is printable text
   without braces that neither begins nor ends with a space nor begins with a quotation mark; any other
   ``{{`` (``{{ x }}``, ``{{}}``, ``${{ github.ref }}``) stays as it is.
2. ``{text}`` is looked up by its exact full text, then as a dotted path: the longest leading part that is a
   name in the scope, and the rest walked through objects (again the longest key first) and, by a whole
   number, through lists.
3. A string is inserted as it is, anything else as compact JSON. Inserted text is never scanned again.

The keys of objects in a template stay as they are. A value is data: rendering reads no attribute, calls no method,
and raises only if the rendered text exceeds its byte budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol, TypeAlias

import orjson

from anabranch.core.errors import GiveUp

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

SYSTEM_NAMES: Final = frozenset({"run_id", "session_id", "task_name", "index"})
MISSING: Final = object()
"""Returned by `Path.find` and `walk` if there is no value; ``None`` is a value."""

# Longer text in braces is not a name: a name has at most 255 characters, and paths are short.
_ESCAPED_OR_NAMED = re.compile(r"\{\{(?P<escaped>[^{}]{1,2000})\}\}|\{(?P<named>[^{}]{1,2000})\}")
_LONGEST_INDEX = 9
MAX_RENDERED: Final = 64 * 1024 * 1024
"""Maximum bytes of a rendered template: a 1 MB request can insert a 1 MB value a hundred thousand times."""
_MAX_DOTS = 32


class Scope(Mapping[str, Any]):
    """Several mappings read as one: the first that has a name wins. Cheaper to build than a merged dict."""

    __slots__ = ("_layers",)

    def __init__(self, *layers: Mapping[str, Any]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> Any:
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        for layer in self._layers:
            if name in layer:
                return layer[name]
        return default

    def __contains__(self, name: object) -> bool:
        return any(name in layer for layer in self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable(self._layers)))

    def __len__(self) -> int:
        return len(set().union(*self._layers))


def member_scope(member: Mapping[str, Any], context: Mapping[str, Any], *system: Mapping[str, Any]) -> Scope:
    """Return the names that one member's templates may use: its own, then the system's, then the shared context.

    `member` is `Member.scope`: loop variables, identifiers and item fields. A loop variable or identifier with the
    name of a system name was named so deliberately and wins. Item fields named ``index``, ``run_id``,
    ``session_id`` or ``task_name`` are not in `Member.scope`, so that ``{index}`` always counts from 0
    (``{item.index}`` is the field).
    """
    return Scope(member, *system, context)


class Path:
    """A text that names a value in a scope, exactly or as a dotted path. Split once and looked up for each
    member."""

    __slots__ = ("_leads", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        segments = text.split(".")
        self._leads = [
            (".".join(segments[:taken]), segments[taken:])
            for taken in range(min(len(segments) - 1, _MAX_DOTS), 0, -1)
        ]

    def find(self, scope: Mapping[str, Any]) -> Any:
        """Return the value that the text names in `scope`, or `MISSING`."""
        value = scope.get(self.text, MISSING)
        if value is not MISSING:
            return value
        for lead, rest in self._leads:
            value = scope.get(lead, MISSING)
            if value is not MISSING:
                return walk(value, rest)
        return MISSING


def walk(value: Any, segments: Sequence[str]) -> Any:
    """Return the value at the dotted path `segments` within `value`, or `MISSING`."""
    at = 0
    while at < len(segments):
        taken, value = _step(value, segments, at)
        if not taken:
            return MISSING
        at += taken
    return value


def _step(value: Any, segments: Sequence[str], at: int) -> tuple[int, Any]:
    """Go one level down; return the number of segments used (0: there is no such value) and the value."""
    if isinstance(value, dict):
        for taken in range(min(len(segments) - at, _MAX_DOTS), 0, -1):
            key = segments[at] if taken == 1 else ".".join(segments[at : at + taken])
            if key in value:
                return taken, value[key]
        return 0, None
    return _list_item(value, segments[at]) if isinstance(value, list) else (0, None)


def _list_item(items: list[Any], segment: str) -> tuple[int, Any]:
    # int() refuses texts of thousands of digits, so long segments are rejected first.
    if not (segment.isascii() and segment.isdigit() and len(segment) <= _LONGEST_INDEX):
        return 0, None
    index = int(segment)
    return (1, items[index]) if index < len(items) else (0, None)


def as_text(value: Any) -> str:
    """Return the text that a template inserts: a string unchanged, any other value as compact JSON."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else compact_json(value)


def compact_json(value: Any) -> str:
    """Return compact JSON with non-ASCII characters kept."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Integers over 64 bits and unpaired surrogates are valid JSON, but orjson refuses to write them.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """Return compact JSON with sorted keys, so that equal values have equal texts."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class RenderedTooLarge(GiveUp):
    """The rendered text is over its byte budget: a template repeats large values too often."""


def text_bytes(text: str) -> int:
    """Upper bound for the memory of a text in bytes: one non-BMP character makes all characters four bytes
    wide."""
    return len(text) if text.isascii() else 4 * len(text)


class RenderBudget:
    """Remaining byte budget of a rendering."""

    __slots__ = ("_characters", "_limit", "_width")

    def __init__(self, limit: int = MAX_RENDERED) -> None:
        self._limit = limit
        self._characters = 0
        self._width = 1

    def take(self, text: str) -> None:
        """Take a text's bytes from the budget. Raises RenderedTooLarge if the budget is spent."""
        # One wide text makes the joined text wide, including all that was inserted before it; see `text_bytes`.
        if not text.isascii():
            self._width = 4
        self.take_bytes(len(text))

    def take_bytes(self, count: int) -> None:
        """Take a number of bytes from the budget. Raises RenderedTooLarge if the budget is spent."""
        self._characters += count
        if self._characters * self._width > self._limit:
            raise RenderedTooLarge(f"the text with its placeholders filled in is over {self._limit:,} bytes")


class Template(Protocol):
    """A compiled template: parsed once, rendered for each member."""

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> Any:
        """Return the template with its placeholders replaced from `scope`. Parts without placeholders are shared
        with the template.

        Raises RenderedTooLarge for more than `MAX_RENDERED` bytes of text. A value that is inserted with its type
        does not count, because it is not copied.
        """


def compile_template(template: Json, *, typed: bool = False) -> Template:
    """Parse `template`. With `typed`, a string that is exactly one placeholder becomes the value itself."""
    if isinstance(template, str):
        return _compile_text(template, typed)
    if isinstance(template, dict):
        return _compile_object(template, typed)
    if isinstance(template, list):
        return _compile_list(template, typed)
    return _Constant(template)


def render(
    template: Json, scope: Mapping[str, Any], *, typed: bool = False, budget: RenderBudget | None = None
) -> Any:
    """Return `template` with its placeholders replaced. For many scopes, call `compile_template` once."""
    return compile_template(template, typed=typed).render(scope, budget)


def literal(text: str) -> str:
    """Return a template that renders to `text` in every scope: what could be a placeholder is escaped."""
    # One more pair of braces: `{x}` becomes `{{x}}`, and `{{x}}`, which would lose a pair, becomes `{{{x}}}`.
    return _ESCAPED_OR_NAMED.sub(
        lambda match: "{" + match[0] + "}" if _is_name(match["escaped"] or match["named"]) else match[0], text
    )


def is_constant(template: Template) -> bool:
    """True if a compiled template has no placeholder: it renders to the same object in each scope."""
    return isinstance(template, _Constant)


def text_placeholders(template: Template) -> Iterator[Path]:
    """The placeholders of a compiled template that are inserted as text, with repetitions."""
    if isinstance(template, _OnePlaceholder):
        yield template.placeholder
    elif isinstance(template, _Text):
        yield from (part for part in template.parts if isinstance(part, Path))
    elif isinstance(template, _Object | _List):
        for part in template.inner:
            yield from text_placeholders(part)


def unresolved(template: Template, scope: Mapping[str, Any]) -> Iterator[str]:
    """The placeholders of a compiled text without a value. Braces of JSON are not meant as placeholders, so what
    begins with a quotation mark is left out."""
    for path in text_placeholders(template):
        if not path.text.lstrip().startswith('"') and path.find(scope) is MISSING:
            yield path.text


def placeholders(template: Json) -> frozenset[str]:
    """Return the text of each possible placeholder at any depth, including braces of JSON."""
    return frozenset([name for text in _strings(template) if "{" in text for name in _names(text)])


def placeholders_with_text(template: Json) -> Iterator[tuple[str, str]]:
    """Yield each possible placeholder, and the text between it and the previous one."""
    for text in _strings(template):
        before = ""
        for part in _parse(text) if "{" in text else ():
            if isinstance(part, Path):
                yield before, part.text
            before = "}" if isinstance(part, Path) else part


def _strings(template: Json) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, dict | list):
        for part in template.values() if isinstance(template, dict) else template:
            yield from _strings(part)


def _names(text: str) -> Iterator[str]:
    return (part.text for part in _parse(text) if isinstance(part, Path) and part.text.isprintable())


def _is_name(text: str) -> bool:
    return text.isprintable() and text == text.strip() and not text.startswith('"')


def _parse(text: str) -> list[str | Path]:
    """Split `text` into literals and placeholders; adjacent literals are joined."""
    parts: list[str | Path] = []
    literal, end = "", 0
    for match in _ESCAPED_OR_NAMED.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if (escaped := match["escaped"]) is not None:
            literal += "{" + escaped + "}" if _is_name(escaped) else match[0]
            continue
        parts += [literal, Path(match["named"])]
        literal = ""
    return [part for part in [*parts, literal + text[end:]] if part != ""]


class _Constant:
    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> Any:
        return self._value


class _Typed:
    """A string that is exactly one placeholder and takes the value with its type."""

    __slots__ = ("_placeholder",)

    def __init__(self, placeholder: Path) -> None:
        self._placeholder = placeholder

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> Any:
        value = self._placeholder.find(scope)
        return "{" + self._placeholder.text + "}" if value is MISSING else value


class _Text:
    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[str | Path]) -> None:
        self.parts = parts

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> str:
        budget = budget or RenderBudget()
        shown = []
        for part in self.parts:
            if isinstance(part, str):
                shown.append(part)
                continue
            text = _shown(part, scope)
            budget.take(text)
            shown.append(text)
        return "".join(shown)


class _OnePlaceholder:
    """Fast path: a text with one placeholder, which cannot repeat a value and so needs no budget of its own."""

    __slots__ = ("_after", "_before", "placeholder")

    def __init__(self, before: str, placeholder: Path, after: str) -> None:
        self._before = before
        self.placeholder = placeholder
        self._after = after

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> str:
        text = _shown(self.placeholder, scope)
        if budget is not None:
            budget.take(text)
        return f"{self._before}{text}{self._after}"


def _shown(placeholder: Path, scope: Mapping[str, Any]) -> str:
    value = placeholder.find(scope)
    return "{" + placeholder.text + "}" if value is MISSING else as_text(value)


class _Object:
    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Template]) -> None:
        self._fields = tuple(fields.items())

    @property
    def inner(self) -> Iterable[Template]:
        return (part for _, part in self._fields)

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> dict[str, Any]:
        budget = budget or RenderBudget()
        return {key: part.render(scope, budget) for key, part in self._fields}


class _List:
    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Template]) -> None:
        self._items = items

    @property
    def inner(self) -> Iterable[Template]:
        return self._items

    def render(self, scope: Mapping[str, Any], budget: RenderBudget | None = None) -> list[Any]:
        budget = budget or RenderBudget()
        return [part.render(scope, budget) for part in self._items]


def _compile_text(text: str, typed: bool) -> Template:
    if "{" not in text:
        return _Constant(text)
    parts = _parse(text)
    if all(isinstance(part, str) for part in parts):
        return _Constant("".join(map(str, parts)))
    if typed and len(parts) == 1 and isinstance(parts[0], Path):
        return _Typed(parts[0])
    numbers = [number for number, part in enumerate(parts) if isinstance(part, Path)]
    if len(numbers) == 1:
        return _one_placeholder(parts, numbers[0])
    return _Text(parts)


def _one_placeholder(parts: Sequence[Any], at: int) -> Template:
    return _OnePlaceholder("".join(parts[:at]), parts[at], "".join(parts[at + 1 :]))


def _compile_object(template: dict[str, Any], typed: bool) -> Template:
    fields = {key: compile_template(part, typed=typed) for key, part in template.items()}
    return _settled(_Object(fields), fields.values(), template)


def _compile_list(template: list[Any], typed: bool) -> Template:
    items = [compile_template(part, typed=typed) for part in template]
    return _settled(_List(items), items, template)


def _settled(compiled: _Object | _List, parts: Any, template: Json) -> Template:
    """Return a constant if the template has no placeholder: the template object itself if it has no escape
    either."""
    if not all(isinstance(part, _Constant) for part in parts):
        return compiled
    # No placeholder, so any scope gives the same; only escapes make it differ from the template.
    rendered = compiled.render({})
    return _Constant(template if rendered == template else rendered)
