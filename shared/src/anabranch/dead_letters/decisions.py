"""Redrives or dismisses dead letters.

A redrive publishes a control record for held members, or the original record for a refused request. Each
decision is also recorded on the dead-letter topic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from anabranch.core.errors import Code, Misconfigured
from anabranch.core.wire.dead_letters import DISMISSED, MEMBERS_OMITTED, REDRIVEN
from anabranch.dead_letters.grouping import group_by_failure, select, to_document, with_ids
from anabranch.dead_letters.reader import DeadLetter, decision_record, read_dead_letters
from anabranch.ports import Outgoing
from anabranch.runtime.reading.run_records import load_run_records

if TYPE_CHECKING:
    from anabranch.sdk.client import Client

ALWAYS_REFUSED = frozenset(
    {
        Code.NOT_JSON,
        Code.NOT_A_REQUEST,
        Code.SCHEMA,
        Code.UNKNOWN_FIELD,
        Code.BAD_NAME,
        Code.DUPLICATE_NAME,
        Code.DUPLICATE_RESULT_KEY,
        Code.NOT_A_SUBSET,
        Code.CYCLE,
        Code.EXPANSION_WITHOUT_ARRAY,
    }
)
"""Refusal codes that depend only on the bytes of the request, so a redrive cannot succeed."""

Action = Literal["redrive", "dismiss"]


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Which dead letters are meant: those with these ids, or else those of a signature, of a run, or of both."""

    ids: Sequence[str] = ()
    signature: str | None = None
    run: str | None = None


@dataclass(slots=True)
class Decisions:
    """The outcome for each selected dead letter.

    Attributes:
        requests: their original requests are published again.
        members: their members are redriven or dismissed by a control record.
        noted: only the decision is recorded.
        refused: not possible, with the reason.
    """

    requests: list[DeadLetter] = field(default_factory=list)
    members: list[DeadLetter] = field(default_factory=list)
    noted: list[DeadLetter] = field(default_factory=list)
    refused: list[tuple[DeadLetter, str]] = field(default_factory=list)

    @property
    def done(self) -> list[DeadLetter]:
        """All dead letters that are decided about."""
        return [*self.requests, *self.members, *self.noted]


def past_tense(action: Action) -> str:
    """`redriven` or `dismissed`."""
    return "redriven" if action == "redrive" else "dismissed"


def document(action: Action, decisions: Decisions) -> dict[str, Any]:
    """The decisions as JSON: dead letters under `redriven` or `dismissed`, and `refused` with reasons."""
    return {
        past_tense(action): [_shown(letter) for letter in decisions.done],
        "refused": [{"id": letter.id, "reason": reason} for letter, reason in decisions.refused],
    }


async def decide(
    client: Client,
    action: Action,
    selection: DeadLetterSelection,
    wanted: Callable[[DeadLetter], bool] = lambda _: True,
    *,
    by: str | None = None,
    reason: str | None = None,
) -> Decisions:
    """Redrive or dismiss the selected dead letters that are `wanted`. Returns the outcome for each. `by` and
    `reason` are shown in the events of held members.

    Raises:
        Misconfigured: the selection is empty, or has an id without a dead letter.
        ServerUnavailable: a server does not respond.
    """
    if not selection.ids and selection.signature is None and selection.run is None:
        raise Misconfigured(f"dlq {action}", "no dead letter is selected", "give ids, a signature or a run")
    found = [letter for letter in await _found(client, selection) if wanted(letter)]
    statuses = await _statuses(client, found)
    if action == "redrive":
        decisions = plan_redrive(found, statuses, client.names.requests)
    else:
        decisions = plan_dismissal(found, statuses)
    controls = control_records(action, decisions.members, selection)
    said = {"by": by, "reason": reason}
    await _carry_out(client, [command | said for command in controls], action, decisions)
    return decisions


async def _found(client: Client, selection: DeadLetterSelection) -> list[DeadLetter]:
    if selection.ids:
        return with_ids(await read_dead_letters(client.log, client.names), selection.ids)
    found = await select(client, run=selection.run, signature=selection.signature)
    return [letter for letter in found if letter.state == "open"]


async def _statuses(client: Client, found: Sequence[DeadLetter]) -> dict[str, str]:
    """The status of each run with a failed member: `open`, or its final status; no entry for an expired run."""
    run_ids = sorted({letter.member.run_id for letter in found if letter.member is not None})
    records = await load_run_records(client.store, client.names, run_ids)
    known = {run_id: record for run_id, record in zip(run_ids, records, strict=True) if record is not None}
    return {run_id: record.final_status or "open" for run_id, record in known.items()}


async def why_not_redriven(client: Client, found: Sequence[DeadLetter]) -> dict[str, str]:
    """Why dead letters cannot be redriven, by id; those without an entry can. Raises ServerUnavailable."""
    refused = plan_redrive(found, await _statuses(client, found), client.names.requests).refused
    return {letter.id: reason for letter, reason in refused}


