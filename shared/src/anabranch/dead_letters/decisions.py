"""What is to become of dead letters.

A decision is a record: a control record for held members, the original once more for a refused request, and a note
on the dead-letter topic either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from anabranch.core.errors import Code, Misconfigured
from anabranch.core.wire.dead_letters import DISMISSED, MEMBERS_OMITTED, REDRIVEN
from anabranch.dead_letters.grouping import chosen, grouped, named, whole
from anabranch.dead_letters.reader import Letter, decided, read_letters
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
class LetterSelection:
    """Which letters the command line means: these, or those of a kind of failure, or of a run."""

    ids: Sequence[str] = ()
    signature: str | None = None
    run: str | None = None


@dataclass(slots=True)
class Decisions:
    """What to do: requests to publish again, members to decide on, letters that are only noted, and the rest."""

    requests: list[Letter] = field(default_factory=list)
    members: list[Letter] = field(default_factory=list)
    noted: list[Letter] = field(default_factory=list)
    refused: list[tuple[Letter, str]] = field(default_factory=list)

    @property
    def done(self) -> list[Letter]:
        return [*self.requests, *self.members, *self.noted]


def past(action: Action) -> str:
    """What has become of letters: `redriven` or `dismissed`."""
    return "redriven" if action == "redrive" else "dismissed"


def document(action: Action, decisions: Decisions) -> dict[str, Any]:
    """What was decided, as JSON."""
    return {
        past(action): [_shown(letter) for letter in decisions.done],
        "refused": [{"id": letter.id, "reason": reason} for letter, reason in decisions.refused],
    }


async def decide(
    client: Client, action: Action, choice: LetterSelection, wanted: Callable[[Letter], bool] = lambda _: True
) -> Decisions:
    """Redrive or dismiss letters, as far as they are `wanted`; tells which it did, and why not the others.

    Raises:
        Misconfigured: no letter is named, or one that is named is not there.
        ServerUnavailable: a server does not answer.
    """
    if not choice.ids and choice.signature is None and choice.run is None:
        raise Misconfigured(f"dlq {action}", "no letter is named", "give ids, a signature or a run")
    found = [letter for letter in await _found(client, choice) if wanted(letter)]
    statuses = await _statuses(client, found)
    decisions = (
        redriving(found, statuses, client.names.requests) if action == "redrive" else dismissing(found, statuses)
    )
    await _carry_out(client, commands(action, decisions.members, choice), action, decisions)
    return decisions


async def _found(client: Client, choice: LetterSelection) -> list[Letter]:
    if choice.ids:
        return named(await read_letters(client.log, client.names), choice.ids)
    found = await chosen(client, run=choice.run, signature=choice.signature)
    return [letter for letter in found if letter.state == "open"]


async def _statuses(client: Client, found: Sequence[Letter]) -> dict[str, str]:
    """How each run of a member's letter stands: `open`, its final status, or nothing where it is not known."""
    run_ids = sorted({letter.member.run_id for letter in found if letter.member is not None})
    records = await load_run_records(client.store, client.names, run_ids)
    known = {run_id: record for run_id, record in zip(run_ids, records, strict=True) if record is not None}
    return {run_id: record.final_status or "open" for run_id, record in known.items()}


async def why_not_redriven(client: Client, found: Sequence[Letter]) -> dict[str, str]:
    """Why letters cannot be redriven, by id; letters without an entry can. Raises ServerUnavailable."""
    refused = redriving(found, await _statuses(client, found), client.names.requests).refused
    return {letter.id: reason for letter, reason in refused}


async def groups_shown(client: Client, found: Sequence[Letter]) -> list[dict[str, Any]]:
    """Dead letters grouped by failure, each group with `redrivable`, the number that can be redriven."""
    why_not = await why_not_redriven(client, found)
    return [
        each | {"redrivable": sum(letter_id not in why_not for letter_id in each["ids"])}
        for each in grouped(found)
    ]


