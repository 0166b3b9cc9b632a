"""What a takeover read, from the owners' log lines, and the table of takeovers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_CLAIMED = re.compile(
    r"^(?P<time>\S+) .* claimed (?P<topic>\S+)/(?P<partition>\d+) at epoch (?P<epoch>\d+): "
    r"Replay\(start=(?P<start>\d+|None), "
)


@dataclass(frozen=True)
class Claim:
    """A claim of a partition: its owner replays from offset `start` to that of the claim, `epoch`.

    Attributes:
        at: when the owner claimed the partition, in seconds since the epoch of time.
    """

    topic: str
    partition: int
    epoch: int
    start: int
    at: float

    @property
    def span(self) -> tuple[int, int]:
        """The offsets that are replayed: the first, and the one after the last."""
        return self.start, self.epoch + 1


def claims_in(log: str) -> Iterator[Claim]:
    """The claims of partitions in a service's log."""
    for line in log.splitlines():
        if found := _CLAIMED.match(line):
            start = 0 if found["start"] == "None" else int(found["start"])
            at = datetime.fromisoformat(found["time"]).timestamp()
            yield Claim(found["topic"], int(found["partition"]), int(found["epoch"]), start, at)


@dataclass(frozen=True)
class Takeover:
    """One takeover of a partition of each topic.

    Attributes:
        log: records on both partitions before it.
        records: records that the new owners read; `wire_bytes`: their bytes as they were fetched, compressed.
        claim_seconds: from the signal that ends the old owners to the last claim.
        restore_seconds: from the first claim to the final record of a request that was sent after the last claim.
        processor_seconds: processor time of the new owners from the signal to that record. Other load of the
            machine changes it little.
    """

    name: str
    open_runs: int
    log: int
    records: Mapping[str, int]
    wire_bytes: int
    claim_seconds: float
    restore_seconds: float
    processor_seconds: float

    def to_document(self) -> dict[str, Any]:
        return asdict(self)


def records_of(claims: Sequence[Claim], prefix: str) -> dict[str, int]:
    """Number of records that the owners of these partitions replay, by topic without prefix."""
    found: dict[str, int] = {}
    for claim in claims:
        topic = claim.topic.removeprefix(prefix)
        first, end = claim.span
        found[topic] = found.get(topic, 0) + end - first
    return found


HEAD = (
    "takeover",
    "open runs",
    "records on the log",
    "records read",
    "bytes read, compressed",
    "processor time",
    "until it decides",
)


def table(takeovers: Sequence[Takeover]) -> str:
    """The takeovers as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|" + "---:|" * (len(HEAD) - 1)]
    for each in takeovers:
        read = sum(each.records.values())
        cells = (
            each.name,
            f"{each.open_runs:,}",
            f"{each.log:,}",
            f"{read:,} ({read / each.log:.0%})",
            f"{each.wire_bytes / 1e6:.1f} MB",
            f"{each.processor_seconds:.1f} s",
            f"{each.restore_seconds:.1f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
