"""`dlq redrive`, `dlq dismiss`: what is to become of dead letters, and what the command says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import reached
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import count, print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.dead_letters.decisions import Action, DeadLetterSelection, past_tense

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def decide_on(settings: Settings, action: Action, choice: DeadLetterSelection, *, json: bool) -> int:
    """Redrive or dismiss letters; returns the exit code, which is 2 where one of them could not be."""
    if not choice.ids and choice.signature is None and choice.run is None:
        raise Misconfigured(f"dlq {action}", "no letter is named", "give ids, --signature or --run")
    async with reached(settings) as system:
        decisions = await system.decide(action, choice)
    _report(action, decisions, json)
    return WRONG if decisions["refused"] or not decisions[past_tense(action)] else COMPLETED


def _report(action: Action, decisions: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(decisions)
    for letter in decisions["refused"]:
        say(f"{letter['id']}: not {past_tense(action)}: {letter['reason']}")
    if done := decisions[past_tense(action)]:
        say(f"{count(len(done), 'letter')} {past_tense(action)}.")
    elif not decisions["refused"]:
        say("No such dead letters. See: anabranch dlq list")
