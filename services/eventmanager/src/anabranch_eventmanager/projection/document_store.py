"""Facts in memory, those of ended runs as bytes: they are kept for a day, and hardly ever looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping

import orjson

from anabranch.core.json_documents import dumps
from anabranch_eventmanager.projection.documents import Document


class DocumentStore(MutableMapping[str, Document]):
    """Documents by key. One that is put away takes a seventh of the memory, and is read anew each time."""

    def __init__(self, known: Mapping[str, Document]) -> None:
        self._open: dict[str, Document] = dict(known)
        self._away: dict[str, bytes] = {}

    def put_away(self, keys: Iterable[str]) -> None:
        """Keep these as bytes until they are written again; unknown ones are ignored."""
        for key in keys:
            document = self._open.pop(key, None)
            if document is not None:
                self._away[key] = dumps(document)

    def __getitem__(self, key: str) -> Document:
        document = self._open.get(key)
        if document is not None:
            return document
        found: Document = orjson.loads(self._away[key])
        return found

    def __setitem__(self, key: str, document: Document) -> None:
        self._away.pop(key, None)
        self._open[key] = document

    def __delitem__(self, key: str) -> None:
        if self._open.pop(key, None) is None:
            del self._away[key]

    def __contains__(self, key: object) -> bool:
        return key in self._open or key in self._away

    def __iter__(self) -> Iterator[str]:
        yield from self._open
        yield from self._away

    def __len__(self) -> int:
        return len(self._open) + len(self._away)
