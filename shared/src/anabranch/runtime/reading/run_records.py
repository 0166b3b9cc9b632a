"""Reads the records of runs, and the keys of a session, from the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anabranch.core.names import Names, session_id_problem, session_key
from anabranch.core.session_owner import SessionOwner
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import StateStore


async def load_run_records(store: StateStore, names: Names, run_ids: Sequence[str]) -> list[RunRecord | None]:
    """Load the record of each run, in one round trip; None for a run that is not admitted, or has expired.

    Raises:
        ServerUnavailable, StoreRefused: the store does not respond.
    """
    if not run_ids:
        return []
    stored = await store.get([names.tombstone(run_id) for run_id in run_ids])
    return [None if value is None else RunRecord.decode(value) for value in stored]


async def existing_session_keys(
    store: StateStore, names: Names, session_id: object, project: str, candidates: Collection[str]
) -> Sequence[str]:
    """Return the candidates that are keys of the session from earlier runs, sorted; takes one round trip.

    Empty for an invalid session id, and for a session of another project: a refusal must not reveal its contents.

    Raises:
        ServerUnavailable, StoreRefused: the store does not respond.
    """
    keys = sorted(candidates)
    if not keys or not isinstance(session_id, str) or session_id_problem(session_id):
        return ()
    stored = [session_key(session_id, key) for key in keys]
    run, claim, *found = await store.get([*SessionOwner.keys(names, session_id), *stored])
    if SessionOwner.of_values(session_id, run, claim).problem(project) is not None:
        return ()
    return [key for key, value in zip(keys, found, strict=True) if value is not None]
