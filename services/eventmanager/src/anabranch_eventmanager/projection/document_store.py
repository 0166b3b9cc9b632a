"""The documents of a partition in memory; those of ended runs are kept as JSON, because they are hardly ever
read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping

import orjson

from anabranch.core.json_documents import dumps
from anabranch_eventmanager.projection.documents import Document


class DocumentStore(MutableMapping[str, Document]):
    """Documents by key. A compressed one takes a seventh of the memory, and is decoded on each read."""

    def __init__(self, known: Mapping[str, Document]) -> None:
        self._open: dict[str, Document] = dict(known)
        self._compressed: dict[str, bytes] = {}

    def compress(self, keys: Iterable[str]) -> None:
        """Keep these documents as JSON until they are written again; unknown keys are ignored."""
        for key in keys:
            document = self._open.pop(key, None)
            if document is not None:
                self._compressed[key] = dumps(document)

    def __getitem__(self, key: str) -> Document:
        document = self._open.get(key)
        if document is not None:
            return document
        found: Document = orjson.loads(self._compressed[key])
        return found

    def __setitem__(self, key: str, document: Document) -> None:
        self._compressed.pop(key, None)
        self._open[key] = document

    def __delitem__(self, key: str) -> None:
        if self._open.pop(key, None) is None:
            del self._compressed[key]

    def __contains__(self, key: object) -> bool:
        return key in self._open or key in self._compressed

    def __iter__(self) -> Iterator[str]:
        yield from self._open
        yield from self._compressed

    def __len__(self) -> int:
        return len(self._open) + len(self._compressed)