async def grouped_with_redrivable(client: Client, found: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    """Dead letters grouped by failure, each group with `redrivable`, the number that can be redriven."""
    why_not = await why_not_redriven(client, found)
    return [
        each | {"redrivable": sum(letter_id not in why_not for letter_id in each["ids"])}
        for each in group_by_failure(found)
    ]


async def dead_letter_details(client: Client, letter: DeadLetter) -> dict[str, Any]:
    """All details of a dead letter, and `redrive_refused`: why it cannot be redriven, or null."""
    why_not = await why_not_redriven(client, [letter])
    return to_document(letter) | {"redrive_refused": why_not.get(letter.id)}


# --- planning: pure ------------------------------------------------------------------------------


def plan_redrive(found: Sequence[DeadLetter], statuses: Mapping[str, str], requests: str) -> Decisions:
    """The outcome of a redrive for each dead letter. `requests` is the name of the topic of requests."""
    decisions = Decisions()
    for letter in found:
        why_not = (
            _why_member_not_redriven(letter, statuses)
            if letter.member is not None
            else _why_request_not_redriven(letter, requests)
        )
        if why_not is not None:
            decisions.refused.append((letter, why_not))
        elif letter.member is not None:
            decisions.members.append(letter)
        else:
            decisions.requests.append(letter)
    return decisions


def _why_member_not_redriven(letter: DeadLetter, statuses: Mapping[str, str]) -> str | None:
    member = letter.member
    assert member is not None
    status = statuses.get(member.run_id)
    again = f"anabranch retry {member.run_id} --failed"
    if status is None:
        return f"run {member.run_id} has expired: submit its request again"
    if status != "open":
        return f"run {member.run_id} has ended ({status}): run what failed again with: {again}"
    if letter.state != "open":
        return f"it was {letter.state}"
    if not member.held:
        return f"its task holds no failed members (on_failure: hold does); once the run has ended: {again}"
    return None


def _why_request_not_redriven(letter: DeadLetter, requests: str) -> str | None:
    if letter.origin_topic != requests:
        return f"the record comes from {letter.origin_topic}, which only the services write to: dismiss it"
    if letter.code in ALWAYS_REFUSED:
        return "the same bytes would be refused again: correct the errors and submit the request again"
    if letter.state == "redriven":
        return "it was redriven already; a second refusal would have a dead letter of its own"
    if letter.is_cut:
        return "the original was too large for a dead letter and was cut: send it again"
    if letter.record.is_null or any(name == "anabranch_null" for name, _ in letter.record.headers):
        return "the original has no value"
    return None


def plan_dismissal(found: Sequence[DeadLetter], statuses: Mapping[str, str]) -> Decisions:
    """The outcome of a dismissal for each: a held member counts as failed, for others only the decision is
    recorded."""
    decisions = Decisions()
    for letter in found:
        member = letter.member
        if letter.state == "dismissed":
            decisions.refused.append((letter, "it was dismissed"))
        elif (
            member is not None and member.held and letter.state == "open" and statuses.get(member.run_id) == "open"
        ):
            decisions.members.append(letter)
        else:
            decisions.noted.append(letter)
    return decisions


def control_records(
    action: Action, found: Sequence[DeadLetter], selection: DeadLetterSelection
) -> list[dict[str, Any]]:
    """The control records for these members, one for each task and iteration. The same dead letters give the same
    command ids.

    For a whole run it is one record for all held members, because not every held member has a dead letter.
    """
    if found and selection.run is not None and selection.signature is None and not selection.ids:
        run_id = found[0].run_id
        return [{"run_id": run_id, "command_id": _command_id(action, found)}]
    tasks: dict[tuple[str, str, str, tuple[int, ...]], list[DeadLetter]] = {}
    for letter in found:
        member = letter.member
        assert member is not None
        place = (member.run_id, member.group, member.task, member.iteration or ())
        tasks.setdefault(place, []).append(letter)
    return [_command(action, *task, letters) for task, letters in tasks.items()]


def _command(
    action: Action, run_id: str, group: str, task: str, iteration: tuple[int, ...], found: Sequence[DeadLetter]
) -> dict[str, Any]:
    indexes = [letter.member.index for letter in found if letter.member is not None]
    # The dead letter of omitted members stands for members without indexes of their own.
    every = None in indexes or any(letter.code == MEMBERS_OMITTED for letter in found)
    command = {
        "run_id": run_id,
        "group": group,
        "task": task,
        "indexes": None if every else sorted(index for index in indexes if index is not None),
        "command_id": _command_id(action, found),
    }
    return command | {"iteration": list(iteration)} if iteration else command


def _command_id(action: Action, found: Sequence[DeadLetter]) -> str:
    # Derived from the selection, so that a repeated command after a crash is recognized and acts once.
    ids = ",".join(sorted(letter.id for letter in found))
    return f"dlq {action} {hashlib.sha256(ids.encode()).hexdigest()[:16]}"


# --- publishing ----------------------------------------------------------------------------------


async def _carry_out(
    client: Client, controls: Sequence[Mapping[str, Any]], action: Action, decisions: Decisions
) -> None:
    """Publish the records of all decisions. Those on the dead-letter topic are the last: after a crash before them
    the dead letters are still open, and can be decided about again."""
    for command in controls:
        await client.control(action, **command)
    await client.log.publish([original_record(client.names.requests, letter) for letter in decisions.requests])
    code = REDRIVEN if action == "redrive" else DISMISSED
    await client.log.publish([decision_record(client.names, letter, code) for letter in decisions.done])


def original_record(requests: str, letter: DeadLetter) -> Outgoing:
    """The original record of a refused request, byte for byte."""
    return Outgoing(requests, letter.record.key, letter.record.value, headers=letter.original_headers)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    kind = "member" if letter.member is not None else "record"
    return {"id": letter.id, "kind": kind, "run_id": letter.run_id}
