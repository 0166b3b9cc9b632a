"""What events are of: a run, or something that runs share and that has an address in place of a run id. Pure."""

from __future__ import annotations

from anabranch.core import limit_addresses
from anabranch.core.schedules import addresses as schedule_addresses

_ADDRESSES = (schedule_addresses.PREFIX, limit_addresses.PREFIX)


def is_of_run(run_id: str) -> bool:
    """True if events with this run id are of a run, false if they are of a schedule or a breaker."""
    return not run_id.startswith(_ADDRESSES)
