"""Finds out why a run does not end: replays the log to get its owners' state, then checks which processes are
there to act on it.

Works while no service is running, because the state of owners is a fold over the log. Reads only: records that may
be published again are part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from anabranch.core.admissions import parts_of
from anabranch.core.errors import Misconfigured
from anabranch.core.reasons import Fact, Missing, aggregated, roots_first
from anabranch.core.waiting import waits_for_limit
from anabranch.core.wire.codec import GROUPS, RUNS
from anabranch.core.wire.dead_letters import REASON
from anabranch.core.wire.messages import GroupFinished, GroupResults, OpenRun, StartGroup
from anabranch.core.wire.run_record import RunRecord
from anabranch.operations.limits import limits_of, said_of
from anabranch.operations.why.evidence import Evidence, RequiredPartition
from anabranch.operations.why.observations import (
    Sources,
    cards_of,
    dead_letter_entry,
    dead_letters_of,
    header,
    holders_of,
    is_final_published,
    replay_range,
    replay_start,
    unread_request,
)
from anabranch.operations.why.offer_lanes import OfferLanes, detail_of_wait, pools_of
from anabranch.operations.why.replay import PublishedRecord, RunReplay, SessionReplay
from anabranch.operations.why.works import Works
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.replay import committed_generation
from anabranch.runtime.reading.run_records import load_run_records

if TYPE_CHECKING:
    from anabranch.core.wire.worker_card import WorkerCard
    from anabranch.runtime.process.settings import Settings
    from anabranch_agency.run.limit_state import LimitAddress
    from anabranch_agency.run.state import RunPlace
    from anabranch_taskgroup.session.steps.kind import Wait

REJECTED = "rejected"


@dataclass
class Answer:
    """The state of a run and its missing facts. `status` is `open`, `rejected` or the run's final status."""

    run_id: str
    status: str = "open"
    request_id: str | None = None
    session_id: str | None = None
    ended_at: float | None = None
    reason: str | None = None
    missing: list[Missing] = field(default_factory=list)
    lost_records: list[Outgoing] = field(default_factory=list)
    """Records that an owner has published according to its committed offset, but that are not on the log."""
    last_at: float | None = None
    """Time of the run's last record on `runs` or `groups`."""

    @property
    def is_open(self) -> bool:
        return self.status == "open"


