"""`dlq redrive` processes dead letters again; `dlq dismiss` accepts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import count, print_json, say
from anabranch.cli.said import NOTHING, Said
from anabranch.core.errors import Misconfigured
from anabranch.dead_letters.decisions import Action, DeadLetterSelection, past_tense

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def decide_on(
    settings: Settings, action: Action, choice: DeadLetterSelection, said: Said = NOTHING, *, json: bool
) -> int:
    """Redrive or dismiss dead letters; returns the exit code: 2 if none was, or if one was refused."""
    if not choice.ids and choice.signature is None and choice.run is None:
        raise Misconfigured(f"dlq {action}", "no dead letter is selected", "pass ids, --signature or --run")
    async with open_installation(settings) as system:
        decisions = await system.decide(action, choice, said)
    _report(action, decisions, json)
    return WRONG if decisions["refused"] or not decisions[past_tense(action)] else COMPLETED


def _report(action: Action, decisions: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(decisions)
    for dead_letter in decisions["refused"]:
        say(f"{dead_letter['id']}: not {past_tense(action)}: {dead_letter['reason']}")
    if done := decisions[past_tense(action)]:
        say(f"{count(len(done), 'dead letter')} {past_tense(action)}.")
    elif not decisions["refused"]:
        say("No dead letter matches. See: anabranch dlq list")
