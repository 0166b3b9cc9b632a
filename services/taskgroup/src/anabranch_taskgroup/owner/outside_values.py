"""Appends values from outside the run to its log, so that each owner of the run decides with the same values."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.outputs import reference_count
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Json, ValueFound
from anabranch.core.wire.results import reference_document
from anabranch.ports import EventLog, Outgoing, StateStore, Write
from anabranch.runtime.reading.public_values import PublicValue
from anabranch_taskgroup.owner.key_watcher import OutsideKey
from anabranch_taskgroup.session.turn import DecisionConfig
from anabranch_taskgroup.session.value_references import inline_manifest

VALUE_BYTES = 700_000
"""A value above it is copied to the store, and the record has a reference to the copy."""


class OutsideValues:
    """Publishes values that were found under keys of a session."""

    def __init__(self, eventlog: EventLog, store: StateStore, config: DecisionConfig) -> None:
        self._log = eventlog
        self._store = store
        self._config = config

    async def append(self, found: Sequence[OutsideKey]) -> None:
        """Append a record for each value. The owner drops one whose key is known."""
        records = [
            Outgoing(self._config.names.groups, each.session_id, encode(await self._message(each)))
            for each in found
        ]
        await self._log.publish(records)

    async def _message(self, found: OutsideKey) -> ValueFound:
        value = found.value
        if value.error is not None:
            return ValueFound(run_id=found.run_id, key=found.key, error=value.error)
        data = orjson.dumps(value.data)
        if len(data) > VALUE_BYTES:
            value = await self._copied(found, value.data, data)
        return ValueFound(run_id=found.run_id, key=found.key, value=value.data, is_reference=value.is_reference)

    async def _copied(self, found: OutsideKey, value: Json, data: bytes) -> PublicValue:
        """A reference to a copy of the value, which outlives the key itself."""
        names, session_id, run_id, key = self._config.names, found.session_id, found.run_id, found.key
        name, manifest = inline_manifest(names, session_id, run_id, key, value, data)
        await self._store.put([Write(name, manifest, 2 * self._config.result_ttl)])
        count = reference_count(value)
        return PublicValue(reference_document(session_id, key, run_id, count, len(data)), is_reference=True)