async def letter_shown(client: Client, letter: Letter) -> dict[str, Any]:
    """All details of a letter, and `redrive_refused`: why it cannot be redriven, or null."""
    why_not = await why_not_redriven(client, [letter])
    return whole(letter) | {"redrive_refused": why_not.get(letter.id)}


# --- deciding: pure ------------------------------------------------------------------------------


def redriving(found: Sequence[Letter], statuses: Mapping[str, str], requests: str) -> Decisions:
    """What a redrive of these letters does. `requests` is the name of the topic."""
    decisions = Decisions()
    for letter in found:
        why_not = (
            _why_no_member(letter, statuses) if letter.member is not None else _why_no_request(letter, requests)
        )
        if why_not is not None:
            decisions.refused.append((letter, why_not))
        elif letter.member is not None:
            decisions.members.append(letter)
        else:
            decisions.requests.append(letter)
    return decisions


def _why_no_member(letter: Letter, statuses: Mapping[str, str]) -> str | None:
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


def _why_no_request(letter: Letter, requests: str) -> str | None:
    if letter.origin_topic != requests:
        return f"the record comes from {letter.origin_topic}, which only the services write to: dismiss it"
    if letter.code in ALWAYS_REFUSED:
        return "the same bytes would be refused again: correct the errors and submit the request again"
    if letter.state == "redriven":
        return "it was redriven already; a second refusal has a dead letter of its own"
    if letter.is_cut:
        return "the original was too large for a dead letter and was cut: send it again"
    if letter.record.is_null or any(name == "anabranch_null" for name, _ in letter.record.headers):
        return "the original has no value"
    return None


def dismissing(found: Sequence[Letter], statuses: Mapping[str, str]) -> Decisions:
    """What a dismissal of these letters does: a held member counts as failed, any other is only noted."""
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


def commands(action: Action, found: Sequence[Letter], choice: LetterSelection) -> list[dict[str, Any]]:
    """The control records about these members, one for each task; the same letters give the same command ids.

    Where a whole run is meant it is one, for all that is held: not every held member has a letter of its own.
    """
    if found and choice.run is not None and choice.signature is None and not choice.ids:
        whole = found[0].run_id
        return [{"run_id": whole, "command_id": _command_id(action, found)}]
    tasks: dict[tuple[str, str, str], list[Letter]] = {}
    for letter in found:
        assert letter.member is not None
        tasks.setdefault((letter.member.run_id, letter.member.group, letter.member.task), []).append(letter)
    return [_command(action, *place, letters) for place, letters in tasks.items()]


def _command(action: Action, run_id: str, group: str, task: str, found: Sequence[Letter]) -> dict[str, Any]:
    indexes = [letter.member.index for letter in found if letter.member is not None]
    every = None in indexes or any(letter.code == MEMBERS_OMITTED for letter in found)
    return {
        "run_id": run_id,
        "group": group,
        "task": task,
        "indexes": None if every else sorted(index for index in indexes if index is not None),
        "command_id": _command_id(action, found),
    }


def _command_id(action: Action, found: Sequence[Letter]) -> str:
    ids = ",".join(sorted(letter.id for letter in found))
    return f"dlq {action} {hashlib.sha256(ids.encode()).hexdigest()[:16]}"


# --- doing ---------------------------------------------------------------------------------------


async def _carry_out(
    client: Client, controls: Sequence[Mapping[str, Any]], action: Action, decisions: Decisions
) -> None:
    """First what is decided, then the notes: a crash between them leaves letters to be decided on again."""
    for command in controls:
        await client.control(action, **command)
    await client.log.publish([again(client.names.requests, letter) for letter in decisions.requests])
    code = REDRIVEN if action == "redrive" else DISMISSED
    await client.log.publish([decided(client.names, letter, code) for letter in decisions.done])


def again(requests: str, letter: Letter) -> Outgoing:
    """The original once more, byte for byte."""
    return Outgoing(requests, letter.record.key, letter.record.value, headers=letter.original_headers)


def _shown(letter: Letter) -> dict[str, Any]:
    kind = "member" if letter.member is not None else "record"
    return {"id": letter.id, "kind": kind, "run_id": letter.run_id}
