"""What events are of: a run, or something that runs share and that has an address in place of a run id. Pure."""

from __future__ import annotations

from anabranch.core.limit_addresses import is_limit_address
from anabranch.core.schedules.addresses import is_schedule_address


def is_of_run(run_id: str) -> bool:
    """True if events with this run id are of a run, false if they are of a schedule or a breaker."""
    return not (is_schedule_address(run_id) or is_limit_address(run_id))
