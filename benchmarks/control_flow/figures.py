"""Figures of long loops and of open waits, and their tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LoopRun:
    """One run of a loop.

    Attributes:
        body: what an iteration does.
        resident_mib: resident memory of each service, by service: when a tenth of the iterations had ended, after
            each further fifth, and at the end.
        snapshot_bytes: size of the first and of the last snapshot of the run: its whole state.
        processor_seconds: processor time by service.
    """

    body: str
    iterations: int
    seconds: float
    resident_mib: Mapping[str, Sequence[float]]
    snapshots: int
    snapshot_bytes: tuple[int, int]
    processor_seconds: Mapping[str, float]
    load: float

    @property
    def per_second(self) -> float:
        return self.iterations / self.seconds

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "iterations_per_second": round(self.per_second, 1)}


@dataclass(frozen=True)
class OpenWaits:
    """Open waits of one process, and how they were ended.

    Attributes:
        opened_seconds: from the first request to the last wait.
        rate: records a second that were sent to end waits.
        ended_seconds: from the first of these records to the last end of a wait on the log.
        p50_seconds, p99_seconds: from the record to the end of its wait, in the broker's time.
        idle_share: share of a core that all services used while the waits were open and nothing came.
        processor_seconds: processor time by service from the first record to the last end.
    """

    waits: int
    runs: int
    by: str
    opened_seconds: float
    rate: float
    ended_seconds: float
    p50_seconds: float
    p99_seconds: float
    idle_share: float
    resident_mib: Mapping[str, float]
    processor_seconds: Mapping[str, float]
    load: float

    @property
    def per_second(self) -> float:
        return self.waits / self.ended_seconds

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "ended_per_second": round(self.per_second, 1)}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values is. Raises IndexError if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def loop_table(found: Sequence[LoopRun]) -> str:
    """A Markdown table with a row for each service of each run."""
    rows = [
        "| body | iterations | a second | service | MiB at 10, 30, 50, 70, 90 and 100% | processor seconds |",
        "|---|---|---|---|---|---|",
    ]
    for run in found:
        for service, sizes in run.resident_mib.items():
            shown = ", ".join(f"{size:.0f}" for size in sizes)
            rows.append(
                f"| {run.body} | {run.iterations:,} | {run.per_second:,.0f} | {service} | {shown} "
                f"| {run.processor_seconds[service]:.0f} |"
            )
    first, last = found[-1].snapshot_bytes
    rows.append(f"\n{found[-1].snapshots} snapshots: the first has {first:,} bytes, the last {last:,}.")
    return "\n".join(rows)


def waits_table(found: OpenWaits) -> str:
    """A Markdown table with one row."""
    sizes = ", ".join(f"{service} {size:.0f}" for service, size in found.resident_mib.items())
    used = ", ".join(f"{service} {each:.1f}" for service, each in found.processor_seconds.items())
    return "\n".join(
        (
            "| open waits | runs | ended by | sent/s | ended/s | p50 | p99 | MiB | processor s | idle |",
            "|---|---|---|---|---|---|---|---|---|---|",
            f"| {found.waits:,} | {found.runs:,} | {found.by} | {found.rate:,.0f} | {found.per_second:,.0f} "
            f"| {found.p50_seconds:.2f} s | {found.p99_seconds:.2f} s | {sizes} | {used} "
            f"| {found.idle_share:.3f} |",
        )
    )
