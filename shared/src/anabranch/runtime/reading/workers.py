"""Reads the live workers from the store: those with a liveness key and a card."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic import ValidationError

from anabranch.core.names import Names
from anabranch.core.wire.worker_card import WorkerCard, read_card
from anabranch.ports import StateStore

log = logging.getLogger(__name__)

PAGE = 200
"""Workers that one round trip reads."""


async def live_workers(store: StateStore, names: Names) -> Sequence[WorkerCard]:
    """The live workers, by pool, host and id. One that has died is among them until its lease is over.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    found: dict[str, WorkerCard] = {}
    offset = 0
    while ids := await store.index_top(names.worker_list, PAGE, offset):
        live = await _live(store, names, ids)
        found |= {worker.id: worker for worker in live}
        # The list is ordered by heartbeats: after a page of dead workers follow only longer dead ones.
        if not live or len(ids) < PAGE:
            break
        offset += PAGE
    return sorted(found.values(), key=lambda worker: (worker.pool, worker.host, worker.id))


async def _live(store: StateStore, names: Names, ids: Sequence[str]) -> list[WorkerCard]:
    keys = [key for each in ids for key in (names.worker(each), names.worker_card(each))]
    values = await store.get(keys)
    cards = [card for beat, card in zip(values[::2], values[1::2], strict=True) if beat is not None]
    return [worker for card in cards if card is not None and (worker := _read(card)) is not None]


def _read(card: bytes) -> WorkerCard | None:
    try:
        return read_card(card)
    except ValidationError as error:
        log.warning("the list of workers leaves out a worker whose card cannot be read: %s", error)
        return None
