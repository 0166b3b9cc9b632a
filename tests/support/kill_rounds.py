"""Kills services while runs are in given phases, and checks outcomes and effects: see `flow_scenarios`."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import WORKER
from cluster import FINAL, Cluster, Seen, User, await_true
from flow_scenarios import GATE, Json, Make, Scenario
from requests_made import resolved

from anabranch.core.names import run_id_for

REPORT_SECONDS = 3.0
"""A member that ended this long before a kill has been reported, and must not be called again."""
PHASE_SECONDS, END_SECONDS = 120.0, 600.0
SILENT_SECONDS = 120.0
"""Without any event for this long, the open runs hang."""


@dataclass
class Played:
    """One scenario that is under way."""

    name: str
    request_id: str
    scenario: Scenario

    @property
    def run_id(self) -> str:
        return run_id_for(self.request_id)


class KillRound:
    """One run of each scenario, and kills that meet all of them at once.

    Attributes:
        problems: what was wrong, each with the name of its scenario.
    """

    def __init__(self, cluster: Cluster, dice: random.Random, scenarios: Sequence[Make]) -> None:
        self.cluster, self.dice = cluster, dice
        self.user = User(cluster, ("results", "events"))
        self.problems: list[str] = []
        self._gate = cluster.folder / f"{uuid.uuid4().hex}.gate"
        self._played = [self._made(make) for make in scenarios]
        self._kills: list[float] = []
        self._entries: dict[str, list[Json]] = defaultdict(list)
        self._finals: dict[str, dict[str, Json]] = defaultdict(dict)
        self._heard = time.monotonic()

    def _made(self, make: Make) -> Played:
        request_id = f"{make.__name__}-{uuid.uuid4().hex[:8]}"
        return Played(make.__name__, request_id, make(request_id, self.cluster.folder))

    # --- the course of a round -----------------------------------------------------------------------------------

    def play(self, *services: str, again: bool = False) -> None:
        """Bring all runs into their phases, kill every process of these services, and let the runs end.

        With `again`, the successors are killed as well, within some seconds.
        """
        self._reach_phases()
        self._wait(self.dice.uniform(0, 0.3))
        for each in self._played:
            self._send(each, *each.scenario.trigger)
        self._wait(self.dice.uniform(0, 0.1))
        self._kill(services)
        for each in self._played:
            if not each.scenario.reached:
                self._send(each, each.scenario.request)
            self._send(each, *each.scenario.during, *each.scenario.during)
        self._wait(self.dice.uniform(0, 2))
        self._start(services)
        self._gate.touch()
        if again:
            self._wait(self.dice.uniform(0, 12))
            self._kill(services)
            self._start(services)
        self._finish()

    def _reach_phases(self) -> None:
        earlier = [each for each in self._played if each.scenario.earlier is not None]
        for each in earlier:
            self._send(each, each.scenario.earlier or {})
        for each in earlier:
            self._await(each, lambda each=each: bool(self._finals[f"{each.request_id}-first"]))
            if each.scenario.repaired is not None:
                each.scenario.repaired.touch()
        begun = [each for each in self._played if each.scenario.reached]
        for each in begun:
            self._send(each, each.scenario.request)
        for each in begun:
            self._await(each, lambda each=each: self._has_event(each, each.scenario.reached))
        for each in begun:
            self._send(each, *each.scenario.before)
        for each in begun:
            if each.scenario.settled is not None:
                self._await(each, lambda each=each: self._has_event(each, each.scenario.settled or {}))

    def _kill(self, services: Sequence[str]) -> None:
        self._kills.append(time.time())
        victims = [process for service in services for process in self.cluster.of(service)]
        for process in victims:
            process.popen.kill()
        for process in victims:
            process.popen.wait()

    def _start(self, services: Sequence[str]) -> None:
        """Start as many processes as there were."""
        started = []
        for service in services:
            count = 2 if service == "taskgroup" else 1
            options = WORKER if service == "taskgroup" else ()
            started += [self.cluster.start(service, *options) for _ in range(count)]
        for process in started:
            process.await_ready()

    def _finish(self) -> None:
        for each in self._played:
            self._await(
                each, lambda each=each: bool(self._finals[each.request_id]) or self._is_silent(), END_SECONDS
            )
        self.problems += [f"{each.name}: hangs" for each in self._played if not self._finals[each.request_id]]
        self._wait(1)  # a second end follows soon after the first
        effects = list(self._effects())
        for each in self._played:
            if not self._finals[each.request_id]:
                continue
            self.problems += [f"{each.name}: {problem}" for problem in self._problems_of(each, effects)]

    # --- records -------------------------------------------------------------------------------------------------

    def _send(self, each: Played, *records: Json) -> None:
        for record in records:
            # One key, so that the records about a run are read in the order in which they were sent.
            self.user.produce(_filled(record, each.request_id, str(self._gate)), key=each.request_id)

    def _read(self) -> None:
        self.user.read()
        for seen in self.user.seen:
            self._receive(seen)
        self.user.seen.clear()

    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard > SILENT_SECONDS

    def _receive(self, seen: Seen) -> None:
        self._heard = time.monotonic()
        body = seen.body
        if seen.kind in FINAL:
            self._finals[body["request_id"]][seen.headers["ce_id"].decode() + seen.value.decode()] = body
        elif seen.topic == "events":
            self._entries[body["run_id"]] += body["entries"]

    def _has_event(self, each: Played, wanted: Mapping[str, Any]) -> bool:
        fields = dict(wanted)
        entries = self._entries[fields.pop("run_id", each.run_id)]
        found = ({**entry.get("data", {}), **entry} for entry in entries)
        return any(all(entry.get(name) == value for name, value in fields.items()) for entry in found)

    def _await(self, each: Played, condition: Callable[[], bool], seconds: float = PHASE_SECONDS) -> None:
        def holds() -> bool:
            self._read()
            return condition()

        def explain() -> str:
            entries = "\n".join(map(str, self._entries[each.run_id]))
            return f"{each.name}: {each.scenario}\n{entries}\n{self.cluster.logs()}"

        await_true(holds, seconds, explain)

    def _wait(self, seconds: float) -> None:
        """Read records for a time."""
        end = time.monotonic() + seconds

        def over() -> bool:
            self._read()
            return time.monotonic() >= end

        await_true(over, seconds + 60)

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _effects(self) -> Iterator[Json]:
        path = Path(self.cluster.folder) / "effects.jsonl"
        for line in path.read_text().splitlines():
            yield json.loads(line)

    def _problems_of(self, each: Played, effects: Sequence[Json]) -> Iterator[str]:
        wanted = each.scenario
        [*finals] = self._finals[each.request_id].values()
        if len(finals) != 1:
            yield f"ended {len(finals)} times: {finals}"
        final = finals[0]
        if final["status"] != wanted.status:
            yield f"is {final['status']}, expected {wanted.status}: {final}"
            return
        for key, value in wanted.results.items():
            found = resolved(self.user, final, key) if key in final["results"] else "absent"
            if found != value:
                yield f"result {key!r} is {found}, expected {value}"
        yield from self._problems_of_effects(each, effects)

    def _problems_of_effects(self, each: Played, effects: Sequence[Json]) -> Iterator[str]:
        keys: dict[str, set[str]] = defaultdict(set)
        ended: dict[str, float] = {}
        for effect in effects:
            prefix, _, mark = effect["mark"].partition("/")
            if prefix != each.request_id:
                continue
            key = effect["key"]
            if effect["what"] == "ended":
                keys[mark].add(key)
                ended.setdefault(key, effect["at"])
            elif key in ended and any(ended[key] < kill - REPORT_SECONDS < effect["at"] for kill in self._kills):
                yield f"{mark} was called again {effect['at'] - ended[key]:.1f} s after it had ended"
        counts = {mark: len(found) for mark, found in keys.items()}
        if counts != each.scenario.effects:
            yield f"has the effects {counts}, expected {each.scenario.effects}"

    def close(self) -> None:
        self.user.close()


def _filled(part: Any, request_id: str, gate: str) -> Any:
    """A record with unique marks, and with the file of its gates."""
    if isinstance(part, Mapping):
        return {
            name: f"{request_id}/{value}" if name == "mark" else _filled(value, request_id, gate)
            for name, value in part.items()
        }
    if isinstance(part, list | tuple):
        return [_filled(item, request_id, gate) for item in part]
    return gate if part == GATE else part
