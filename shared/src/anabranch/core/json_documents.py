"""Parses bytes into a document: JSON, or YAML with the value types of JSON.

Returns a JSON-able object or refuses the document, within a budget of bytes, values and nesting. Fields are
validated elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.yaml_documents import MAX_DEPTH, MAX_NODES, MAX_WRITTEN, NotYaml, TooDeep, TooMuch, load_yaml

Format = Literal["json", "yaml"]

_BOM = b"\xef\xbb\xbf"
MAX_BYTES = 20_000_000
"""Maximum bytes of a document before it is parsed; the limits of a request are far below."""
# A string without an end extends to the end of the document: no search begins again at each quote in it.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def load_document(data: bytes | str, format: Format = "json") -> Any:
    """The document in ``data``.

    Raises:
        RequestRefused: with the one problem ``not_json``, ``not_yaml``, ``too_deep`` or ``too_large``.
    """
    # A lone surrogate becomes bytes that are not UTF-8, which the parser reports as such.
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    raw = raw.removeprefix(_BOM)
    if len(raw) > MAX_BYTES:
        raise _refused(Code.TOO_LARGE, f"the request has more than {MAX_BYTES:,} bytes", "split the request")
    return _load_yaml(raw) if format == "yaml" else _load_json(raw)


def _load_json(data: bytes) -> Any:
    _refuse_too_many_values(data)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):  # orjson has no other sign of it
            raise RequestRefused([too_deep()]) from error
        hint = "a request is one JSON object, in UTF-8"
        raise _refused(Code.NOT_JSON, f"this is not JSON: {error}", hint) from error
    _refuse_repeated_key(data, document, Code.NOT_JSON)
    return document


def _refuse_too_many_values(data: bytes) -> None:
    """Refuse a document with too many values before building any: 3 bytes of JSON take up to 130 bytes of
    memory."""
    # The first count includes commas and brackets in texts. Few documents exceed it and need the slow removal.
    if _values(data) > MAX_NODES and _values(_STRING.sub(b"", data)) > MAX_NODES:
        message = f"the request has more than {MAX_NODES:,} values"
        raise _refused(Code.TOO_LARGE, message, "put long lists into the session, and depend on their keys")


def _values(data: bytes) -> int:
    """Upper bound for the number of values: one per comma, plus one per collection that is not empty."""
    collections = data.count(b"[") + data.count(b"{") - data.count(b"[]") - data.count(b"{}")
    return data.count(b",") + collections


def _refuse_repeated_key(data: bytes, document: object, code: Code) -> None:
    """Refuse JSON in which one object has a key twice; `document` is its value as orjson parsed it."""
    if _has_each_string(data, document):
        return
    if (key := _repeated_key(data)) is not None:
        raise _refused(
            code,
            f"one object has the key {key[:100]!r} twice",
            "keep one of the two: readers do not agree on which one counts",
        )


def _has_each_string(data: bytes, document: object) -> bool:
    """True if the document has each key and text of its JSON, so orjson dropped no repeated key.

    Written again, the document has as many quotation marks as its JSON, and fewer if a key was dropped. A mark
    that the JSON spells ``\\u0022`` is written as one, so JSON with that text is not decided here.
    """
    if b"\\u0022" in data:
        return False
    try:
        return orjson.dumps(document).count(b'"') == data.count(b'"')
    except (TypeError, ValueError):
        return False  # too deep to be written


class _Repeated(Exception):
    pass


def _repeated_key(data: bytes) -> str | None:
    """The first key that one object of well-formed JSON has twice."""
    try:
        # A second parser, because orjson silently keeps the last of two equal keys.
        json.loads(data, object_pairs_hook=_once, parse_int=_nothing, parse_float=_nothing)
    except _Repeated as found:
        return str(found)
    except RecursionError:  # deeper than any request may be, which is refused for that
        return None
    return None


def _nothing(_: str) -> None:
    """Skip a number: Python refuses to parse some for their length, and keys are all that counts here."""


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
    if data.lstrip()[:1] in (b"{", b"[") and (found := _json_in_yaml(data)) is not None:
        return found
    try:
        return load_yaml(data)
    except TooDeep as error:
        raise RequestRefused([too_deep()]) from error
    except TooMuch as error:
        message = f"the request writes more than {MAX_WRITTEN:,} values"
        raise _refused(Code.TOO_LARGE, message, "split it, or write it as JSON") from error
    except NotYaml as error:
        raise _refused(Code.NOT_YAML, str(error), error.hint) from error


def _json_in_yaml(data: bytes) -> Any:
    """Parse the text as JSON; None if it is not JSON.

    JSON is YAML too, but PyYAML refuses some of it or reads it differently (tabs, U+2028, long keys).
    """
    _refuse_too_many_values(data)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    _refuse_repeated_key(data, document, Code.NOT_YAML)
    return document


def _refused(code: Code, message: str, hint: str) -> RequestRefused:
    return RequestRefused([Problem(code, "", message, hint)])


_WRITABLE_DEPTH = 254
"""Nesting levels that orjson can write; those above `MAX_DEPTH` are for the messages that hold a request."""
_WRAPPING = _WRITABLE_DEPTH - MAX_DEPTH


def fitted(data: bytes) -> bytes:
    """Copy the bytes into memory of exactly their size, for values that are kept for a while.

    orjson returns its output in the buffer that it wrote into, which has 8 kB even for two bytes (3.13.0,
    measured).
    """
    return bytes(memoryview(data))


def dumps(value: Any) -> bytes:
    """Compact JSON in memory of exactly its size, for values that are kept for a while; see `fitted`."""
    return bytes(memoryview(orjson.dumps(value)))


def compact_size(document: object) -> int | None:
    """Bytes of the document as compact JSON; None if JSON cannot express it or it is over ``MAX_DEPTH`` deep."""
    # orjson refuses more than 254 levels: wrapped in the difference, it refuses more than MAX_DEPTH by itself.
    for _ in range(_WRAPPING):
        document = [document]
    try:
        return len(orjson.dumps(document)) - 2 * _WRAPPING
    except (TypeError, ValueError):
        return None


LEAST_DEEP_BYTES = 2 * MAX_DEPTH
"""Bytes of JSON that are too few to exceed the nesting limit: each level takes two brackets."""


def is_deep_json(encoded: bytes) -> bool:
    """True if a value's JSON is nested over ``MAX_DEPTH`` levels deep; False if the value is not JSON."""
    # Fast path: counting brackets is cheap next to encoding, and few values have more than the limit.
    if len(encoded) <= LEAST_DEEP_BYTES or encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH:
        return False
    try:
        return is_deep(orjson.loads(encoded))
    except orjson.JSONDecodeError as error:
        return "depth limit" in str(error) or "recursion limit" in str(error).lower()


def is_deep(document: object) -> bool:
    """True if objects and lists are nested over ``MAX_DEPTH`` levels deep; iterative, one pass for each level."""
    level = [document]
    for _ in range(MAX_DEPTH):
        # By id: a value with many references to it, as by YAML aliases, is visited once on a level.
        level = list({id(inner): inner for node in level for inner in _inside(node)}.values())
        if not level:
            return False
    return True


def _inside(node: object) -> Iterator[object]:
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    return (value for value in values if isinstance(value, (Mapping, list, tuple)))
