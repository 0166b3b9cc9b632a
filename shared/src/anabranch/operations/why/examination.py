"""Finds out why a run does not end: folds its owners' states out of the log, then looks who is there to act on it.

Works with every service away, for state is a fold over the log. Reads only; what may be told again is handed back
with the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from anabranch.core.admissions import parts_of
from anabranch.core.errors import Misconfigured
from anabranch.core.reasons import Fact, Missing, aggregated, roots_first
from anabranch.core.wire.codec import GROUPS, RUNS
from anabranch.core.wire.dead_letters import REASON
from anabranch.core.wire.messages import GroupFinished, GroupResults, OpenRun, StartGroup
from anabranch.core.wire.run_record import RunRecord
from anabranch.operations.why.evidence import Evidence, RequiredPartition
from anabranch.operations.why.observations import (
    Sources,
    dead_letter,
    feed,
    final_was_told,
    header,
    holders_of,
    letters,
    replay_start,
    waiting_offers,
    waiting_request,
)
from anabranch.operations.why.state_fold import Decided, GroupsFold, RunsFold
from anabranch.ports import Outgoing, Standing
from anabranch.runtime.ownership.replay import generation_noted
from anabranch.runtime.reading.run_records import load_run_records

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch_taskgroup.session.pending import Wait

REJECTED = "rejected"


@dataclass
class Answer:
    """What was found out. `status` is `open`, or how the run ended."""

    run_id: str
    status: str = "open"
    request_id: str | None = None
    session_id: str | None = None
    ended_at: float | None = None
    reason: str | None = None
    missing: list[Missing] = field(default_factory=list)
    lost_news: list[Outgoing] = field(default_factory=list)
    """Records that an owner has published, as far as it knows, and that are not on the log."""
    last_at: float | None = None
    """When the log last heard of the run."""

    @property
    def is_open(self) -> bool:
        return self.status == "open"


async def examine(sources: Sources, settings: Settings, run: str, run_id: str, now: float) -> Answer:
    """Why the run does not end, or how it ended.

    Args:
        run: what the user gave: a run id or a request id. `run_id`: which run that is.

    Raises:
        Misconfigured: nobody knows the run.
        ServerUnavailable: a server does not answer.
    """
    return await _Examination(sources, settings, run, run_id, now).answer()


class _Examination:
    def __init__(self, sources: Sources, settings: Settings, run: str, run_id: str, now: float) -> None:
        self._sources = sources
        self._log = sources.log
        self._names = sources.names
        self._settings = settings
        self._run = run
        self._run_id = run_id
        self._now = now

    async def answer(self) -> Answer:
        known = await self._record()
        runs = await self._place(self._names.agency_runs, self._names.runs, self._run_id)
        if known is not None and known.final is not None:
            return await self._ended(known, runs)
        generation, start = generation_noted(runs.standing.committed), replay_start(runs.standing)
        if known is not None:
            generation, start = parts_of(known.offset)
        fold = RunsFold(self._run_id, self._settings, runs.standing.position, generation=generation)
        await feed(self._log, runs.topic, runs.partition, start, runs.standing.end, fold)
        runs = replace(runs, oldest_waiting=fold.oldest_waiting)
        if fold.submitted is None:
            return await self._unseen(known, runs)
        return await self._submitted(known, runs, fold)

    async def _record(self) -> RunRecord | None:
        [record] = await load_run_records(self._sources.store, self._names, [self._run_id])
        return record

    async def _place(self, group: str, topic: str, key: str) -> RequiredPartition:
        partition = await self._log.partition_for(topic, key)
        standings = await self._log.group_standing(group, topic, members=True)
        return RequiredPartition(topic, partition, standings[partition])

    def _troubles(self, *places: RequiredPartition) -> list[Missing]:
        found = [place.unhealthy_reason(self._now, self._settings.loss_window) for place in places]
        return [each for each in found if each is not None]

    async def _ended(self, known: RunRecord, runs: RequiredPartition) -> Answer:
        """How it ended. Its owner may have died between storing that and telling it."""
        answer = _of(self._run_id, known)
        answer.status, answer.ended_at = known.final_status or "", known.ended_at
        if (
            runs.standing.member is None
            and runs.standing.lag
            and not await final_was_told(self._sources, self._run_id)
        ):
            entry = Missing(Fact.NOT_ANNOUNCED, since=answer.ended_at, detail="the final record is not on results")
            answer.missing = [*self._troubles(runs), _at(entry, runs)]
        return answer

    # --- not admitted ----------------------------------------------------------------------------------------

    async def _unseen(self, known: RunRecord | None, runs: RequiredPartition) -> Answer:
        """Not on the `runs` topic: it waits to be read, was refused, is older than the log, or is nobody's."""
        if known is not None:
            answer = _of(self._run_id, known)
            lost = "the records that admitted it are no longer on the log: its retention is shorter than the run"
            answer.missing = [_at(Missing(Fact.NEVER_PRODUCED, detail=lost), runs)]
            return answer
        request = await waiting_request(self._sources, self._run)
        if request is not None:
            entry = Missing(Fact.NOT_ADMITTED, since=request.since, lag=request.place.standing.lag)
            entry = replace(_at(entry, request.place), offset=request.offset)
            return Answer(self._run_id, missing=[*self._troubles(request.place), entry])
        return await self._refused_or_unknown()

    async def _refused_or_unknown(self) -> Answer:
        for letter in await letters(self._sources, {self._run, self._run_id}):
            if _origin_topic(letter) == self._names.requests:
                return Answer(
                    self._run_id, REJECTED, ended_at=letter.timestamp, reason=header(letter, REASON)[:2_000]
                )
        raise Misconfigured(self._run, "no such run, by run id or by request id", "see: anabranch list")

    async def _submitted(self, known: RunRecord | None, runs: RequiredPartition, fold: RunsFold) -> Answer:
        assert fold.submitted is not None
        answer = Answer(self._run_id) if known is None else _of(self._run_id, known)
        answer.last_at = fold.last.at if fold.last else None
        if known is None and fold.submitted.offset >= runs.standing.position:
            entry = _at(Missing(Fact.NOT_ADMITTED, since=fold.submitted.at, lag=runs.standing.lag), runs)
            answer.missing = [*self._troubles(runs), replace(entry, offset=fold.submitted.offset)]
        elif fold.ended is not None:
            entry = _at(Missing(Fact.NOT_ANNOUNCED, since=fold.ended.at, detail="the final record"), runs)
            answer.missing = [*self._troubles(runs), replace(entry, offset=fold.ended.offset)]
        elif fold.run is None:
            answer.status = REJECTED
        else:
            answer.session_id, answer.request_id = fold.run.session_id, fold.run.request_id
            await self._open(answer, runs, fold)
        return answer

    # --- open ------------------------------------------------------------------------------------------------

    async def _open(self, answer: Answer, runs: RequiredPartition, fold: RunsFold) -> None:
        from anabranch_taskgroup.session.pending import producers_of, waits_of

        assert fold.run is not None
        groups = await self._place(self._names.taskgroup_groups, self._names.groups, fold.run.session_id)
        session = await self._fold_session(groups)
        groups = replace(groups, oldest_waiting=session.oldest_waiting)
        answer.last_at = max(seen.at for seen in (fold.last, session.last) if seen is not None)
        found = self._troubles(runs, groups)
        for name in sorted(fold.run.waiting):
            group = session.run.groups.get(name) if session.run is not None else None
            if group is None or group.announced:
                found.append(self._unknown_group(answer, name, (runs, fold), (groups, session)))
        waits = list(waits_of(session.run, self._names)) if session.run is not None else []
        found += await self._judged(waits, groups, session)
        found += [dead_letter(each) for each in await letters(self._sources, {self._run_id})]
        producers = producers_of(session.run) if session.run is not None else {}
        answer.missing = roots_first(aggregated(found), producers)

    async def _fold_session(self, groups: RequiredPartition) -> GroupsFold:
        """The session's owner's state; from the beginning of the log where the run's groups have all ended."""
        first, end = groups.standing.first, groups.standing.end
        for start in dict.fromkeys((replay_start(groups.standing), first)):
            fold = GroupsFold(self._run_id, self._settings, groups.standing.position)
            await feed(self._log, groups.topic, groups.partition, start, end, fold)
            if fold.opened is not None:
                break
        return fold

    def _unknown_group(
        self,
        answer: Answer,
        name: str,
        run: tuple[RequiredPartition, RunsFold],
        session: tuple[RequiredPartition, GroupsFold],
    ) -> Missing:
        """A group that the run's owner waits for and the session's owner does not have open."""
        (runs, fold), (groups, sessions) = run, session
        finished = [each for each in sessions.news if _tells_end_of(each, self._names.runs, name)]
        if finished:
            seen = sessions.by_task.get((name, None), sessions.last)
            answer.lost_news += _committed(finished, groups)
            return _at(Missing(Fact.NOT_ANNOUNCED, name, since=seen.at if seen else None), runs)
        started = [each for each in fold.news if _tells_start_of(each, self._names.groups, name)]
        answer.lost_news += _committed(started, runs)
        since = fold.submitted.at if fold.submitted else None
        return _at(Missing(Fact.NEVER_PRODUCED, name, since=since, detail="its start is not on the log"), groups)

    async def _judged(self, waits: list[Wait], groups: RequiredPartition, session: GroupsFold) -> list[Missing]:
        claims = [wait.claim for wait in waits if wait.claim is not None]
        evidence = Evidence(groups, self._names.tasks)
        standings: Mapping[int, Standing] = {}
        if claims:
            tasks = self._names.tasks
            standings = await self._log.group_standing(self._names.taskgroup_tasks, tasks, members=True)
            offers = await waiting_offers(self._sources, self._run_id, standings)
            evidence = Evidence(
                groups, tasks, *await holders_of(self._sources, list(dict.fromkeys(claims))), offers
            )
        found = [self._placed(_judge(wait, evidence), groups, session) for wait in waits]
        return [*_without_workers(self._names.tasks, standings), *found]

    def _placed(self, missing: Missing, groups: RequiredPartition, session: GroupsFold) -> Missing:
        """With since when, and where the log said so, as far as it does not say so already."""
        seen = session.by_task.get((missing.group or "", missing.task)) or session.opened
        if missing.topic is None:
            missing = replace(_at(missing, groups), offset=seen.offset if seen else None)
        return missing if missing.since is not None else replace(missing, since=seen.at if seen else None)


