"""Samples of the messages about schedules, for the golden files."""

from __future__ import annotations

from anabranch.core.wire import messages as m

SCHEDULE = "schedule:4f1b6d3e2a2f4a5d9c8b7a6f5e4d3c2b"
RUN = "1730a2fb-229a-5d78-a020-51a0b15f671c"
SCHEDULE_SAMPLES: dict[type[m.Message], tuple[m.Message, tuple[bytes, ...]]] = {
    m.ControlSchedule: (
        m.ControlSchedule(
            run_id=SCHEDULE,
            id="nightly",
            project="shop",
            action="put",
            schedule={"id": "nightly", "every": 900, "definition": "report"},
            start=1_896_058_800.0,
            end=1_896_062_400.0,
            overlap="allow",
            fired=3,
            since=1_896_058_800.5,
            origin="anabranch.requests/0/17",
            by="ann",
            reason="moved",
        ),
        (),
    ),
    m.FiringStarted: (m.FiringStarted(run_id=SCHEDULE, firing=RUN, at=1_896_058_800.0), ()),
    m.FiringEnded: (
        m.FiringEnded(
            run_id=SCHEDULE, firing=RUN, at=1_896_058_800.0, status="rejected", message="no such definition"
        ),
        (),
    ),
}
