"""`anabranch top`: reads a snapshot every few seconds and draws it, until `q`. With `--once`, `--json`, `--output`
or without a terminal it prints one."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anabranch.cli.backends.backend import SnapshotSource
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.exits import COMPLETED
from anabranch.cli.interrupts import on_interrupt
from anabranch.cli.render.output import print_json, terminal, wide_console
from anabranch.cli.render.tables import Form, print_csv
from anabranch.cli.render.tree import ASCII, UNICODE
from anabranch.cli.top.drawing import CSV_COLUMNS, Frame, draw_frame
from anabranch.cli.top.keys import keys
from anabranch.cli.top.screen import Screen, after_key
from anabranch.cli.top.snapshot import Snapshot
from anabranch.core.errors import ServerUnavailable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from anabranch.runtime.process.settings import Settings

RATE_SECONDS = 1.0
"""Seconds between the two snapshots from which a single frame computes rates."""


@dataclass(frozen=True, slots=True)
class TopOptions:
    """Arguments of `top`. `interval` is the refresh interval in seconds."""

    form: Form = Form.TABLE
    once: bool = False
    interval: float = 2.0
    limit: int = 50
    screen: Screen = field(default_factory=Screen)


async def top(settings: Settings, options: TopOptions) -> int:
    """Watch until `q`, or print one frame; returns the exit code.

    Raises:
        ServerUnavailable: the first snapshot cannot be read. (Later failures are shown on the screen.)
    """
    live = not options.once and options.form is Form.TABLE and _on_terminal()
    async with open_installation(settings) as system:
        source, description = system.snapshots(options.limit), system.description
        snapshot = await source.snapshot()
        if live:
            await _Live(source, snapshot, options, description).run()
            return COMPLETED
        # A rate needs two snapshots; without an open run there is no rate to wait for.
        if any(run.is_open for run in snapshot.runs):
            await asyncio.sleep(RATE_SECONDS)
            snapshot = await source.snapshot()
    _print(snapshot, options, description)
    return COMPLETED


def _on_terminal() -> bool:
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def _print(snapshot: Snapshot, options: TopOptions, description: str) -> None:
    rows = options.screen.rows(snapshot)
    if options.form is Form.JSON:
        print_json(snapshot.to_document(rows))
    elif options.form is Form.CSV:
        print_csv(CSV_COLUMNS, rows)
    else:
        console = wide_console()
        console.print(draw_frame(snapshot, options.screen, _frame(console, None, description)))


def _frame(console: Console, height: int | None, description: str) -> Frame:
    return Frame(console.width, height, ASCII if console.options.ascii_only else UNICODE, description)


class _Live:
    """The live screen: refreshes the snapshot, and handles keys."""

    def __init__(self, source: SnapshotSource, snapshot: Snapshot, options: TopOptions, description: str) -> None:
        self._source = source
        self._snapshot = snapshot
        self._interval = options.interval
        self._screen = options.screen
        self._description = description
        self._problem = ""
        self._ended = asyncio.Event()

    async def run(self) -> None:
        from rich.live import Live

        with Live(console=terminal(), screen=True, auto_refresh=False) as live:
            self._draw(live)
            refreshing = asyncio.create_task(self._refresh(live))
            with keys(lambda key: self._on_key(key, live)), on_interrupt(self._ended.set, self._ended.set):
                ended = asyncio.create_task(self._ended.wait())
                await asyncio.wait({ended, refreshing}, return_when=asyncio.FIRST_COMPLETED)
            refreshing.cancel()
            ended.cancel()
            for outcome in await asyncio.gather(refreshing, ended, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def _refresh(self, live: Live) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                self._snapshot = await self._source.snapshot()
                self._problem = ""
            except ServerUnavailable as error:
                self._problem = str(error)
            self._draw(live)

    def _on_key(self, key: str, live: Live) -> None:
        self._screen = after_key(self._screen, key, self._screen.rows(self._snapshot))
        if self._screen.quits:
            self._ended.set()
        self._draw(live)

    def _draw(self, live: Live) -> None:
        frame = _frame(live.console, live.console.height, self._description)
        live.update(draw_frame(self._snapshot, self._screen, frame, self._problem), refresh=True)
