"""Values of a random workload that look like references: to values of the run itself, of others, or to nothing.

Which they are is drawn from the request, and not from what a seed draws: so a seed does what it did without them.
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
"""Of the tasks, those whose members return such values."""
OUTSIDE_SHARE = 0.3


def pose(request: Mapping[str, Any], number: int, workload: Workload) -> None:
    """Have some tasks of a request return such values, and some values from outside be such."""
    random = Random(f"{request['request_id']} {request['task_groups']}")
    for group in request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < SHARE and "gives" not in task["inputs"]:
                task["inputs"]["poses"] = _posing(random, request)
            elif task["inputs"].get("gives") == {"x": 1}:
                task["inputs"]["gives"] = _posing(random, request)
    for place, (at, session, key, _) in enumerate(workload.outside):
        if session == f"s{number}" and random.random() < OUTSIDE_SHARE:
            workload.outside[place] = (at, session, key, _posing(random, request, key))


def _posing(random: Random, request: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
    other = random.randrange(3)
    session = random.choice((request["session_id"], f"s{other}", "nobody"))
    run_id = run_id_for(random.choice((str(request["request_id"]), f"r{other}")))
    named = key if key is not None and random.random() < 0.5 else f"k{random.randrange(6)}"
    return reference_document(session, named, run_id, random.randrange(3), random.choice((5, 600)))
