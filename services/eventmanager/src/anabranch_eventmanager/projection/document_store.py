"""The documents of a partition in memory; those of ended runs are kept as JSON, because they are hardly ever
read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

import orjson

from anabranch.core.json_documents import dumps
from anabranch_eventmanager.projection.documents import Document


class DocumentStore(MutableMapping[str, Document]):
    """Documents by key. A compressed one takes a seventh of the memory, and is decoded on each read."""

    def __init__(self, known: Mapping[str, Document]) -> None:
        self._kept: dict[str, Document | bytes] = dict(known)

    def compress(self, key: str) -> None:
        """Keep this document as JSON until it is written again; an unknown key is ignored."""
        document = self._kept.get(key)
        if isinstance(document, dict):
            self._kept[key] = dumps(document)

    def get(self, key: str, default: Document | None = None) -> Document | None:  # type: ignore[override]
        """The document under `key`; not inherited, because most look-ups are of keys without a document."""
        kept = self._kept.get(key, default)
        return _decoded(kept) if isinstance(kept, bytes) else kept

    def __getitem__(self, key: str) -> Document:
        kept = self._kept[key]
        return _decoded(kept) if isinstance(kept, bytes) else kept

    def __setitem__(self, key: str, document: Document) -> None:
        self._kept[key] = document

    def __delitem__(self, key: str) -> None:
        del self._kept[key]

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _decoded(kept: bytes) -> Document:
    document: Document = orjson.loads(kept)
    return document
