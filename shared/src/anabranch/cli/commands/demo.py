"""`anabranch demo`: runs `demo_job` on an embedded system, prints its report, and suggests what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anabranch.cli import demo_job
from anabranch.cli.backends.systems import load_registry, open_system
from anabranch.cli.commands.follow import Following, follow
from anabranch.cli.commands.run import summarise, validate
from anabranch.cli.exits import code_for
from anabranch.cli.render.live_view import view_for
from anabranch.cli.render.output import say, seconds, wide_console
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import Console

    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.run_result import RunResult

NEXT = """What to try next
  anabranch plan FILE           show what a request would run
  anabranch run FILE --embedded run your own request without servers; the folder examples/ of the
                                sources has some
  anabranch dev                 keep a system running in this process
  anabranch bench fanout --embedded --tasks 20000
                                measure this machine"""


async def show(settings: Settings) -> int:
    """Run the demo; returns the exit code."""
    registry = load_registry([demo_job.__name__])
    document = demo_job.request(demo_job.source_folders())
    plan = validate(document, settings, registry).plan
    async with open_system(settings, registry) as system:
        say(f"Anabranch: {system.description}.")
        say("One member analyses each Python file of this installation; then the results are joined.\n")
        run = await system.client.submit(document, agents=registry.choices)
        result = await follow(run, Following(view_for(SystemClock()), plan))
    if result.status == "completed":
        _show_report(result)
    else:
        summarise(result)
    return code_for(result.status)


def _show_report(result: RunResult) -> None:
    console = wide_console()
    report: dict[str, Any] = result.results["report"]
    totals = report["totals"]
    console.print(
        f"\nPython {report['python']}: [bold]{report['files']:,} files[/], {report['bytes'] / 1e6:.1f} MB, "
        f"{totals['lines']:,} lines, {totals['classes']:,} classes, {totals['functions']:,} functions, "
        f"{totals['todos']:,} TODO comments.\n",
        markup=True,
    )
    for ranking in report["rankings"]:
        if ranking["kind"] == "library" and ranking["metric"] in ("lines", "branches"):
            metric = ranking["metric"]
            _print_table(console, f"most {metric}", ranking["top"], "path", metric)
    _print_table(console, "most imported", report["most_imported"], "module", "imported_by")
    _print_table(console, "slowest to analyse", report["slowest"], "path", "ms")
    done = result.executions["completed"]
    rate = done / max(result.duration_seconds, 0.001)
    console.print(
        f"[bold]{done:,} tasks in {seconds(result.duration_seconds)}[/], {rate:,.0f} per second, including "
        f"reading the files.\n\n{NEXT}",
        markup=True,
    )


def _print_table(console: Console, title: str, rows: Sequence[dict[str, Any]], name: str, figure: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    for row in rows[:5]:
        value = row[figure]
        table.add_row(f"  {value:,}" if isinstance(value, int) else f"  {value:.1f}", str(row[name]))
    console.print(table)
    console.print()
