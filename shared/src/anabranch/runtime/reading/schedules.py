"""Reads the views of schedules from the store; see `core.schedules.views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.names import Names
from anabranch.core.schedules.addresses import schedule_address
from anabranch.core.schedules.views import MAX_LISTED
from anabranch.ports import StateStore


async def load_schedule(store: StateStore, names: Names, schedule_id: str) -> Mapping[str, Any] | None:
    """The view of a schedule; None if there is none.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    [value] = await store.get([names.schedule(schedule_address(schedule_id))])
    return None if value is None else orjson.loads(value)


async def load_schedules(store: StateStore, names: Names) -> Sequence[Mapping[str, Any]]:
    """The views of all schedules, by their ids.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    addresses = await store.index_top(names.schedule_list, MAX_LISTED)
    values = await store.get([names.schedule(each) for each in addresses]) if addresses else []
    found = [orjson.loads(value) for value in values if value is not None]
    return sorted((view for view in found if view is not None), key=lambda view: str(view["id"]))
