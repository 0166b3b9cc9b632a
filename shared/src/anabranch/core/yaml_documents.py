"""Parses YAML into JSON values, within a budget that is checked while the document is composed.

The scalars are those of the YAML 1.2 core schema that JSON has too: a date stays text, ``on`` and ``yes`` stay
text, keys are text, and one key twice in a mapping is an error. Aliases and merge keys make a small file stand for
a large document, so each alias costs what its anchor cost, before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml

MAX_DEPTH = 200
"""Levels of objects and lists, in JSON and YAML."""
MAX_WRITTEN = 250_000
"""Maximum values written in a YAML file: PyYAML takes about 22 microseconds and 500 bytes for each."""
MAX_NODES = 500_000
"""Maximum values of a document with its aliases expanded; 1 MB of JSON cannot have more."""
MAX_CHARACTERS = 4_000_000
"""Maximum characters of all texts of a document with its aliases expanded."""
MAX_MERGED = 100_000
"""Maximum fields copied by merge keys."""
_UNSIGNED_64, _SIGNED_64 = 2**64 - 1, -(2**63)
_INTEGER_DIGITS = 20


class TooDeep(Exception):
    """The document is nested over ``MAX_DEPTH`` levels deep."""


class TooMuch(Exception):
    """The file itself writes more values than ``MAX_WRITTEN``."""


class NotYaml(Exception):
    """The text is not YAML that can be read as JSON. ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def load_yaml(data: bytes) -> Any:
    """Parse one YAML document into a JSON-able value.

    Raises:
        NotYaml: it cannot be parsed, or expands beyond the budget.
        TooDeep, TooMuch: see the classes.
    """
    try:
        return yaml.load(data, Loader=_CoreLoader)
    except RecursionError as error:
        raise TooDeep from error
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        where = " ".join(str(error).split()).replace('in "<byte string>", ', "at ")
        raise NotYaml(f"this is not YAML: {where}", _hint(error)) from error


def _hint(error: Exception) -> str:
    if isinstance(error, _Refused):
        return error.hint
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return "check indentation, brackets and quotation marks near that line"
    if isinstance(error, yaml.constructor.ConstructorError):
        return "leave out the tag: a request holds the types of JSON"
    if isinstance(error, yaml.composer.ComposerError):
        return "a request is one document, and an alias follows its anchor"
    return "save the file as UTF-8, without control characters"


@dataclass(frozen=True, slots=True)
class _Cost:
    """Cost of a node with its aliases expanded. ``height`` counts levels of objects and lists."""

    nodes: int = 1
    characters: int = 0
    height: int = 0


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of JSON only, text keys that occur once, and a budget."""

    # Empty: those of SafeLoader would make dates of plain text, and booleans of `on` and `yes`.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own class attribute

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._written = 0
        self._nodes = 0
        self._characters = 0
        self._merged = 0
        self._open: list[_Totals] = []
        self._costs: dict[int, _Cost] = {}
        self._flat: set[int] = set()

    # --- composing -------------------------------------------------------------------------------

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        event = cast(Any, self).peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = cast(yaml.Node, super().compose_node(parent, index))
            self._spend(self._cost_of_alias(node, event), event)
            return node
        self._written += 1
        if self._written > MAX_WRITTEN:
            raise TooMuch
        if isinstance(event, yaml.ScalarEvent):
            self._spend(_Cost(characters=len(event.value)), event)
            return cast(yaml.Node, super().compose_node(parent, index))
        return self._compose_collection(parent, index, event)

    def _compose_collection(self, parent: Any, index: Any, event: yaml.NodeEvent) -> yaml.Node:
        if len(self._open) >= MAX_DEPTH:
            raise TooDeep
        self._open.append(_Totals(self._nodes, self._characters))
        self._spend(_Cost(), event)
        node = cast(yaml.Node, super().compose_node(parent, index))
        before = self._open.pop()
        height = before.height + 1
        if self._open:
            self._open[-1].height = max(self._open[-1].height, height)
        if event.anchor is not None:
            nodes, characters = self._nodes - before.nodes, self._characters - before.characters
            self._costs[id(node)] = _Cost(nodes, characters, height)
        return node

    def _cost_of_alias(self, node: yaml.Node, event: yaml.AliasEvent) -> _Cost:
        if isinstance(node, yaml.ScalarNode):
            return _Cost(characters=len(node.value))
        if id(node) not in self._costs:
            message = f"the alias *{event.anchor} is inside the value that it refers to"
            raise _refusal(message, event, "write the value out")
        return self._costs[id(node)]

    def _spend(self, cost: _Cost, event: yaml.Event) -> None:
        self._nodes += cost.nodes
        self._characters += cost.characters
        if self._nodes > MAX_NODES or self._characters > MAX_CHARACTERS:
            raise _refusal("its aliases expand to too many values", event, "write fewer aliases of smaller values")
        if not self._open or not cost.height:
            return
        if len(self._open) + cost.height > MAX_DEPTH:
            raise TooDeep
        self._open[-1].height = max(self._open[-1].height, cost.height)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = _key(key)
            if name in seen:
                raise _refusal(f"the key {name!r} is there twice", key, "keep one of the two")
            seen.add(name)
        if node.flow_style and len(node.value) == 1:
            _refuse_unquoted(node)
        return node

    # --- constructing ----------------------------------------------------------------------------

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace the merge key by the fields of its mappings; of two equal names the later one wins."""
        # Aliases share a node, so it may have been flattened for another mapping.
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        merged = [value for key, value in node.value if key.tag == _MERGE]
        if not merged:
            return
        fields: dict[str, Any] = {}
        for source in _sources(merged[0]):
            self.flatten_mapping(source)
            self._merged += len(source.value) + 1
            if self._merged > MAX_MERGED:
                raise _refusal("its merge keys expand to too many values", node, "merge fewer or smaller objects")
            fields.update((_key(key), (key, value)) for key, value in source.value)
        fields.update((_key(key), (key, value)) for key, value in node.value if key.tag != _MERGE)
        node.value = list(fields.values())

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {_key(key): self.construct_object(value, deep=deep) for key, value in node.value}

    # --- scanning --------------------------------------------------------------------------------

    def scan_flow_scalar(self, style: str) -> yaml.ScalarToken:
        """A quoted text, in which two escapes of a surrogate pair are one character, as in JSON."""
        token: yaml.ScalarToken = super().scan_flow_scalar(style)
        if not token.value.isascii():
            try:
                token.value = token.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError as error:
                raise _refusal("a lone surrogate is not a character", token, "escape both halves") from error
        return token


