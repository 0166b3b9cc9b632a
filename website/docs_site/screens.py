"""The pictures of the terminal: real runs on a system in this process, drawn as the command draws them.

What is shown is whatever the run had reached by then, so two pictures are never the same; they are taken anew when
the drawing changes, and nothing compares them.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from anabranch import Registry, Task, agent
from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tree import UNICODE, Canvas, draw
from anabranch.cli.top.drawing import Frame, draw_frame
from anabranch.cli.top.screen import Screen
from anabranch.cli.top.snapshot_reader import SnapshotReader
from anabranch.core.request.admission import read_request
from anabranch.embedded import Embedded, embedded
from docs_site.pages import DOCS

FOLDER = DOCS / "screens"
WIDTH = 108
PHOTOS = 3_000
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


@agent("develop")
async def develop(task: Task) -> int:
    """Takes longer for some photos, and never has done with one."""
    number = int(task.inputs["photo"])
    await asyncio.sleep(0.02 + 0.002 * (number % 40))
    if number in (311, 1_204):
        raise ValueError(f"photo {number} is overexposed")
    return number


def _request(name: str, photos: int) -> Mapping[str, Any]:
    sequence = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 1, "end": photos}}}}
    wide = {"name": "develop", "agent": "develop", "expansion_config": sequence, "inputs": {"photo": "{n}"}}
    times = {"type": "array", "array_mapping": {"times": [0, 1, 0, 2, 0, 0, 1, 0]}}
    captions = {"name": "captions", "agent": "fail", "expansion_config": times}
    retry = {"strategy": "fixed", "delay": "2s", "max_attempts": 4}
    waits = {"dependencies": ["listed"], "tolerated_failures": 5}
    return {
        "name": name,
        "task_groups": [
            {"name": "prepare", "tasks": [{"name": "list", "agent": "echo", "result_keys": ["listed"]}]},
            {
                "name": "photos",
                "tasks": [
                    {**wide, **waits, "result_keys": ["developed"]},
                    {**captions, "inputs": {"times": "{times}"}, "retry": retry, "result_keys": ["captions"]},
                ],
            },
            {
                "name": "album",
                "tasks": [
                    {
                        "name": "bind",
                        "agent": "echo",
                        "dependencies": ["developed", "captions"],
                        "message_template": "done",
                        "result_keys": ["album"],
                    }
                ],
            },
        ],
    }


def draw_all() -> Iterator[Path]:
    """Take every picture; gives each file."""
    FOLDER.mkdir(exist_ok=True)
    for name, title, picture in asyncio.run(_pictures()):
        console = Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )
        console.print(picture)
        path = FOLDER / f"{name}.svg"
        path.write_text(_FONTS.sub("", console.export_svg(title=title)), encoding="utf-8")
        yield path


async def _pictures() -> list[tuple[str, str, RenderableType]]:
    async with embedded(Registry.builtin().add(develop)) as system:
        reading = SnapshotReader(system.client, 20)
        for name, photos in (("proofs", 40), ("wedding", 120)):
            await (await system.client.submit(_request(name, photos))).result()
        tree = await _half_way(system)
        await reading.snapshot()
        await asyncio.sleep(1.0)
        snapshot = await reading.snapshot()
        top = draw_frame(snapshot, Screen(), Frame(WIDTH, 24, UNICODE, "localhost:9092  prefix anabranch."))
    return [("run", "anabranch run photos.yaml", tree), ("top", "anabranch top", top)]


async def _half_way(system: Embedded) -> RenderableType:
    """A run as its tree showed it when half of it was done; it goes on."""
    request = _request("photos", PHOTOS)
    run = await system.client.submit(request)
    progress = RunProgress.of_plan(run.run_id, read_request(request).plan)
    rates, clock = RateMeter(), system.client.links.clock
    began = clock.monotonic()
    async for batch in run.event_batches():
        progress.apply(batch)
        tree = draw(progress, Canvas(WIDTH, None, clock.monotonic() - began), rates)
        if progress.members_done > 0.55 * PHOTOS:
            return tree
    raise AssertionError("the run ended before its picture was taken")
