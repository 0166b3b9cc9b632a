"""Measures how fast the dashboard shows a large graph: first paint, and frames per second while panning.

    python -m dashboard [--tasks 2122] [--edges 6000] [--layers 12] [--seconds 3] [--json]

Runs a layered workflow of this size on a system in its own process, and opens its graph in a headless Chromium,
which draws without a graphics card.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from browsers import chromium
from dev_system import DevSystem, dev_system
from playwright.sync_api import Page

from anabranch.cli.bench.layered import layered
from peers.machine import machine

VIEWPORT = {"width": 1440, "height": 900}

PAN = """
async ([selector, seconds, scale]) => {
  const graph = document.querySelector(selector).graph;
  if (scale !== 1) graph.zoom(scale);
  await new Promise((done) => setTimeout(done, 500));
  const times = [];
  const end = performance.now() + seconds * 1000;
  let nth = 0;
  await new Promise((done) => {
    const frame = (now) => {
      times.push(now);
      nth += 1;
      graph.pan(14 * Math.cos(nth / 40), 9 * Math.sin(nth / 55));
      if (now < end) requestAnimationFrame(frame);
      else done();
    };
    requestAnimationFrame(frame);
  });
  return times.slice(1).map((time, at) => time - times[at]);
}
"""


def request_of(tasks: int, edges: int, layers: int) -> dict[str, Any]:
    """A request with a layered graph: one group per layer, `echo` as the agent of every task."""
    groups = []
    number = 0
    for depth, layer in enumerate(layered(tasks, edges, layers)):
        members = []
        for needs in layer:
            members.append(
                {
                    "name": f"task_{number:04d}",
                    "agent": "echo",
                    "message_template": "x",
                    "dependencies": [f"k{need}" for need in needs],
                    "result_keys": [f"k{number}"],
                }
            )
            number += 1
        groups.append({"name": f"layer {depth + 1}", "tasks": members})
    return {"name": f"{tasks:,} tasks", "task_groups": groups}


def first_paint(page: Page, url: str) -> dict[str, float]:
    """Milliseconds from the navigation to the first content, and to the whole graph."""
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_selector("canvas[data-painted]", state="attached")
    return page.evaluate(
        """() => ({
          content: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
          graph: Number(document.querySelector("canvas[data-painted]").dataset.painted),
        })"""
    )


def frames(page: Page, seconds: float, scale: float) -> dict[str, float]:
    """Frames per second of a pan, and durations of its slow frames in milliseconds."""
    took = sorted(page.evaluate(PAN, ["canvas[data-painted]", seconds, scale]))
    return {
        "frames_per_second": round(1000 / statistics.fmean(took), 1),
        "p95_ms": round(took[int(len(took) * 0.95)], 1),
        "longest_ms": round(took[-1], 1),
    }


def measure(system: DevSystem, tasks: int, edges: int, layers: int, seconds: float) -> dict[str, Any]:
    """Run the workflow and measure everything."""
    run = system.submit(request_of(tasks, edges, layers), wait=60)
    url = f"{system.url}#/runs/{run}/graph"
    with chromium() as browser:
        page = browser.new_page(viewport=VIEWPORT)
        first = first_paint(page, url)
        cached = first_paint(page, url)
        return {
            "tasks": tasks,
            "edges": edges,
            "browser": browser.version,
            "first_visit_ms": {name: round(value) for name, value in first.items()},
            "next_visit_ms": {name: round(value) for name, value in cached.items()},
            "pan_all": frames(page, seconds, 1),
            "pan_closer": frames(page, seconds, 3),
            "pan_close": frames(page, seconds, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=2_122)
    parser.add_argument("--edges", type=int, default=6_000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with dev_system("dashboard_agents") as system:
        found = measure(system, options.tasks, options.edges, options.layers, options.seconds)
    found["machine"] = ", ".join(f"{name} {value}" for name, value in machine().items())
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        return
    print(f"{found['machine']}; Chromium {found['browser']}, headless, no graphics card")
    print(f"{options.tasks:,} tasks, {options.edges:,} edges, {VIEWPORT['width']} by {VIEWPORT['height']} pixels")
    for name in ("first_visit_ms", "next_visit_ms"):
        figures = found[name]
        visit = name.removesuffix("_ms").replace("_", " ")
        print(f"  {visit:12} first content {figures['content']} ms, whole graph {figures['graph']} ms")
    for name in ("pan_all", "pan_closer", "pan_close"):
        figures = found[name]
        print(
            f"  {name.replace('_', ' '):12} {figures['frames_per_second']} frames per second, "
            f"95% within {figures['p95_ms']} ms, longest {figures['longest_ms']} ms"
        )


if __name__ == "__main__":
    main()
