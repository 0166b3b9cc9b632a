"""Reads the public key of a value, `session:{<session id>}:<key>`, which any client may SET.

A client can therefore imitate the form of a reference. A value counts as a reference only if it refers to its own
key in its own session and its size equals the size in the manifest, which only Anabranch writes. Any other value
is the data of the client that SET it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.json_documents import is_deep_json
from anabranch.core.names import Names, reference_address, session_key
from anabranch.core.wire.results import MARK, is_reference
from anabranch.core.yaml_documents import MAX_DEPTH
from anabranch.ports import StateStore


@dataclass(frozen=True, slots=True)
class PublicValue:
    """A value of a session. `data` is JSON, or a reference if `is_reference`; `error` is the reason if the value
    is invalid."""

    data: Any
    is_reference: bool = False
    error: str | None = None


async def classify_value(
    store: StateStore, names: Names, session_id: str, key: str, found: bytes
) -> PublicValue | None:
    """Classify the bytes `found` under a public key; None if the key is gone.

    Anabranch writes a value and its manifest atomically, but `found` was read before its manifest. If the value
    has changed in between, both are read again.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    while True:
        if is_deep_json(found):
            return PublicValue(None, error=f"its JSON is nested over {MAX_DEPTH} levels deep: SET a flatter value")
        value = parse_value(found)
        if not claims_to_be_stored(value, session_id, key):
            return PublicValue(value)
        manifest = names.value_manifest(session_id, value.get("run_id", ""), key)
        stored, again = await store.get([manifest, session_key(session_id, key)])
        if again is None:
            return None
        # The value and the manifest of one round trip belong together only if the value is still the one that was
        # parsed.
        if again == found:
            return PublicValue(value, is_reference=_matches_manifest(value, stored))
        found = again


def claims_to_be_stored(value: Any, session_id: str, key: str) -> bool:
    """True if a value has the form of a reference to its own key."""
    return is_reference(value, session_id) and value[MARK] == reference_address(session_id, key)


def _matches_manifest(reference: dict[str, Any], manifest: bytes | None) -> bool:
    stored = orjson.loads(manifest) if manifest is not None else {}
    return all(stored.get(name) == reference[name] for name in ("count", "bytes"))


def parse_value(value: bytes) -> Any:
    """Parse a value SET by a client as JSON; the text itself if it is not JSON."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode("utf-8", "replace")
