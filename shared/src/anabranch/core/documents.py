"""From bytes to a document: JSON, and YAML read as JSON would be.

YAML has the 1.2 core schema here: a date stays text, ``on`` and ``yes`` stay text, keys are text, and one key
twice in a mapping is an error. It ends with a plain JSON-able object or a refusal; it knows no field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import orjson
import yaml

from anabranch.core.errors import Code, Problem, RequestRefused

Format = Literal["json", "yaml"]

_BOM = b"\xef\xbb\xbf"


def load_document(data: bytes | str, format: Format = "json") -> Any:
    """The document in ``data``.

    Raises:
        RequestRefused: with the one problem ``not_json`` or ``not_yaml``.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    raw = raw.removeprefix(_BOM)
    return _load_yaml(raw) if format == "yaml" else _load_json(raw)


def _load_json(data: bytes) -> Any:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise RequestRefused([too_deep()]) from error
        hint = "a request is one JSON object, in UTF-8"
        raise _refused(Code.NOT_JSON, f"this is not JSON: {error}", hint) from error
    if (key := _repeated_key(data)) is not None:
        raise _refused(
            Code.NOT_JSON,
            f"one object has the key {key[:100]!r} twice",
            "keep one of the two: readers do not agree on which one counts",
        )
    return document


class _Repeated(Exception):
    pass


def _repeated_key(data: bytes) -> str | None:
    """The first key that one object of well-formed JSON has twice."""
    try:
        json.loads(data, object_pairs_hook=_once, parse_int=_nothing, parse_float=_nothing)
    except _Repeated as found:
        return str(found)
    except RecursionError:  # deeper than any request may be, which is refused for that
        return None
    return None


def _nothing(_: str) -> None:
    """Numbers are not looked at; Python would refuse some for their length."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    keys = dict(pairs)
    if len(keys) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Repeated(key)
        seen.add(key)


def too_deep() -> Problem:
    """The refusal of a document that is nested over ``MAX_DEPTH`` levels deep."""
    message = f"the request is nested over {MAX_DEPTH} levels deep"
    return Problem(Code.TOO_DEEP, "", message, "use fewer levels")


def _load_yaml(data: bytes) -> Any:
    try:
        document = yaml.load(data, Loader=_CoreLoader)
        _refuse_blown_up(document)
    except RecursionError as error:
        raise RequestRefused([too_deep()]) from error
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        message = "this is not YAML: " + " ".join(str(error).split())
        raise _refused(Code.NOT_YAML, message, "check the indentation near that line") from error
    return document


def _refused(code: Code, message: str, hint: str) -> RequestRefused:
    return RequestRefused([Problem(code, "", message, hint)])


MAX_DEPTH = 200
_WRITABLE_DEPTH = 254
"""What orjson writes at most: the rest is room for the messages that a request travels in."""
_WRAPPING = _WRITABLE_DEPTH - MAX_DEPTH


def fitted(data: bytes) -> bytes:
    """The same bytes in no more memory than they take, for whoever keeps them.

    orjson leaves what it wrote in the buffer that it wrote into: 8 kB for the shortest text (3.13.0, measured).
    """
    return bytes(memoryview(data))


def dumps(value: Any) -> bytes:
    """Compact JSON that is kept for a while: a thousand effects of one turn are as large as they look."""
    return fitted(orjson.dumps(value))


def compact_size(document: object) -> int | None:
    """Bytes of the document as compact JSON; None if JSON cannot express it or it is over ``MAX_DEPTH`` deep."""
    for _ in range(_WRAPPING):
        document = [document]
    try:
        return len(orjson.dumps(document)) - 2 * _WRAPPING
    except (TypeError, ValueError):
        return None


def is_deep(document: object) -> bool:
    """Whether objects and lists are nested over ``MAX_DEPTH`` levels deep, each node looked at once a level."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = list({id(inner): inner for node in level for inner in _inside(node)}.values())
        if not level:
            return False
    return True


def _inside(node: object) -> Iterator[object]:
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    return (value for value in values if isinstance(value, (Mapping, list, tuple)))


MAX_NODES = 2_000_000
MAX_MERGED = 100_000


def _refuse_blown_up(document: object) -> None:
    """Raises ValueError where aliases blow a small file up, or make it contain itself."""
    nodes, pending = 0, [document]
    while pending:
        node = pending.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise ValueError("its aliases expand to too many values")
        if isinstance(node, dict):
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of JSON only, and text keys that occur once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own class attribute

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = _key(key)
            if name in seen:
                raise _bad_key(f"the key {name!r} is there twice", key)
            seen.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED:
            raise _bad_key("its merge keys expand to too many values", node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {_key(key): self.construct_object(value, deep=deep) for key, value in node.value}


def _key(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    raise _bad_key("a key must be text", node)


def _bad_key(message: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


_SCALARS = (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+", "-+.0123456789"),
)
"""Tag, the texts that have it, their first characters. A number with a leading zero stays text."""

for _tag, _pattern, _first in _SCALARS:
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))

_COLLECTIONS = ("str", "seq", "map")
_CoreLoader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in {*_COLLECTIONS, *(name for name, _, _ in _SCALARS)}
}
"""Dates, sets, binaries and numbers to the base of 60 are no JSON, whatever tag is put before them."""


_PLAIN: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": lambda text: text.lower() == "true"}


def _scalar(loader: _CoreLoader, node: yaml.ScalarNode) -> Any:
    """A number or truth value; an explicit tag takes the spellings that need none."""
    resolved = cast(Any, loader).resolve(yaml.ScalarNode, node.value, (True, False)).rpartition(":")[2]
    if resolved not in _PLAIN:
        raise _bad_key(f"{node.value[:60]!r} is not what its tag says", node)
    return _PLAIN[resolved](node.value)


for _tag in _PLAIN:
    _CoreLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _scalar)
