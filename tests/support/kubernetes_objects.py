"""The objects of an in-process Kubernetes API: versions, a bounded history, watches, deletion with finalizers."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Thing = dict[str, Any]
Key = tuple[str, str, str]


class Refusal(Exception):
    """A refusal with a Status as its body."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a watch, as the history keeps it."""

    version: int
    type: str
    resource: str
    thing: Thing

    def is_selected(self, resource: str, namespace: str, labels: Mapping[str, str]) -> bool:
        return self.resource == resource and selected(self.thing, namespace, labels)


def selected(thing: Thing, namespace: str, labels: Mapping[str, str]) -> bool:
    metadata = thing["metadata"]
    found = metadata.get("labels") or {}
    return metadata["namespace"] == namespace and all(found.get(key) == value for key, value in labels.items())


@dataclass
class Objects:
    """All objects of the server, and the events that watches read."""

    on_change: list[Callable[[Event], None]] = field(default_factory=list)
    _objects: dict[Key, Thing] = field(default_factory=dict)
    _history: list[Event] = field(default_factory=list)
    _version: int = 100
    _compacted: int = 0
    _uids: Any = field(default_factory=itertools.count)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _watches: int = 0

    @property
    def version(self) -> int:
        return self._version

    def create(self, resource: str, thing: Thing) -> Thing:
        metadata = thing["metadata"]
        key = (resource, metadata["namespace"], metadata["name"])
        if key in self._objects:
            raise Refusal(409, "AlreadyExists", f'{resource} "{metadata["name"]}" already exists')
        metadata |= {"uid": f"uid-{next(self._uids)}"}
        self._put("ADDED", key, thing)
        return copy.deepcopy(self._objects[key])

    def get(self, resource: str, namespace: str, name: str) -> Thing:
        try:
            return copy.deepcopy(self._objects[resource, namespace, name])
        except KeyError:
            raise Refusal(404, "NotFound", f'{resource} "{name}" not found') from None

    def has(self, resource: str, namespace: str, name: str) -> bool:
        return (resource, namespace, name) in self._objects

    def list(self, resource: str, namespace: str, labels: Mapping[str, str]) -> list[Thing]:
        return [
            copy.deepcopy(thing)
            for (kind, _, _), thing in sorted(self._objects.items())
            if kind == resource and selected(thing, namespace, labels)
        ]

    def update(self, resource: str, namespace: str, name: str, change: Callable[[Thing], None]) -> None:
        """Change an object, if it still exists."""
        key = (resource, namespace, name)
        if key in self._objects:
            thing = copy.deepcopy(self._objects[key])
            change(thing)
            self._put("MODIFIED", key, thing)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        thing = self._objects.pop((resource, namespace, name), None)
        if thing is not None:
            self._happened("DELETED", resource, copy.deepcopy(thing))

    def compact(self) -> None:
        """Forget the history, as etcd does after some minutes."""
        self._history.clear()
        self._compacted = self._version

    def close_watches(self) -> None:
        """End all watches, as a server that restarts does."""
        self._watches += 1
        self._tell()

    async def watch(
        self, resource: str, namespace: str, labels: Mapping[str, str], version: int, seconds: float
    ) -> AsyncIterator[Thing]:
        """The events after a version, and a bookmark at the end."""
        if version < self._compacted:
            raise Refusal(410, "Expired", f"too old resource version: {version} ({self._compacted})")
        generation = self._watches
        try:
            async with asyncio.timeout(seconds):
                while generation == self._watches:
                    news = self._news
                    for event in [each for each in self._history if each.version > version]:
                        version = event.version
                        if event.is_selected(resource, namespace, labels):
                            yield {"type": event.type, "object": event.thing}
                    if version < self._compacted:
                        raise Refusal(410, "Expired", f"too old resource version: {version} ({self._compacted})")
                    await news.wait()
        except TimeoutError:
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}

    def _put(self, kind: str, key: Key, thing: Thing) -> None:
        self._objects[key] = thing
        self._happened(kind, key[0], thing)

    def _happened(self, kind: str, resource: str, thing: Thing) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        event = Event(self._version, kind, resource, copy.deepcopy(thing))
        self._history.append(event)
        for each in self.on_change:
            each(event)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
