"""Adds values that look like references to a random workload: to values of the run, of other runs, or to nothing.

They are drawn from a random source that is seeded by the request, so that the world's random source, and with it
every other choice of a seed, is not affected.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random  # noqa: TID251 - seeded: by the request
from typing import TYPE_CHECKING, Any

from anabranch.core.names import run_id_for
from anabranch.core.wire.results import reference_document

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Workload

SHARE = 0.08
"""Share of the tasks whose members return such values."""
OUTSIDE_SHARE = 0.3
"""Share of the external values that are replaced by such values."""


def add_lookalikes(request: Mapping[str, Any], number: int, workload: Workload) -> None:
    """Let some tasks of a request return lookalikes, and replace some external values by lookalikes."""
    random = Random(f"{request['request_id']} {request['task_groups']}")
    for group in request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < SHARE and "gives" not in task["inputs"]:
                task["inputs"]["poses"] = _lookalike(random, request)
            elif task["inputs"].get("gives") == {"x": 1}:
                task["inputs"]["gives"] = _lookalike(random, request)
    for place, (at, session, key, _) in enumerate(workload.outside):
        if session == f"s{number}" and random.random() < OUTSIDE_SHARE:
            workload.outside[place] = (at, session, key, _lookalike(random, request, key))


def _lookalike(random: Random, request: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
    other = random.randrange(3)
    session = random.choice((request["session_id"], f"s{other}", "nobody"))
    run_id = run_id_for(random.choice((str(request["request_id"]), f"r{other}")))
    named = key if key is not None and random.random() < 0.5 else f"k{random.randrange(6)}"
    return reference_document(session, named, run_id, random.randrange(3), random.choice((5, 600)))
