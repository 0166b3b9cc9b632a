"""What the observer has seen of each run: its admissions, its final records, and whether it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from anabranch.testing.simulator.workload import Expected


@dataclass(slots=True)
class Account:
    """What was seen of one request id. `finals` are the distinct final records.

    `others` are other bodies that were sent under the same id. `may_repeat` says that the request may be admitted
    more than once: its retention is over, or the log or the store has lost something. Then each admission, which
    `accepted_at` tells from others, ends once, and the last one of them has to.
    """

    expected: Expected | None
    others: list[Expected] = field(default_factory=list)
    may_repeat: bool = False
    may_be_lost: bool = False
    """The log loses records in this seed: a successor may not know what came of a group."""
    may_end_again: bool = False
    """Nobody may know of its end: the log and the store lose it in this seed."""
    finals: list[dict[str, Any]] = field(default_factory=list)
    final_records: int = 0
    ended_at: float = 0.0
    """When the last of `finals` was told, in the world's time."""
    admissions: dict[str, float] = field(default_factory=dict)
    """By `accepted_at`, when it was first told, in the world's time."""
    ended: dict[str, float] = field(default_factory=dict)
    """The same of their ends."""
    unanswered: int = 0
    """Submissions of a request id that comes again of which nothing was heard yet."""

    @property
    def session_id(self) -> str | None:
        """Of the request, if it names one."""
        return self.expected.request.get("session_id") if self.expected else None

    @property
    def variants(self) -> Iterator[Expected]:
        """What may come of the request: one outcome for each body that was sent."""
        if self.expected is not None:
            yield self.expected
        yield from self.others

    @property
    def is_over(self) -> bool:
        """Whether the request was answered, and its last admission has ended."""
        if not self.finals or self.unanswered:
            return False
        last = next(reversed(self.admissions), None)
        return last is None or not self.may_repeat or any(each["accepted_at"] == last for each in self.finals)

    def is_new(self, final: Mapping[str, Any]) -> bool:
        """Whether a final record is the first of its admission."""
        told = {each["accepted_at"] for each in self.finals} if self.may_repeat else self.finals
        return not told or (self.may_repeat and final["accepted_at"] not in told)

    def accepted(self, body: Mapping[str, Any], now: float) -> None:
        """Note that the request was admitted."""
        self.unanswered = 0
        self.admissions.setdefault(body["accepted_at"], now)

    def identity(self, event_id: str, body: Mapping[str, Any]) -> str:
        """What a record is about: the same event of another admission may say something else."""
        return f"{event_id} {body.get('accepted_at')}" if self.may_repeat else event_id

    def values_of(self, key: str, default: Any = None) -> list[Any]:
        """The values that dependents may see under a key, one for each body."""
        return [each.values.get(key, default) for each in self.variants]

    def results_of(self, key: str) -> list[Any]:
        """The results that a key may have, one for each body."""
        return [each.results.get(key) for each in self.variants]
