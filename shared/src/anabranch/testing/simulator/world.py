"""One simulation: the processes, the servers, the faults and the users of it, on one loop, from one seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from anabranch.core.names import session_key
from anabranch.ports import Outgoing
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import topic_specs
from anabranch.sdk.agents import Registry
from anabranch.testing.loop import SeededIds, VirtualClock
from anabranch.testing.simulator import invariants
from anabranch.testing.simulator.broker import WatchedBroker
from anabranch.testing.simulator.edges import EDGES_FROM, draw_edges, with_edges
from anabranch.testing.simulator.faults import FAULTS, HORIZON, FaultPlan, Strike, make_plan
from anabranch.testing.simulator.loop import OUTSIDE, SimLoop, Stuck
from anabranch.testing.simulator.losses import LOSS_STRIKES
from anabranch.testing.simulator.nature import Nature
from anabranch.testing.simulator.observer import Observer
from anabranch.testing.simulator.processes import Process, SimClock, Site
from anabranch.testing.simulator.servers import ForgetfulServer
from anabranch.testing.simulator.sharing import SHARED_FROM
from anabranch.testing.simulator.workload import Workload, make_agent, make_workload
from anabranch.testing.systems import registry_of

PATIENCE = 1800.0
"""Seconds after the last fault in which everything has to end."""
SETTLE_SECONDS = 150.0
"""Seconds after the last end in which everything has to be put away."""
POLL_SECONDS = 1.0
RESTART_SECONDS = 8.0
ASK_SECONDS = 200.0
"""So long after nothing goes wrong any more, users send a request again that has not ended: by then each run that
somebody knows has."""
PARTITIONS = {"requests": 1, "runs": 2, "groups": 2, "tasks": 2, "events": 1, "results": 1, "dead_letters": 1}

MakeRegistry = Callable[["World", Process], Registry]


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """What came of a seed. `trace` is the same for the same seed, whatever the machine."""

    seed: int
    violations: tuple[str, ...]
    trace: int
    steps: int
    virtual_seconds: float
    plan: FaultPlan
    finals: tuple[dict[str, Any], ...]
    history: tuple[str, ...] = field(default=(), repr=False)


class World:
    """See the module. Made anew for each seed.

    Args:
        workload: what users do; None draws it from the seed.
        make_registry: the agents of a process; None takes those of the drawn workload.
    """

    def __init__(
        self,
        seed: int,
        faults: Collection[str] = FAULTS,
        *,
        workload: Workload | None = None,
        make_registry: MakeRegistry | None = None,
        keeps_history: bool = False,
    ) -> None:
        self.seed = seed
        self.loop = SimLoop()  # type: ignore[abstract]  # it has no sockets, signals or child processes
        self.nature = Nature(seed)
        random = self.nature.random
        self.edges = draw_edges(seed, faults)
        self.plan = with_edges(make_plan(random, faults), self.edges)
        self.workload = workload or make_workload(
            random,
            random.choice((1, 1, 1, 2, 3)),
            self.edges,
            shares=SHARED_FROM <= seed < EDGES_FROM,
        )
        self.settings = _settings(random)
        self.specs = [self.edges.spec(spec) for spec in topic_specs(self.settings)]
        clock = SimClock(self.loop)
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.observer = Observer(self.settings.names, self.loop.time, self._all_ended)
        if keeps_history:
            self.observer.history = []
        self.server = ForgetfulServer(clock, self.observer.accepted, self.edges.snapshot_seconds())
        self.broker = WatchedBroker(self.observer.appended, clock.now)
        self.lost_at = -1.0
        """When the store came back empty, or older than it may be, the last time."""
        self.forgets_all = False
        """Whether all topics were created again: what was admitted may be known to nobody."""
        self._make_registry = make_registry or _registry
        site = Site(
            loop=self.loop,
            nature=self.nature,
            broker=self.broker,
            server=self.server,
            settings=partial(self.edges.settings, self.settings),
            ids=SeededIds(VirtualClock(self.loop), seed),
            make_registry=lambda process: self._make_registry(self, process),
            report=self.observer.violated,
        )
        counts = {"agency": random.choice((1, 2)), "taskgroup": random.choice((1, 2, 2, 3)), "eventmanager": 1}
        self.processes = [
            Process(site, kind, number, self.edges.skew(f"{kind}-{number}"))
            for kind, count in counts.items()
            for number in range(count)
        ]
        self._lingers = bool(self.plan.strikes) and random.random() < 0.3
        self._unsent = len(self.workload.sent)
        self._is_calm = False

    # --- the whole of it -----------------------------------------------------------------------------

    def run(self) -> SimulationOutcome:
        """Run until all has ended and is put away, and judge."""
        with invariants.errors_logged(self.observer.violated):
            try:
                self.loop.run_until_complete(self._main())
            except Stuck as stuck:
                self.observer.violated(f"the simulation is stuck: {stuck}")
            steps, seconds = self.loop.steps, self.loop.time()
            self._tear_down()
        observer = self.observer
        for error in self.loop.errors:
            observer.violated(f"an error that nobody took: {error}")
        return SimulationOutcome(
            seed=self.seed,
            violations=tuple(observer.violations),
            trace=observer.trace,
            steps=steps,
            virtual_seconds=seconds,
            plan=self.plan,
            finals=tuple(final for account in observer.accounts.values() for final in account.finals),
            history=tuple(observer.history or ()),
        )

    async def _main(self) -> None:
        for spec in self.specs:
            self.broker.create(spec)
            self.broker.begin_at(spec.name, self.edges.first_offset)
        for expected in self.workload.runs:
            self.observer.expect(
                expected,
                may_repeat=self.edges.may_repeat,
                may_be_lost=self.edges.loses_log,
                may_end_again=self.may_end_again,
            )
        self._schedule()
        for process in self.processes:
            process.start()
        deadline = self.loop.call_at(HORIZON + PATIENCE, self._give_up, context=OUTSIDE)
        await self._over
        deadline.cancel()
        self._calm()
        await self._settle()
        await invariants.check_results(self)

    def _schedule(self) -> None:
        at = partial(self.loop.call_at, context=OUTSIDE)
        for when, record in self.workload.sent:
            at(when, self._send, record)
        for when, expected in self.workload.later:
            at(max(0.0, when - RESTART_SECONDS), self._restart_some)
            at(when, self.observer.comes_again, expected)
        for when, session_id, key, value in self.workload.outside:
            at(when, self._publish, session_id, key, orjson.dumps(value))
        self.nature.rates = self.plan.rates
        timed = [strike for strike in self.plan.strikes if strike.moment is None]
        for strike in timed:
            at(strike.at, self._strike, strike, None)
        self._sudden = sorted(
            (strike for strike in self.plan.strikes if strike.moment is not None),
            key=lambda strike: strike.moment or 0,
        )
        self.nature.plan((strike.moment or 0 for strike in self._sudden), self._strike_inside)
        at(HORIZON, self._calm)
        if self.edges.loses_log:
            at(HORIZON + ASK_SECONDS, self._ask_again)

    def _all_ended(self) -> None:
        """All runs have ended; some seeds go on until nothing can go wrong any more."""
        if not self._unsent and (not self._lingers or self._is_calm) and not self._over.done():
            self._over.set_result(None)

    def _give_up(self) -> None:
        open_runs = [account.expected.request_id for account in self._accounts() if not account.is_over]
        self.observer.violated(f"these requests never ended: {open_runs}")
        if not self._over.done():
            self._over.set_result(None)

    def _accounts(self) -> Any:
        return self.observer.accounts.values()

    def _calm(self) -> None:
        """Nothing goes wrong from here on, and whoever is away comes back."""
        if self._is_calm:
            return
        self._is_calm = True
        self.nature.calm()
        self.server.refusing = False
        for process in self.processes:
            process.thaw()
            process.start()
        if all(account.is_over for account in self._accounts()):
            self._all_ended()

    async def _settle(self) -> None:
        """Wait until everything is put away."""
        until = self.loop.time() + SETTLE_SECONDS * (4 if self.edges.may_repeat else 1)
        left = self._left_over()
        while left and self.loop.time() < until:
            await asyncio.sleep(POLL_SECONDS)
            left = self._left_over()
        for each in left:
            self.observer.violated(f"not put away: {each}")

    def _left_over(self) -> list[str]:
        """What is still held; a run that nobody else can know of may be, until its deadline."""
        left = invariants.left_over(self)
        return [each for each in left if "open runs" not in each] if self.may_ask_again() else left

    def _tear_down(self) -> None:
        for process in self.processes:
            for life in process.lives:
                self.loop.open(life.gate)
        while tasks := [task for task in asyncio.all_tasks(self.loop) if not task.done()]:
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.close()

    # --- users ---------------------------------------------------------------------------------------

    def _restart_some(self) -> None:
        """Before a request id comes again some services are started again: these know only what the store has."""
        for process in self.processes:
            if self.edges.random.random() < 0.4:
                process.kill(0.5)

    @property
    def keeps_results(self) -> bool:
        """Whether values are kept for so long that they are still there when everything has ended."""
        return self.edges.result_ttl is None and not self.edges.loses_log

    @property
    def may_end_again(self) -> bool:
        """Whether nobody may know that a run has ended: the log and the store lose it."""
        return self.edges.loses_log and self.plan.loses_store

    def may_ask_again(self) -> bool:
        """Whether runs may be known to nobody: where the log and the store lost them, or all topics are others."""
        return self.forgets_all or self.may_end_again

    def _ask_again(self) -> None:
        """What users do whose request has no end long after its deadline."""
        if self._over.done():
            return
        for account in self._accounts():
            if not account.is_over and (self.may_ask_again() or not account.admissions):
                self._append(account.expected.request)
        self.loop.call_later(ASK_SECONDS, self._ask_again, context=OUTSIDE)

    def _send(self, record: dict[str, Any]) -> None:
        name = self.settings.names.requests
        self.broker.append([Outgoing(name, None, orjson.dumps(record))], VirtualClock(self.loop).now())
        self._unsent -= 1
        if all(account.is_over for account in self._accounts()):
            self._all_ended()

    def _append(self, record: dict[str, Any]) -> None:
        name = self.settings.names.requests
        self.broker.append([Outgoing(name, None, orjson.dumps(record))], VirtualClock(self.loop).now())

    def _publish(self, session_id: str, key: str, value: bytes) -> None:
        """Do what an outside publisher does; where the store takes nothing, again a second later."""
        if "store" in self.nature.cut or self.server.refusing:
            self.loop.call_later(1.0, self._publish, session_id, key, value, context=OUTSIDE)
            return
        name = session_key(session_id, key)
        self.server.set(name, value, 86_400.0)
        for callback in list(self.server.channels.get(name, ())):
            for _ in range(self.nature.copies()):
                callback(value)

    def _publish_again(self) -> None:
        for when, session_id, key, value in self.workload.outside:
            if when <= self.loop.time():
                self._publish(session_id, key, orjson.dumps(value))

    # --- faults --------------------------------------------------------------------------------------

    def _strike_inside(self, process: str) -> bool:
        """A fault in the midst of an exchange: the process of it stands still at once. True where it is gone."""
        strike = self._sudden.pop(0)
        victim = next((each for each in self.processes if each.life and each.life.gate.name == process), None)
        if victim is not None and victim.life is not None and strike.kind in ("kill", "freeze"):
            victim.life.gate.is_open = False
        self.loop.call_soon(self._strike, strike, victim, context=OUTSIDE)
        return victim is not None and strike.kind == "kill"

    def _strike(self, strike: Strike, victim: Process | None) -> None:
        if self._over.done() and strike.kind in LOSS_STRIKES:
            return
        if victim is None:
            victim = self.processes[int(strike.victim * len(self.processes))]
        self.observer.note(f"{strike.kind} {victim.name} for {strike.seconds:.3f} s")
        _STRIKES[strike.kind](self, victim, strike)

    def kill(self, process: Process, seconds: float = 1.0) -> None:
        """Kill a process from inside of it."""
        if process.life is not None:
            process.life.gate.is_open = False
        self.loop.call_soon(process.kill, seconds, context=OUTSIDE)

    def cut(self, server: str, seconds: float) -> None:
        """Let nobody reach a server for a while."""
        self.nature.cut.add(server)
        self.loop.call_later(seconds, self.nature.cut.discard, server, context=OUTSIDE)

    def refuse(self, seconds: float) -> None:
        """Have the store take no writes for a while."""
        self.server.refusing = True
        self.loop.call_later(seconds, self._accept, context=OUTSIDE)

    def _accept(self) -> None:
        self.server.refusing = False

    def restart_store(self, seconds: float, *, empty: bool) -> None:
        """Take the store away; it comes back older or empty, as another one."""
        if empty:
            self.lost_at = self.loop.time()
            self.server.restart()
        else:
            self.server.restart_older()
        self.store_came_back(seconds)

    def store_came_back(self, seconds: float) -> None:
        """It is another store, which nobody reaches for a while yet; users set again what they had set."""
        self.observer.store_forgot()
        self.cut("store", seconds)
        self._publish_again()


def _settings(random: Any) -> Settings:
    return Settings(
        prefix="sim.",
        concurrency=random.choice((2, 8, 64)),
        inline_limit=random.choice((400, 65_536, 65_536)),
        partitions=PARTITIONS,
    )


def _registry(world: World, process: Process) -> Registry:
    agent = make_agent(world.observer.started, partial(world.kill, process))
    return registry_of({"work": agent})


_STRIKES: dict[str, Callable[[World, Process, Strike], None]] = {
    "kill": lambda world, victim, strike: victim.kill(strike.seconds),
    "freeze": lambda world, victim, strike: victim.freeze(strike.seconds),
    "expel": lambda world, victim, strike: victim.expel(strike.seconds),
    "restart": lambda world, victim, strike: victim.restart(),
    "cut-store": lambda world, victim, strike: world.cut("store", strike.seconds),
    "cut-log": lambda world, victim, strike: world.cut("log", strike.seconds),
    "refuse": lambda world, victim, strike: world.refuse(strike.seconds),
    "old-store": lambda world, victim, strike: world.restart_store(strike.seconds / 10, empty=False),
    "empty-store": lambda world, victim, strike: world.restart_store(strike.seconds / 10, empty=True),
    "clock": lambda world, victim, strike: setattr(victim.clock, "skew", strike.size * 30.0),
    **LOSS_STRIKES,
}
