"""`python -m peers` (tests and benchmarks on the path): measures all systems in one run and prints the figures.

The systems take turns within each repetition; each repetition starts with another one. The broker and Redis are
found as in the tests: ANABRANCH_TEST_BROKERS and ANABRANCH_TEST_REDIS_URL, else they are started. Use a Redis for
tests: results remain in it for minutes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from servers.finder import started_servers
from servers.process import ServerUnavailableError

from peers.chart import svg
from peers.machine import libraries, machine, server_versions
from peers.measures import FANOUT, JOIN_LAG, MEASURES, RUNS, SINGLE, Case
from peers.measuring import Measuring
from peers.outcomes import Outcome
from peers.page import page
from peers.systems import Servers, System, all_systems
from peers.tables import plain, tables
from peers.verdicts import verdicts, wins

ROOT = Path(__file__).resolve().parents[2]
SIZES = (200, 5_000, 20_000, 100_000)
AT_ONCE = (50, 200)
CHARTS = {"fanout": "peers.svg", "runs": "peers-runs.svg", "single": "peers-single.svg"}
JOIN_MEMBERS = 20


def main() -> int:
    arguments = _arguments()
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, _leave)
    systems = _chosen(arguments.only)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-peers-")))
        try:
            servers = _servers(stack, folder)
        except ServerUnavailableError as missing:
            print(f"peers: {missing}", file=sys.stderr)
            return 4
        outcome = _measure(systems, servers, folder, arguments)
    print(json.dumps(outcome.to_document(), indent=2) if arguments.json else _text(outcome))
    if arguments.write is not None:
        _write(outcome, arguments.write)
    return 0


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases to measure, those that leave the least behind first."""
    chosen = {
        SINGLE.name: [Case(SINGLE, 1, arguments.requests)],
        JOIN_LAG.name: [Case(JOIN_LAG, JOIN_MEMBERS, arguments.requests)],
        RUNS.name: [Case(RUNS, at_once, arguments.runs) for at_once in sorted(arguments.at_once)],
        FANOUT.name: [Case(FANOUT, tasks) for tasks in sorted(arguments.tasks)],
    }
    return [case for name, found in chosen.items() if name in arguments.measure for case in found]


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit through all contexts, so that no worker and no server keeps running."""
    raise SystemExit(130)


def _measure(systems: list[System], servers: Servers, folder: Path, arguments: argparse.Namespace) -> Outcome:
    for system in systems:
        system.prepare()
    found = {**machine(), **server_versions(servers.redis_url)}
    measuring = Measuring(servers, folder, cases(arguments), arguments.limit)
    for repetition in range(arguments.repeat):
        first = repetition % len(systems)
        for system in systems[first:] + systems[:first]:
            measuring.repeat(system)
    settings = {system.name: system.settings for system in systems}
    command = f"make bench-peers PEERS_ARGUMENTS={shlex.quote(shlex.join(sys.argv[1:]))}"
    return Outcome(arguments.limit, arguments.repeat, found, command, settings, measuring.figures(systems))


def _servers(stack: ExitStack, folder: Path) -> Servers:
    kafka, redis = started_servers(stack, folder)
    return Servers(kafka.address, redis.address)


def _text(outcome: Outcome) -> str:
    found = [plain(rows) for measure in outcome.measures for rows in tables(outcome, measure)]
    if len(outcome.systems) > 1:
        found.append("\n".join(wins(verdicts(outcome), outcome.systems)))
    return "\n".join(found)


def _write(outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {measure.name: CHARTS[measure.name] for measure in outcome.measures if measure.name in CHARTS}
    for measure in outcome.measures:
        if measure.name in drawn:
            (folder / drawn[measure.name]).write_text(svg(outcome, measure))
    (folder / "peers.md").write_text(page(outcome, drawn))
    (folder / "peers.json").write_text(json.dumps(outcome.to_document(), indent=2) + "\n")


def _chosen(names: Sequence[str] | None) -> list[System]:
    systems = all_systems(ROOT / ".servers" / "peers", libraries())
    if names is None:
        return systems
    unknown = {name.lower() for name in names} - {system.name.lower() for system in systems}
    if unknown:
        names = ", ".join(system.name for system in systems)
        raise SystemExit(f"peers: there is no system {', '.join(sorted(unknown))}; use some of {names}")
    return [system for system in systems if system.name.lower() in {name.lower() for name in names}]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    names = [measure.name for measure in MEASURES]
    parser.add_argument("--measure", nargs="+", choices=names, default=names, help="what to measure")
    parser.add_argument("--tasks", type=int, nargs="+", default=SIZES, help="sizes of the fan-outs")
    parser.add_argument("--at-once", type=int, nargs="+", default=AT_ONCE, help="numbers of small runs at once")
    parser.add_argument("--runs", type=int, default=500, help="number of small runs at each number at once")
    parser.add_argument("--requests", type=int, default=200, help="number of single tasks, and of joins")
    parser.add_argument("--repeat", type=int, default=3, help="number of repetitions; the median is reported")
    parser.add_argument("--limit", type=float, default=60.0, help="maximum duration of one case, in seconds")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="measure only these systems")
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of the tables")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write peers.md, .svg and .json to this folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
