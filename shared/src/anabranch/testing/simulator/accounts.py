"""The observer's account of each run: its admissions, its final records, and whether it is over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from anabranch.testing.simulator.workload import Expected


@dataclass(slots=True)
class Account:
    """Everything seen of one request id.

    Attributes:
        others: outcomes of other bodies that were published with the same id.
        may_repeat: the request may be admitted more than once, because its retention has expired or the log or the
            store has lost data. Each admission, identified by `accepted_at`, may end once; the last one must end.
        may_be_lost: the log loses records in this seed, so a successor may not know the outcome of a group.
        may_end_again: the log and the store lose data in this seed, so no process may know that the run has ended.
        finals: the distinct final records.
        ended_at: time of the last final record, in seconds of virtual time.
        admissions: time of the first record of each admission, by `accepted_at`.
        ended: time of the end of each admission, by `accepted_at`.
        unanswered: submissions of a reused request id without a response so far.
        is_missed: an event says that this firing of a schedule was missed.
    """

    expected: Expected | None
    others: list[Expected] = field(default_factory=list)
    may_repeat: bool = False
    may_be_lost: bool = False
    may_end_again: bool = False
    finals: list[dict[str, Any]] = field(default_factory=list)
    final_records: int = 0
    ended_at: float = 0.0
    admissions: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    unanswered: int = 0
    is_missed: bool = False

    @property
    def session_id(self) -> str | None:
        """Session id of the request, if it has one."""
        return self.expected.request.get("session_id") if self.expected else None

    @property
    def variants(self) -> Iterator[Expected]:
        """The possible outcomes of the request: one for each published body."""
        if self.expected is not None:
            yield self.expected
        yield from self.others

    @property
    def is_over(self) -> bool:
        """True if every submission has a response, and the last admission has ended."""
        if self.is_missed:
            return True
        if not self.finals or self.unanswered:
            return False
        last = next(reversed(self.admissions), None)
        if last is None or not self.may_repeat or any(each["accepted_at"] == last for each in self.finals):
            return True
        # The log lost the first admission and an older store the second one: the request ends once, as lost, and
        # its sender has that record after both.
        return self.may_be_lost and self.ended_at >= self.admissions[last]

    def is_new(self, final: Mapping[str, Any]) -> bool:
        """True if a final record is the first of its admission."""
        known = {each["accepted_at"] for each in self.finals} if self.may_repeat else self.finals
        return not known or (self.may_repeat and final["accepted_at"] not in known)

    def accepted(self, body: Mapping[str, Any], now: float) -> None:
        """Record an admission."""
        self.unanswered = 0
        self.admissions.setdefault(body["accepted_at"], now)

    def identity(self, event_id: str, body: Mapping[str, Any]) -> str:
        """Identity of a published record. The same event of another admission may have another content."""
        return f"{event_id} {body.get('accepted_at')}" if self.may_repeat else event_id

    def values_of(self, key: str, default: Any = None) -> list[Any]:
        """Values that dependents may see under a key, one for each body."""
        return [each.values.get(key, default) for each in self.variants]

    def results_of(self, key: str) -> list[Any]:
        """Possible results of a key, one for each body."""
        return [each.results.get(key, each.loose.get(key)) for each in self.variants]
