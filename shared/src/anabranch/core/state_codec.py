"""Encodes a dataclass as a JSON document and a list of byte strings, and decodes both to an equal object. Pure.

The conversions follow from the type hints of the fields, so a field that is added to a dataclass is encoded too. A
field with its default value is left out: the document of an idle run is small, and a document that was written
before the field existed can be read. A field that the dataclass does not have is an error, because ignoring it
would lose a part of the state. Fields that the dataclass computes (`init=False`) are left out.

    str, int, float, bool, None, Any     as they are
    bytes                                the number of a byte string
    Enum                                 its value
    list, tuple                          a list
    set, frozenset                       a sorted list
    dict                                 an object if its keys are texts, else a list of pairs
    dataclass                            an object of the fields that differ from their defaults
    union of dataclasses                 [number in the union, object]
    pydantic model                       an object of the fields that differ from their defaults
    Ranges                               a list of [start, stop]
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from anabranch.core.ranges import Ranges

T = TypeVar("T")

Write = Callable[[Any, list[bytes]], Any]
"""Returns the JSON of a value, and appends its byte strings to the list."""
Read = Callable[[Any, Sequence[bytes]], Any]
"""Returns the value of a JSON document, whose byte strings are in the sequence."""
FieldCodec = tuple[Write, Read]

_PLAIN: frozenset[Any] = frozenset((str, int, float, bool, type(None), Any))


class UnknownField(Exception):
    """A document has a field that the dataclass does not have: a later release has written it."""


class StateCodec(Generic[T]):
    """The codec of one dataclass and of the dataclasses in its fields.

    Args:
        kind: the dataclass.
        special: codecs of fields whose type hints do not say how they are encoded, by (dataclass, field).
        skipped: fields that are not encoded and get their defaults, by (dataclass, field).

    Raises:
        TypeError: the type of a field is not one of those in the module's table.
    """

    def __init__(
        self,
        kind: type[T],
        special: Mapping[tuple[type, str], FieldCodec] | None = None,
        skipped: frozenset[tuple[type, str]] = frozenset(),
    ) -> None:
        self._special = dict(special or {})
        self._skipped = skipped
        self._known: dict[Any, FieldCodec] = {}
        self.covered: dict[type, frozenset[str]] = {}
        """The fields of each dataclass that are encoded."""
        self._write, self._read = self._dataclass(kind)

    def write(self, state: T) -> tuple[Any, list[bytes]]:
        """The document of a state, as values that orjson can write, and its byte strings."""
        blobs: list[bytes] = []
        return self._write(state, blobs), blobs

    def read(self, document: Any, blobs: Sequence[bytes]) -> T:
        """The state with this document.

        Raises:
            UnknownField: a later release has written it.
            KeyError, IndexError, TypeError, ValueError: it is not a document of this state.
        """
        state: T = self._read(document, blobs)
        return state

    # --- types ---------------------------------------------------------------------------------------

    def _codec(self, hint: Any) -> FieldCodec | None:
        """The codec of a type; None if a value is its own JSON in both directions."""
        if hint in _PLAIN or get_origin(hint) is Literal:
            return None
        if hint not in self._known:
            found = self._made(hint)
            if found is None:
                return None
            self._known[hint] = found
        return self._known[hint]

    def _made(self, hint: Any) -> FieldCodec | None:
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self._union([each for each in get_args(hint) if each is not type(None)])
        if origin in (list, tuple, set, frozenset):
            return self._collection(origin, get_args(hint))
        if origin is dict:
            return self._mapping(*get_args(hint))
        if hint is bytes:
            return _write_bytes, lambda number, blobs: blobs[number]
        if hint is Ranges:
            return lambda value, _: value.pairs(), lambda pairs, _: Ranges.from_pairs(pairs)
        if isinstance(hint, type):
            return self._class(hint)
        raise TypeError(f"there is no encoding of {hint}")

    def _class(self, kind: type) -> FieldCodec:
        if issubclass(kind, Enum):
            return lambda value, _: value.value, lambda value, _: kind(value)
        if issubclass(kind, BaseModel):
            return _write_model, lambda document, _: kind.model_validate(document)
        if is_dataclass(kind):
            return self._dataclass(kind)
        raise TypeError(f"there is no encoding of {kind}")

    def _union(self, kinds: list[Any]) -> FieldCodec | None:
        codecs = [self._codec(kind) for kind in kinds]
        if all(codec is None for codec in codecs):
            return None
        if len(kinds) == 1:
            write, read = codecs[0] or _AS_IS
            return (
                lambda value, blobs: None if value is None else write(value, blobs),
                lambda document, blobs: None if document is None else read(document, blobs),
            )
        if not all(is_dataclass(kind) for kind in kinds):
            raise TypeError(f"there is no encoding of a union of {kinds}")
        both = [codec or _AS_IS for codec in codecs]
        return (
            lambda value, blobs: [kinds.index(type(value)), both[kinds.index(type(value))][0](value, blobs)],
            lambda document, blobs: both[document[0]][1](document[1], blobs),
        )

    def _collection(self, kind: type, of: tuple[Any, ...]) -> FieldCodec | None:
        if kind is tuple and not (len(of) == 2 and of[1] is Ellipsis):
            return self._fixed_tuple(of)
        inner = self._codec(of[0])
        if kind in (set, frozenset):
            if inner is None:
                return lambda value, _: sorted(value), lambda document, _: kind(document)
            write, read = inner
            return (
                lambda value, blobs: [write(each, blobs) for each in sorted(value)],
                lambda document, blobs: kind(read(each, blobs) for each in document),
            )
        if inner is None:
            return None if kind is list else (_as_is, lambda document, _: tuple(document))
        write, read = inner
        return (
            lambda value, blobs: [write(each, blobs) for each in value],
            lambda document, blobs: kind([read(each, blobs) for each in document]),
        )

    def _fixed_tuple(self, of: tuple[Any, ...]) -> FieldCodec:
        codecs = [self._codec(each) for each in of]
        if all(codec is None for codec in codecs):
            return _as_is, lambda document, _: tuple(document)
        both = [codec or _AS_IS for codec in codecs]
        return (
            lambda value, blobs: [write(each, blobs) for each, (write, _) in zip(value, both, strict=True)],
            lambda document, blobs: tuple(
                read(each, blobs) for each, (_, read) in zip(document, both, strict=True)
            ),
        )

    def _mapping(self, key: Any, of: Any) -> FieldCodec | None:
        inner = self._codec(of)
        if key is str:
            if inner is None:
                return None
            write, read = inner
            return (
                lambda value, blobs: {name: write(each, blobs) for name, each in value.items()},
                lambda document, blobs: {name: read(each, blobs) for name, each in document.items()},
            )
        write_key, read_key = self._codec(key) or _AS_IS
        write, read = inner or _AS_IS
        return (
            lambda value, blobs: [[write_key(name, blobs), write(each, blobs)] for name, each in value.items()],
            lambda document, blobs: {read_key(name, blobs): read(each, blobs) for name, each in document},
        )

    # --- dataclasses ---------------------------------------------------------------------------------

    def _dataclass(self, kind: type[Any]) -> FieldCodec:
        hints = get_type_hints(kind)
        members: dict[str, tuple[Write | None, Read | None, Any]] = {}
        for each in fields(kind):
            if (kind, each.name) in self._skipped or not each.init:
                continue
            write, read = self._special.get((kind, each.name)) or self._codec(hints[each.name]) or (None, None)
            members[each.name] = (write, read, _default_of(each))
        self.covered[kind] = frozenset(members)

        def write_fields(state: Any, blobs: list[bytes]) -> dict[str, Any]:
            document: dict[str, Any] = {}
            for name, (write, _, default) in members.items():
                value = getattr(state, name)
                if default is MISSING or value != default:
                    document[name] = value if write is None else write(value, blobs)
            return document

        def read_fields(document: Mapping[str, Any], blobs: Sequence[bytes]) -> Any:
            values: dict[str, Any] = {}
            for name, value in document.items():
                if name not in members:
                    raise UnknownField(f"{kind.__name__} has no field {name!r}")
                read = members[name][1]
                values[name] = value if read is None else read(value, blobs)
            return kind(**values)

        return write_fields, read_fields


def _default_of(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _as_is(value: Any, blobs: Any) -> Any:
    return value


_AS_IS: FieldCodec = (_as_is, _as_is)


def _write_bytes(value: bytes, blobs: list[bytes]) -> int:
    blobs.append(value)
    return len(blobs) - 1


def _write_model(value: BaseModel, blobs: list[bytes]) -> Any:
    return value.model_dump(mode="json", exclude_defaults=True)
