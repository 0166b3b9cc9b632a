"""The takeover benchmark: what new owners read, from their log lines, and the table."""

from __future__ import annotations

from anabranch.core.request.models import Request
from takeover.figures import Claim, Takeover, claims_in, records_of, table
from takeover.installation import waiting_request

LOG = """\
2026-01-02T03:04:05.500Z INFO    anabranch.runtime.ownership.claims  claimed p.runs/0 at epoch 9: \
Replay(start=None, committed=0, restores=False)
2026-01-02T03:04:06.500Z INFO    anabranch.runtime.ownership.claims  claimed p.groups/0 at epoch 120: \
Replay(start=100, committed=118, restores=False)
2026-01-02T03:04:06.600Z INFO    anabranch.runtime.process.lifecycle  taskgroup ready
"""


def test_claims_are_read_from_the_log() -> None:
    runs, groups = claims_in(LOG)
    assert (runs.topic, runs.partition, runs.epoch, runs.start) == ("p.runs", 0, 9, 0)
    assert (groups.topic, groups.span) == ("p.groups", (100, 121))
    assert groups.at - runs.at == 1.0


def test_a_replay_reads_from_its_start_to_the_claim() -> None:
    claims = [Claim("p.runs", 0, 9, 0, 0.0), Claim("p.groups", 0, 120, 100, 0.0), Claim("p.groups", 1, 5, 5, 0.0)]
    assert records_of(claims, "p.") == {"runs": 10, "groups": 22}


def test_the_table_has_a_row_for_each_takeover() -> None:
    found = Takeover(
        "with snapshots", 10_000, 200_000, {"runs": 4_000, "groups": 6_000}, 2_500_000, 0.2, 3.21, 2.1
    )
    assert table([found]).splitlines()[-1] == (
        "| with snapshots | 10,000 | 200,000 | 10,000 (5%) | 2.5 MB | 2.1 s | 3.2 s |"
    )


def test_the_open_runs_are_valid_requests() -> None:
    Request.model_validate(waiting_request(7))