async def examine(sources: Sources, settings: Settings, run: str, run_id: str, now: float) -> Answer:
    """Explain why a run does not end, or how it ended.

    Args:
        run: a run id or a request id, as the user gave it.
        run_id: the run id that belongs to it.

    Raises:
        Misconfigured: there is no such run.
        ServerUnavailable: Kafka or Redis does not answer.
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
        generation, start = committed_generation(runs.standing.committed), replay_start(runs.standing)
        if known is not None:  # the run's first record on `runs` is the one that admitted it
            generation, start = parts_of(known.offset)
        replay = RunReplay(self._run_id, self._settings, runs.standing.position, generation=generation)
        await replay_range(self._log, runs.topic, runs.partition, start, runs.standing.end, replay)
        runs = replace(runs, oldest_waiting=replay.oldest_waiting)
        if replay.submitted is None:
            return await self._not_submitted(known, runs)
        return await self._submitted(known, runs, replay)

    async def _record(self) -> RunRecord | None:
        [record] = await load_run_records(self._sources.store, self._names, [self._run_id])
        return record

    async def _place(self, group: str, topic: str, key: str) -> RequiredPartition:
        partition = await self._log.partition_for(topic, key)
        standings = await self._log.group_standing(group, topic, members=True)
        return RequiredPartition(topic, partition, standings[partition])

    def _partition_problems(self, *places: RequiredPartition) -> list[Missing]:
        found = [place.unhealthy_reason(self._now, self._settings.loss_window) for place in places]
        return [each for each in found if each is not None]

    async def _ended(self, known: RunRecord, runs: RequiredPartition) -> Answer:
        """How the run ended. Its owner may have died after storing the final record and before publishing it."""
        answer = _answer_for(self._run_id, known)
        answer.status, answer.ended_at = known.final_status or "", known.ended_at
        # A live owner publishes the record by itself, and without lag it has been published.
        if (
            runs.standing.member is None
            and runs.standing.lag
            and not await is_final_published(self._sources, self._run_id)
        ):
            entry = Missing(Fact.NOT_ANNOUNCED, since=answer.ended_at, detail="the final record is not on results")
            answer.missing = [*self._partition_problems(runs), _in_partition(entry, runs)]
        return answer

    # --- not admitted ----------------------------------------------------------------------------------------

    async def _not_submitted(self, known: RunRecord | None, runs: RequiredPartition) -> Answer:
        """The answer for a run that is not on `runs`: unread, rejected, older than the log's retention, or
        unknown."""
        if known is not None:
            answer = _answer_for(self._run_id, known)
            lost = "the records that admitted the run are no longer on the log: the topic's retention is too short"
            answer.missing = [_in_partition(Missing(Fact.NEVER_PRODUCED, detail=lost), runs)]
            return answer
        request = await unread_request(self._sources, self._run)
        if request is not None:
            entry = Missing(Fact.NOT_ADMITTED, since=request.since, lag=request.place.standing.lag)
            entry = replace(_in_partition(entry, request.place), offset=request.offset)
            return Answer(self._run_id, missing=[*self._partition_problems(request.place), entry])
        return await self._rejected_or_unknown()

    async def _rejected_or_unknown(self) -> Answer:
        for letter in await dead_letters_of(self._sources, {self._run, self._run_id}):
            if _origin_topic(letter) == self._names.requests:
                return Answer(
                    self._run_id, REJECTED, ended_at=letter.timestamp, reason=header(letter, REASON)[:2_000]
                )
        raise Misconfigured(self._run, "there is no run with this run id or request id", "see: anabranch list")

    async def _submitted(self, known: RunRecord | None, runs: RequiredPartition, replay: RunReplay) -> Answer:
        assert replay.submitted is not None
        answer = Answer(self._run_id) if known is None else _answer_for(self._run_id, known)
        answer.last_at = replay.last.at if replay.last else None
        # Neither a tombstone nor a commit: the owner may not have read the record yet.
        if known is None and replay.submitted.offset >= runs.standing.position:
            entry = Missing(Fact.NOT_ADMITTED, since=replay.submitted.at, lag=runs.standing.lag)
            entry = replace(_in_partition(entry, runs), offset=replay.submitted.offset)
            answer.missing = [*self._partition_problems(runs), entry]
        elif replay.ended is not None:
            entry = Missing(Fact.NOT_ANNOUNCED, since=replay.ended.at, detail="the final record")
            entry = replace(_in_partition(entry, runs), offset=replay.ended.offset)
            answer.missing = [*self._partition_problems(runs), entry]
        elif replay.run is None:
            answer.status = REJECTED
        else:
            answer.session_id, answer.request_id = replay.run.session_id, replay.run.request_id
            await self._open(answer, runs, replay)
        return answer

    # --- open ------------------------------------------------------------------------------------------------

    async def _open(self, answer: Answer, runs: RequiredPartition, replay: RunReplay) -> None:
        from anabranch_taskgroup.session.pending import may_begin_later, producers_of, waits_of

        assert replay.run is not None
        if replay.run.place is not None and not replay.run.place.is_held:
            entry = await self._queued(replay.run.place)
            answer.missing = [*self._partition_problems(runs), _in_partition(entry, runs)]
            return
        if replay.run.held is not None:
            entry = Missing(
                Fact.WAITS_FOR_TIME, since=answer.last_at, until=replay.run.held.until, detail="its start"
            )
            answer.missing = [*self._partition_problems(runs), _in_partition(entry, runs)]
            return
        groups = await self._place(self._names.taskgroup_groups, self._names.groups, replay.run.session_id)
        session = await self._replay_session(groups)
        groups = replace(groups, oldest_waiting=session.oldest_waiting)
        answer.last_at = max(position.at for position in (replay.last, session.last) if position is not None)
        found = self._partition_problems(runs, groups)
        for name in sorted(replay.run.waiting):
            group = session.run.groups.get(name) if session.run is not None else None
            if group is None and session.run is not None and may_begin_later(session.run, name):
                continue  # what the run waits for before is listed
            if group is None or group.is_reported:
                found.append(self._absent_group(answer, name, (runs, replay), (groups, session)))
        waits = list(waits_of(session.run, self._names)) if session.run is not None else []
        found += await self._with_reasons(waits, groups, session)
        found += [dead_letter_entry(each) for each in await dead_letters_of(self._sources, {self._run_id})]
        producers = producers_of(session.run) if session.run is not None else {}
        answer.missing = roots_first(aggregated(found), producers)

    async def _queued(self, place: RunPlace) -> Missing:
        """What a run waits for that has no place under its concurrency key yet."""
        found = await limits_of(self._sources, self._settings, {place.address})
        detail = (
            said_of(found[0], self._run_id, None, None, self._now)
            if found
            else waits_for_limit("", place.rule.name)
        )
        return Missing(Fact.WAITS_FOR_LIMIT, key=place.rule.name, since=place.since, detail=detail)

    async def _replay_session(self, groups: RequiredPartition) -> SessionReplay:
        """The state of the session's owner.

        Once all groups of the run have ended, their records may be before the position that an owner replays from.
        A second attempt then reads the partition from its beginning.
        """
        first, end = groups.standing.first, groups.standing.end
        for start in dict.fromkeys((replay_start(groups.standing), first)):
            replay = SessionReplay(self._run_id, self._settings, groups.standing.position)
            await replay_range(self._log, groups.topic, groups.partition, start, end, replay)
            if replay.opened is not None:
                break
        return replay

    def _absent_group(
        self,
        answer: Answer,
        name: str,
        run: tuple[RequiredPartition, RunReplay],
        session: tuple[RequiredPartition, SessionReplay],
    ) -> Missing:
        """The entry of a group that the run's owner waits for, but that is not open at the session's owner."""
        (runs, run_replay), (groups, session_replay) = run, session
        finished = [each for each in session_replay.published if _announces_end(each, self._names.runs, name)]
        if finished:
            position = session_replay.by_task.get((name, None), session_replay.last)
            answer.lost_records += _committed(finished, groups)
            entry = Missing(Fact.NOT_ANNOUNCED, name, since=position.at if position else None)
            return _in_partition(entry, runs)
        started = [each for each in run_replay.published if _starts_group(each, self._names.groups, name)]
        answer.lost_records += _committed(started, runs)
        since = run_replay.submitted.at if run_replay.submitted else None
        entry = Missing(Fact.NEVER_PRODUCED, name, since=since, detail="its start is not on the log")
        return _in_partition(entry, groups)

    async def _with_reasons(
        self, waits: list[Wait], groups: RequiredPartition, session: SessionReplay
    ) -> list[Missing]:
        claims = [wait.claim for wait in waits if wait.claim is not None]
        evidence, lanes = Evidence(groups, self._names.tasks()), OfferLanes({}, {}, {})
        if claims and session.run is not None:
            lanes = await OfferLanes.of_run(self._sources, self._run_id, pools_of(session.run, waits))
            holders = await holders_of(self._sources, list(dict.fromkeys(claims)))
            evidence = Evidence(groups, self._names.tasks(), *holders, lanes.offers)
        waits = await self._with_limits(waits)
        works = Works(session.run, session.started_works, await self._cards(evidence))
        found = [
            works.with_program(self._with_position(_with_reason(each, evidence), groups, session), handle)
            for wait in waits
            for each, handle in works.separate(wait)
        ]
        if session.run is not None:
            found = [detail_of_wait(session.run, lanes, each) for each in found]
        return [*lanes.without_workers(), *found]

    async def _cards(self, evidence: Evidence) -> Mapping[str, WorkerCard]:
        """The cards of the workers that hold chunks of the run."""
        return await cards_of(self._sources, sorted(set(evidence.holders.values())))

    async def _with_limits(self, waits: list[Wait]) -> list[Wait]:
        """Say of each wait for a limit who holds it, and how many are ahead."""
        addresses = {wait.limit for wait in waits if wait.limit is not None}
        if not addresses:
            return waits
        limits = {each.run_id: each for each in await limits_of(self._sources, self._settings, addresses)}
        return [self._with_limit(wait, limits.get(wait.limit or "")) for wait in waits]

    def _with_limit(self, wait: Wait, limit: LimitAddress | None) -> Wait:
        if limit is None:
            return wait
        about = wait.missing
        detail = said_of(limit, self._run_id, about.group, about.task, self._now)
        return replace(wait, missing=replace(about, detail=detail))

    def _with_position(self, missing: Missing, groups: RequiredPartition, session: SessionReplay) -> Missing:
        """The entry with the time and the position of the last record of its task, unless it has its own."""
        position = session.by_task.get((missing.group or "", missing.task)) or session.opened
        if missing.topic is None:
            missing = replace(_in_partition(missing, groups), offset=position.offset if position else None)
        return missing if missing.since is not None else replace(missing, since=position.at if position else None)


def _with_reason(wait: Wait, evidence: Evidence) -> Missing:
    if wait.claim is None or wait.chunk is None:
        return wait.missing
    return evidence.with_reason(wait.missing, wait.claim, wait.chunk, bounced=wait.bounced)


def _in_partition(missing: Missing, place: RequiredPartition) -> Missing:
    return replace(missing, topic=place.topic, partition=place.partition)


def _committed(published: list[PublishedRecord], place: RequiredPartition) -> list[Outgoing]:
    """Records whose cause is committed. The owner will not publish these again, and their values are in the store,
    so publishing them again is safe."""
    return [each.outgoing for each in published if each.cause < place.standing.position]


def _announces_end(published: PublishedRecord, topic: str, group: str) -> bool:
    if published.outgoing.topic != topic:
        return False
    message = RUNS.decode(published.outgoing.value).message
    return isinstance(message, GroupFinished | GroupResults) and message.group == group


def _starts_group(published: PublishedRecord, topic: str, group: str) -> bool:
    if published.outgoing.topic != topic:
        return False
    message = GROUPS.decode(published.outgoing.value).message
    return isinstance(message, OpenRun) or (isinstance(message, StartGroup) and message.group == group)


def _origin_topic(letter: Any) -> str:
    return header(letter, "anabranch_origin").rsplit("/", 2)[0]


def _answer_for(run_id: str, known: RunRecord) -> Answer:
    return Answer(run_id, request_id=known.request_id, session_id=known.session_id)
