"""Reads the shared context of a session: its versions, its state at a version, and the difference of two states.

Session owners write the history, in the order of their decisions; the number of a version is its position there.
The last `MAX_VERSIONS` versions are kept for the lifetime of the session's results; `dropped` counts the earlier
ones. A wide `separate` join is one version, of its plain key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from anabranch.core.context_versions import Change
from anabranch.core.errors import NoSuchVersion
from anabranch.core.names import Names
from anabranch.core.policies import Fold, RunsValue, canonical
from anabranch.ports import StateStore


@dataclass(frozen=True, slots=True)
class Version:
    """A change of the context with its version number in the session, from 1."""

    number: int
    change: Change

    def to_document(self) -> dict[str, Any]:
        """The version as `context --json` and the gateway show it."""
        document = {each.name: getattr(self.change, each.name) for each in fields(self.change)}
        document["bytes"] = document.pop("size")
        return {"version": self.number, **document, "writers": list(self.change.writers)}


@dataclass(frozen=True, slots=True)
class KeyState:
    """The value of a key, and the version that set it."""

    value: Any
    version: int

    def to_document(self) -> dict[str, Any]:
        return {"value": self.value, "version": self.version}


@dataclass(frozen=True)
class SharedContext:
    """The context of a session at version `at`. `versions` are the kept versions up to it, the oldest first;
    `last` is the newest version of the session."""

    session_id: str
    at: int
    last: int
    dropped: int
    versions: tuple[Version, ...]

    @cached_property
    def state(self) -> Mapping[str, KeyState]:
        """Key -> state, without keys that only dropped versions wrote."""
        return dict(_states(self.versions))

    def to_document(self) -> dict[str, Any]:
        """The context as `context --json` and the gateway show it."""
        return {
            "session_id": self.session_id,
            "at": self.at,
            "last": self.last,
            "dropped": self.dropped,
            "versions": [version.to_document() for version in self.versions],
            "state": {key: found.to_document() for key, found in self.state.items()},
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that differs between two states; `versions` are the numbers of the versions between them that wrote
    it."""

    key: str
    change: Literal["added", "changed", "removed"]
    before: Any
    after: Any
    versions: tuple[int, ...]

    def to_document(self) -> dict[str, Any]:
        """The difference as `context --diff --json` and the gateway show it."""
        document = {"key": self.key, "change": self.change, "before": self.before, "after": self.after}
        return document | {"versions": list(self.versions)}


async def load_context(store: StateStore, names: Names, session_id: str, at: int | None = None) -> SharedContext:
    """Load the context of a session at version `at` (None: the newest). It is empty for an unknown session.

    Raises:
        NoSuchVersion: `at` is newer than the newest version, or older than the kept ones.
        ServerUnavailable: the store cannot be reached.
    """
    found = await store.history(names.context(session_id))
    last = found.dropped + len(found.values)
    shown = last if at is None else at
    if not found.dropped <= shown <= last or shown < 0:
        raise NoSuchVersion(session_id, shown, found.dropped, last)
    versions = tuple(
        Version(found.dropped + nth, Change.of_entry(entry))
        for nth, entry in enumerate(found.values[: shown - found.dropped], 1)
    )
    return SharedContext(session_id, shown, last, found.dropped, versions)


def diff(a: SharedContext, b: SharedContext) -> list[Difference]:
    """Compare two states of a session, by key. Pure."""
    between = {each.number: each for each in (*a.versions, *b.versions)}
    low, high = sorted((a.at, b.at))
    writes: dict[str, list[int]] = {}
    for number in sorted(number for number in between if low < number <= high):
        writes.setdefault(between[number].change.key, []).append(number)
    return [each for key in sorted({*a.state, *b.state}) if (each := _difference(a, b, key, writes.get(key, ())))]


def _difference(a: SharedContext, b: SharedContext, key: str, numbers: Sequence[int]) -> Difference | None:
    before, after = a.state.get(key), b.state.get(key)
    if before is None:
        assert after is not None
        return Difference(key, "added", None, after.value, tuple(numbers))
    if after is None:
        return Difference(key, "removed", before.value, None, tuple(numbers))
    if canonical(before.value) == canonical(after.value):
        return None
    return Difference(key, "changed", before.value, after.value, tuple(numbers))


def _states(versions: Sequence[Version]) -> Iterator[tuple[str, KeyState]]:
    folds: dict[tuple[str, str], Fold] = {}
    for version in versions:
        change = version.change
        if change.policy is None or change.submitted is None:
            yield change.key, KeyState(change.value, version.number)
            continue
        # With a merge policy the history has each run's contribution, and the value is the merge of all of them.
        fold = folds.setdefault((change.key, change.policy), Fold(change.policy))  # type: ignore[arg-type]
        yield change.key, KeyState(_merged(fold, version), version.number)


def _merged(fold: Fold, version: Version) -> Any:
    """Add a run's contribution and return the merged value; a contribution stored elsewhere is merged as a
    reference."""
    change = version.change
    assert change.submitted is not None
    fold.add(RunsValue(version.number, change.submitted, change.run_id, change.value, change.replaces))
    return fold.value()