@dataclass(slots=True)
class _Totals:
    """Budget spent at the start of a collection, and the height of its content so far."""

    nodes: int
    characters: int
    height: int = 0


_MERGE = "tag:yaml.org,2002:merge"


def _sources(value: yaml.Node) -> Iterator[yaml.MappingNode]:
    """The mappings of a merge key in ascending precedence."""
    found = reversed(value.value) if isinstance(value, yaml.SequenceNode) else (value,)
    for source in found:
        if not isinstance(source, yaml.MappingNode):
            raise _refusal("a merge key takes a mapping, or a list of mappings", source, 'quote it: "<<"')
        yield source


def _refuse_unquoted(node: yaml.MappingNode) -> None:
    """A placeholder without quotation marks is a mapping in YAML: ``{word}`` says ``{"word": null}``.

    Only a single plain key without a colon is refused: ``{word: null}``, ``{word: }`` and ``{? word}`` are
    explicit.
    """
    [(key, value)] = node.value
    if not isinstance(key, yaml.ScalarNode) or key.style is not None or not _is_empty(value):
        return
    if _between(node.start_mark, key.start_mark).strip() != "{" or ":" in _between(key.end_mark, value.start_mark):
        return
    word = "{" + key.value[:60] + "}"
    message = f"{word} without quotation marks is an object with the key {key.value[:60]!r}, not a placeholder"
    hint = f'write "{word}" for a placeholder, {{{key.value[:60]}: null}} for an object'
    raise _refusal(message, node, hint)


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.start_mark.index == node.end_mark.index)


def _between(start: Any, end: Any) -> str:
    # PyYAML keeps the buffer in its marks only if it reads bytes or text, not a stream.
    return str(start.buffer[start.pointer : end.pointer])


def _key(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    is_placeholder = isinstance(node, yaml.MappingNode)
    hint = 'write a placeholder in quotation marks: "{{word}}"' if is_placeholder else "write the key as text"
    raise _refusal("a key must be text", node, hint)


def _refusal(message: str, where: Any, hint: str) -> yaml.YAMLError:
    """The error at the start of a node, an event or a token."""
    return _Refused(message, where.start_mark, hint)


class _Refused(yaml.constructor.ConstructorError):
    def __init__(self, message: str, mark: Any, hint: str) -> None:
        super().__init__(None, None, message, mark)
        self.hint = hint


# The first match wins: `int` comes before `float`, whose pattern matches integers, too.
_SCALARS = (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+", "-+.0123456789"),
)
"""Tag, pattern of its texts, their first characters. A number with a leading zero stays text."""

for _tag, _pattern, _first in _SCALARS:
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))

_COLLECTIONS = ("str", "seq", "map")
_CoreLoader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in {*_COLLECTIONS, *(name for name, _, _ in _SCALARS)}
}
"""Refuse dates, sets, binaries and base-60 numbers, with any tag: JSON does not have them."""


def _whole(text: str) -> int | float:
    """An integer of up to 64 bits exactly, a larger one as the nearest double, as in JSON."""
    # The length first: int() refuses texts of thousands of digits. 1: the sign.
    if len(text) <= _INTEGER_DIGITS + 1 and _SIGNED_64 <= (number := int(text)) <= _UNSIGNED_64:
        return number
    return _finite(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("the number is too large for a double")
    return number


_PLAIN: dict[str, Callable[[str], Any]] = {
    "int": _whole,
    "float": _finite,
    "bool": lambda text: text.lower() == "true",
}


def _scalar(loader: _CoreLoader, node: yaml.ScalarNode) -> Any:
    """A number or boolean; an explicit tag accepts the same spellings as an implicit one."""
    resolved = cast(Any, loader).resolve(yaml.ScalarNode, node.value, (True, False)).rpartition(":")[2]
    if resolved not in _PLAIN:
        raise _refusal(f"{node.value[:60]!r} does not match its tag", node, "leave out the tag")
    try:
        return _PLAIN[resolved](node.value)
    except ValueError as error:
        raise _refusal(f"{node.value[:60]}: {error}", node, "write it as text, in quotation marks") from error


for _tag in _PLAIN:
    _CoreLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _scalar)


class _ReadableDumper(yaml.SafeDumper):
    """Quotes what any reader of YAML could take for another type, and writes texts of several lines as blocks."""


def dump_yaml(document: Any) -> str:
    """Write a JSON-able value as YAML that `load_yaml` reads as the same value."""
    return str(yaml.dump(document, Dumper=_ReadableDumper, sort_keys=False, width=110))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_ReadableDumper.add_representer(str, _represent_text)
# The same list or object at two places is written twice, without an alias.
_ReadableDumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
for _tag, _pattern, _first in _SCALARS:
    _ReadableDumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first)
    )
