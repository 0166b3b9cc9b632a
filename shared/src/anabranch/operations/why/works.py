"""Says of the members that are programs which program runs for them, where, and since when. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from anabranch.core.programs import PROGRAM_KINDS, shown_work
from anabranch.core.ranges import Ranges
from anabranch.core.reasons import Fact, Missing
from anabranch.core.wire.worker_card import WorkerCard

if TYPE_CHECKING:
    from anabranch_taskgroup.session.state import Run
    from anabranch_taskgroup.session.steps.kind import Wait

MAX_NAMED = 100
"""Maximum number of programs that one answer names. Members of further ones are joined, as other members are."""
NO_SLOT = "it holds no slot of a worker"


class Works:
    """The programs of a run's open members.

    Args:
        run: the run as its owner knows it; None if it is not open.
        started: by handle, the time of the record that announced it.
        cards: what the workers announce that hold members of the run.
    """

    def __init__(self, run: Run | None, started: Mapping[str, float], cards: Mapping[str, WorkerCard]) -> None:
        self._run = run
        self._started = started
        self._cards = cards
        self._named = 0

    def separate(self, wait: Wait) -> Iterator[tuple[Wait, str | None]]:
        """The members of an offered chunk: each whose program is on the log with its handle, then the others."""
        about = wait.missing
        task = self._run.task(about.group or "", about.task or "") if self._run is not None else None
        if wait.claim is None or task is None or not task.handles:
            yield wait, None
            return
        made = (about.attempt or 1) - 1
        if about.members is None:
            yield wait, task.handle_of(0, made)
            return
        rest = Ranges(about.members)
        for index in sorted(index for index in task.handles if index in rest):
            handle = task.handle_of(index, made)
            if handle is None or self._named == MAX_NAMED:
                continue
            self._named += 1
            own = ((index, index + 1),)
            rest = rest.without(own)
            yield replace(wait, missing=replace(about, members=own)), handle
        if rest:
            yield replace(wait, missing=replace(about, members=tuple(rest))), None

    def with_program(self, missing: Missing, handle: str | None) -> Missing:
        """The entry with the program that runs for its members.

        Args:
            handle: of the member's program; None if it has none on the log.
        """
        card = self._cards.get(missing.worker or "") if missing.fact is Fact.CLAIMED else None
        if handle is None:
            return missing if card is None else self._without_handle(missing, card)
        if missing.fact is Fact.CLAIMED and missing.alive:
            where = f", followed from host {card.host}" if card is not None and card.host else ""
            said = f"{shown_work(handle)}{where}; {NO_SLOT}"
        else:
            said = f"{shown_work(handle)} outlives its worker, and the next one adopts it; {NO_SLOT}"
        detail = said if missing.detail is None else f"{missing.detail}; {said}"
        return replace(missing, since=self._started.get(handle, missing.since), detail=detail)

    def _without_handle(self, missing: Missing, card: WorkerCard) -> Missing:
        """The entry of members that a worker has, whose program is not on the log: a process, or one that waits
        for a place or is being started."""
        task = self._run.task(missing.group or "", missing.task or "") if self._run is not None else None
        agent = task.order.agent if task is not None else None
        kind = next((each.kind for each in card.agents if each.name == agent), None)
        if missing.detail is not None or kind not in PROGRAM_KINDS:
            return missing
        if kind == "process":
            where = f" on host {card.host}" if card.host else ""
            return replace(missing, detail=f"process of its worker{where}; {NO_SLOT}")
        return replace(missing, detail=f"{kind}, whose start is not on the log yet; {NO_SLOT}")
