"""Runs seeds of the simulator: `python -m anabranch.testing.simulator --seeds 0..1000`.

Exits with 0 if every promise was kept, else with 1. Prints the violations of each failed seed, and the command
that repeats it.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from time import perf_counter

from anabranch.testing.simulator.faults import EDGES, FAULTS, LONG_RUNS, RATES, STRIKES
from anabranch.testing.simulator.mutations import MUTATIONS, applied
from anabranch.testing.simulator.world import SimulationOutcome, World

GARBAGE_EVERY = 20
"""Seeds between two garbage collections. The automatic collector is off: worlds are large graphs of cycles, and it
would scan the living one again and again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.list:
        sys.stdout.write("\n".join(_list()) + "\n")
        return 0
    faults = [each for each in options.faults.split(",") if each] if options.faults is not None else list(FAULTS)
    if unknown := set(faults) - set(FAULTS):
        sys.stderr.write(f"no such fault: {', '.join(sorted(unknown))}; see --list\n")
        return 2
    mutation = MUTATIONS[options.mutation] if options.mutation else None
    with applied(mutation):
        failed = _run(_seeds(options.seeds), faults, options)
    return 1 if failed else 0


def _run(seeds: range, faults: list[str], options: argparse.Namespace) -> int:
    began, failed, steps, seconds = perf_counter(), 0, 0, 0.0
    gc.disable()
    for number, seed in enumerate(seeds, 1):
        outcome = World(seed, faults, keeps_history=options.history).run()
        steps += outcome.steps
        seconds += outcome.virtual_seconds
        if options.history or options.trace:
            _show(outcome)
        if outcome.violations:
            failed += 1
            _show_violations(outcome, options)
        if number % GARBAGE_EVERY == 0:
            gc.collect()
    gc.enable()
    took = max(perf_counter() - began, 1e-9)
    sys.stdout.write(
        f"{len(seeds)} seeds, {failed} failed; {seconds / 3600:.1f} simulated hours, {steps:,} steps, "
        f"{took:.1f} s, {len(seeds) / took:.0f} seeds/s\n"
    )
    return failed


def _show(outcome: SimulationOutcome) -> None:
    for strike in outcome.plan.strikes:
        sys.stdout.write(f"plan: {strike}\n")
    sys.stdout.write(f"plan: {outcome.plan.rates}\n")
    sys.stdout.write(f"edges: {', '.join(sorted(outcome.plan.edges)) or 'none'}\n")
    for line in outcome.history:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"seed {outcome.seed}: trace {outcome.trace:08x}, {outcome.steps} steps\n")


def _show_violations(outcome: SimulationOutcome, options: argparse.Namespace) -> None:
    sys.stdout.write(f"seed {outcome.seed} failed:\n")
    for violation in outcome.violations:
        sys.stdout.write(f"    {violation[:1000]}\n")
    again = f"python -m anabranch.testing.simulator --seeds {outcome.seed}"
    if options.faults is not None:
        again += f" --faults {options.faults!r}"
    if options.mutation:
        again += f" --mutation {options.mutation}"
    sys.stdout.write(f"    repeat with: {again} --history\n")
    sys.stdout.flush()


def _seeds(text: str) -> range:
    """Parse `7`, or `0..1000`, whose end is excluded."""
    first, dots, end = text.partition("..")
    return range(int(first), int(end) if dots else int(first) + 1)


def _list() -> Iterator[str]:
    yield "faults:"
    for name, what in {**STRIKES, **RATES, **EDGES, **LONG_RUNS}.items():
        yield f"  {name:18} {what}"
    yield "mutations:"
    for name, mutation in MUTATIONS.items():
        yield f"  {name:18} {mutation.what}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m anabranch.testing.simulator", description=__doc__)
    parser.add_argument(
        "--seeds", default="0..200", help="a seed, or FIRST..END, END excluded (default %(default)s)"
    )
    parser.add_argument("--faults", help="only these faults, separated by commas; empty for none")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break this mechanism of the product")
    parser.add_argument("--history", action="store_true", help="print everything that happened")
    parser.add_argument("--trace", action="store_true", help="print the fault plan and a checksum of the history")
    parser.add_argument("--list", action="store_true", help="print the faults and mutations")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of strings depends on the hash seed of the process; a seed must not.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "anabranch.testing.simulator", *sys.argv[1:]])
    raise SystemExit(main())
