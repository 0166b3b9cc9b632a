"""`dlq redrive`, `dlq dismiss`: what is to become of dead letters, and what the command says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.output import count, print_json, say
from anabranch.cli.systems import connected
from anabranch.core.errors import Misconfigured
from anabranch.deadletters.decisions import Action, Choice, Decisions, decide, document, past

if TYPE_CHECKING:
    from anabranch.runtime.settings import Settings


async def decide_on(settings: Settings, action: Action, choice: Choice, *, json: bool) -> int:
    """Redrive or dismiss letters; returns the exit code, which is 2 where one of them could not be."""
    if not choice.ids and choice.signature is None and choice.run is None:
        raise Misconfigured(f"dlq {action}", "no letter is named", "give ids, --signature or --run")
    async with connected(settings) as client:
        decisions = await decide(client, action, choice)
    _report(action, decisions, json)
    return WRONG if decisions.refused or not decisions.done else COMPLETED


def _report(action: Action, decisions: Decisions, json: bool) -> None:
    if json:
        print_json(document(action, decisions))
    for letter, reason in decisions.refused:
        say(f"{letter.id}: not {past(action)}: {reason}")
    if decisions.done:
        say(f"{count(len(decisions.done), 'letter')} {past(action)}.")
    elif not decisions.refused:
        say("No such dead letters. See: anabranch dlq list")
