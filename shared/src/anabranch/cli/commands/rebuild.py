"""`rebuild`: writes the values, tombstones and views that the log implies back to Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.cli.backends.systems import open_client
from anabranch.cli.exits import COMPLETED, FAILED
from anabranch.cli.render.output import count, print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.operations.rebuild.rebuild import Rebuild, RebuildReport
from anabranch.operations.rebuild.replay import RunSelection

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def rebuild_command(
    settings: Settings, *, session: str | None, run: str | None, everything: bool, json: bool
) -> int:
    """Rebuild the store. Returns 1 if retention removed data from the log that should be in the store, else 0.

    Raises:
        Misconfigured: none or several of `session`, `run` and `everything` are given, or there is no such run.
        ServerUnavailable: Kafka or Redis does not answer.
    """
    if sum((session is not None, run is not None, everything)) != 1:
        raise Misconfigured(
            "rebuild", "exactly one selection is needed", "pass one of --run RUN, --session S, --all"
        )
    async with open_client(settings) as client:
        selection = RunSelection(None if run is None else await client.run_id_of(run), session)
        rebuild = Rebuild(client.log, client.store, client.names, client.links.clock, settings)
        report = await rebuild.run(selection)
    if json:
        print_json(report.to_document())
    _say(report)
    return FAILED if report.gone or report.incomplete else COMPLETED


def _say(report: RebuildReport) -> None:
    done = ", ".join(count(number, what.removesuffix("s")) for what, number in report.written.items())
    say(f"{count(report.runs, 'run')} on the log, {report.expired:,} of them past their retention")
    say(f"written: {done}; {report.present:,} were present")
    for each in report.gone:
        say(f"gone: {each['what']} of run {each['run_id']}: {each['reason']}")
    for place in report.incomplete:
        say(f"incomplete: {place}")