def _judge(wait: Wait, evidence: Evidence) -> Missing:
    if wait.claim is None or wait.chunk is None:
        return wait.missing
    return evidence.judge(wait.missing, wait.claim, wait.chunk, bounced=wait.bounced)


def _without_workers(topic: str, standings: Mapping[int, Standing]) -> Iterator[Missing]:
    if standings and all(standing.member is None for standing in standings.values()):
        lag = sum(standing.lag for standing in standings.values())
        yield Missing(Fact.NO_OWNER, topic=topic, lag=lag, detail="no worker reads offers")


def _at(missing: Missing, place: RequiredPartition) -> Missing:
    return replace(missing, topic=place.topic, partition=place.partition)


def _committed(decided: list[Decided], place: RequiredPartition) -> list[Outgoing]:
    """What was published before its cause was committed: its effects are done, so it may be told again."""
    return [each.outgoing for each in decided if each.cause < place.standing.position]


def _tells_end_of(decided: Decided, topic: str, group: str) -> bool:
    if decided.outgoing.topic != topic:
        return False
    message = RUNS.decode(decided.outgoing.value).message
    return isinstance(message, GroupFinished | GroupResults) and message.group == group


def _tells_start_of(decided: Decided, topic: str, group: str) -> bool:
    if decided.outgoing.topic != topic:
        return False
    message = GROUPS.decode(decided.outgoing.value).message
    return isinstance(message, OpenRun) or (isinstance(message, StartGroup) and message.group == group)


def _origin_topic(letter: Any) -> str:
    return header(letter, "anabranch_origin").rsplit("/", 2)[0]


def _of(run_id: str, known: RunRecord) -> Answer:
    return Answer(run_id, request_id=known.request_id, session_id=known.session_id)
