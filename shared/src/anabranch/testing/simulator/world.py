"""One simulation: processes, servers, faults and users on one event loop, from one seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from anabranch.core.names import session_key
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry
from anabranch.testing.loop import SeededIds, VirtualClock
from anabranch.testing.simulator import invariants
from anabranch.testing.simulator.broker import ObservedBroker
from anabranch.testing.simulator.checks import Checks
from anabranch.testing.simulator.edges import EDGES_FROM, draw_edges, with_edges
from anabranch.testing.simulator.fault_injector import FaultInjector
from anabranch.testing.simulator.faults import FAULTS, HORIZON, FaultPlan, Strike, make_plan
from anabranch.testing.simulator.limited import configuring
from anabranch.testing.simulator.long_runs import retain
from anabranch.testing.simulator.loop import OUTSIDE, Deadlock, SimLoop
from anabranch.testing.simulator.losses import LOSS_STRIKES
from anabranch.testing.simulator.observer import Observer
from anabranch.testing.simulator.ordered import quick_levels
from anabranch.testing.simulator.outside import Platform, add_outside_agent, is_outside, running_outside
from anabranch.testing.simulator.pools import LevelWatch, SettingsOf, has_pools, pooling, specs_of, wrong_pool
from anabranch.testing.simulator.processes import Process, SimClock, Site
from anabranch.testing.simulator.required import add_agents, offering, with_partitions
from anabranch.testing.simulator.revertible_server import RevertibleServer
from anabranch.testing.simulator.scheduled import clocks_of
from anabranch.testing.simulator.shadow import Shadow
from anabranch.testing.simulator.sharing import SHARED_FROM
from anabranch.testing.simulator.takeovers import Takeover, draw_takeovers
from anabranch.testing.simulator.work_agent import make_agent
from anabranch.testing.simulator.workload import Workload, make_workload
from anabranch.testing.systems import registry_of

MAX_END_SECONDS = 1800.0
"""Maximum seconds from the last fault to the end of all runs."""
SETTLE_SECONDS = 150.0
"""Maximum seconds from the last end of a run until no process and no server holds anything of it."""
POLL_SECONDS = 1.0
RESTART_SECONDS = 8.0
RESUBMIT_SECONDS = 200.0
"""Seconds after the last fault after which users submit an unfinished request again. By then, each run that a
process knows has ended."""
PARTITIONS = {"requests": 1, "runs": 2, "groups": 2, "tasks": 2, "events": 1, "results": 1, "dead_letters": 1}

MakeRegistry = Callable[["World", Process], Registry]


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """Outcome of a seed. `trace` is the same on every machine."""

    seed: int
    violations: tuple[str, ...]
    trace: int
    steps: int
    virtual_seconds: float
    plan: FaultPlan
    finals: tuple[dict[str, Any], ...]
    history: tuple[str, ...] = field(default=(), repr=False)


class World:
    """See the module. Use an instance for one seed.

    Args:
        workload: the actions of users; None: drawn from the seed.
        make_registry: returns the agents of a process; None: those of the drawn workload.
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
        self.injector = FaultInjector(seed)
        # Each draw shifts all later draws of a seed. New kinds of cases therefore have random sources of their
        # own, such as `edges.random`, and known seeds keep their meaning.
        random = self.injector.random
        self.edges = draw_edges(seed, faults)
        self.plan = with_edges(make_plan(random, faults), self.edges)
        self.workload = workload or make_workload(
            random,
            random.choice((1, 1, 1, 2, 3)),
            self.edges,
            shares=SHARED_FROM <= seed < EDGES_FROM,
        )
        self.settings = with_partitions(str(seed), _settings(random))
        self.specs = [self.edges.spec(spec) for spec in specs_of(str(seed), self.settings)]
        self.clocks = clocks_of(str(seed))
        self.loop.epoch = self.clocks.epoch
        clock = self.clock = SimClock(self.loop)
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.observer = Observer(self.settings.names, self.loop.time, self._all_ended)
        if keeps_history:
            self.observer.history = []
        self.server = RevertibleServer(clock, self.observer.accepted, self.edges.snapshot_seconds())
        self.shadow = Shadow(self.settings.names, self.observer.violated)
        self.checks = Checks(str(seed), self.settings.names, self.observer, clock.now)
        self.broker = ObservedBroker(self._appended, clock.now)
        self.platform = (
            Platform(str(seed), self.loop, self.injector, self.observer.violated)
            if is_outside(str(seed))
            else None
        )
        self.lost_at = -1.0
        """Time of the last restart of the store with more data lost than the loss window allows."""
        self.lost_all_topics = False
        """True if all topics were created again: no process may know an admitted run."""
        self._make_registry = make_registry or _registry
        site = self._site()
        counts = {"agency": random.choice((1, 2)), "taskgroup": random.choice((1, 2, 2, 3)), "eventmanager": 1}
        if has_pools(str(seed)):
            counts["taskgroup"] = max(counts["taskgroup"], 2)
        self.processes = [
            Process(site, kind, number, self.edges.skew(f"{kind}-{number}"))
            for kind, count in counts.items()
            for number in range(count)
        ]
        # In these seeds, faults also strike when all runs have ended and only leftovers can go wrong.
        self._lingers = bool(self.plan.strikes) and random.random() < 0.3
        self._unsent = len(self.workload.sent)
        self._faults_stopped = False
        self._takeovers = draw_takeovers(str(seed), faults)

    def _site(self) -> Site:
        return Site(
            loop=self.loop,
            injector=self.injector,
            broker=self.broker,
            server=self.server,
            settings=_settings_of(str(self.seed), partial(self.edges.settings, self.settings)),
            ids=SeededIds(VirtualClock(self.loop), self.seed),
            make_registry=lambda process: self._make_registry(self, process),
            report=self.observer.violated,
            platform=self.platform,
            built=self._built,
        )

    def _built(self, process: str, service: Any) -> None:
        if has_pools(str(self.seed)):
            LevelWatch(process, service, self.observer.violated)

    # --- the course of a simulation ------------------------------------------------------------------

    def run(self) -> SimulationOutcome:
        """Run until all runs have ended and are cleaned up, and check the promises."""
        with invariants.errors_logged(self.observer.violated), quick_levels(str(self.seed)):
            try:
                self.loop.run_until_complete(self._main())
            except Deadlock as stuck:
                self.observer.violated(f"the simulation is deadlocked: {stuck}")
            steps, seconds = self.loop.steps, self.loop.time()
            self._tear_down()
        observer = self.observer
        for error in self.loop.errors:
            observer.violated(f"an exception was not handled: {error}")
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
        # Without this timer, a run that hangs would keep the loop busy for ever: services poll without end.
        deadline = self.loop.call_at(HORIZON + MAX_END_SECONDS, self._report_open_runs, context=OUTSIDE)
        await self._over
        deadline.cancel()
        # Faults that are still planned must not prevent the cleanup that is checked next.
        self._stop_faults()
        await self._settle()
        await invariants.check_results(self)

    def _schedule(self) -> None:
        at = partial(self.loop.call_at, context=OUTSIDE)
        for when, record in self.workload.sent:
            at(when, self._send, record)
        for when, expected in self.workload.later:
            at(max(0.0, when - RESTART_SECONDS), self._restart_some)
            at(when, self.observer.expect_again, expected)
        for when, session_id, key, value in self.workload.outside:
            at(when, self._publish, session_id, key, orjson.dumps(value))
        self.injector.rates = self.plan.rates
        timed = [strike for strike in self.plan.strikes if strike.moment is None]
        for strike in timed:
            at(strike.at, self._strike, strike, None)
        self._sudden = sorted(
            (strike for strike in self.plan.strikes if strike.moment is not None),
            key=lambda strike: strike.moment or 0,
        )
        self.injector.plan((strike.moment or 0 for strike in self._sudden), self._strike_inside)
        at(HORIZON, self._stop_faults)
        for begin, seconds in self.platform.outages if self.platform is not None else ():
            at(begin, self.cut, "platform", seconds)
        for takeover in self._takeovers:
            at(takeover.strike.at, self._take_over, takeover)
        if self.clocks.jump:
            at(self.clocks.jump_at, self._jump)
        if self.edges.loses_log:
            at(HORIZON + RESUBMIT_SECONDS, self._resubmit)

    def _all_ended(self) -> None:
        """End the simulation: all runs have ended. Some seeds continue until the last fault."""
        if not self._unsent and (not self._lingers or self._faults_stopped) and not self._over.done():
            self._over.set_result(None)

    def _report_open_runs(self) -> None:
        open_runs = [account.expected.request_id for account in self._accounts() if not account.is_over]
        self.observer.violated(f"these requests never ended: {open_runs}")
        if not self._over.done():
            self._over.set_result(None)

    def _accounts(self) -> Any:
        return self.observer.accounts.values()

    def _stop_faults(self) -> None:
        """Stop all faults, and bring stopped processes back."""
        if self._faults_stopped:
            return
        self._faults_stopped = True
        self.injector.stop()
        self.server.refusing = False
        for process in self.processes:
            process.thaw()
            process.start()
        if all(account.is_over for account in self._accounts()):
            self._all_ended()

    async def _settle(self) -> None:
        """Wait until nothing of the ended runs is left."""
        until = self.loop.time() + SETTLE_SECONDS * (4 if self.edges.may_repeat else 1)
        left = self._uncleaned()
        while left and self.loop.time() < until:
            await asyncio.sleep(POLL_SECONDS)
            left = self._uncleaned()
        for each in left:
            self.observer.violated(f"not cleaned up: {each}")

    def _uncleaned(self) -> list[str]:
        """Everything that is still held. If runs were lost, one of the two owners may hold a run until its
        deadline."""
        left = invariants.uncleaned(self)
        return [each for each in left if "open runs" not in each] if self.may_resubmit() else left

    def _tear_down(self) -> None:
        for process in self.processes:
            for incarnation in process.incarnations:
                # Tasks of dead processes can only be cancelled if their steps run again.
                self.loop.open(incarnation.gate)
        while tasks := [task for task in asyncio.all_tasks(self.loop) if not task.done()]:
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.close()

    def _appended(self, record: Incoming) -> None:
        self.observer.appended(record)
        if self.edges.snapshots is not None:
            self.shadow.appended(record)
        self.checks.appended(record)
        if self.platform is not None:
            self.platform.appended(record)

    # --- users ---------------------------------------------------------------------------------------

    def _restart_some(self) -> None:
        """Restart some services before a request id is reused, so that they know only what the store has."""
        for process in self.processes:
            if self.edges.random.random() < 0.4:
                process.kill(0.5)

    @property
    def keeps_results(self) -> bool:
        """True if values are retained beyond the end of the simulation."""
        return self.edges.result_ttl is None and not self.edges.loses_log

    @property
    def may_end_again(self) -> bool:
        """True if both the log and the store lose data, so that no process may know that a run has ended."""
        return self.edges.loses_log and self.plan.loses_store

    def may_resubmit(self) -> bool:
        """True if runs may be unknown to every process, because the log and the store lost them."""
        return self.lost_all_topics or self.may_end_again

    def _resubmit(self) -> None:
        """Submit requests again that have not ended long after their deadline, as users would."""
        if self._over.done():
            return
        for account in self._accounts():
            # A request without an admission may have been on the requests topic only, whose first records were
            # lost.
            if not account.is_over and (self.may_resubmit() or not account.admissions):
                self._append(account.expected.request)
        self.loop.call_later(RESUBMIT_SECONDS, self._resubmit, context=OUTSIDE)

    def _send(self, record: dict[str, Any]) -> None:
        name = self.settings.names.requests
        self.broker.append([Outgoing(name, None, orjson.dumps(record))], self.clock.now())
        self._unsent -= 1
        if all(account.is_over for account in self._accounts()):
            self._all_ended()

    def _append(self, record: dict[str, Any]) -> None:
        name = self.settings.names.requests
        self.broker.append([Outgoing(name, None, orjson.dumps(record))], self.clock.now())

    def _publish(self, session_id: str, key: str, value: bytes) -> None:
        """Write and announce an external value. If the store refuses it, retry a second later."""
        # Users retry, too: a value that is never set would leave its run waiting for its timeout.
        if "store" in self.injector.cut or self.server.refusing:
            self.loop.call_later(1.0, self._publish, session_id, key, value, context=OUTSIDE)
            return
        name = session_key(session_id, key)
        self.server.set(name, value, 86_400.0)
        for callback in list(self.server.channels.get(name, ())):
            for _ in range(self.injector.copies()):
                callback(value)

    def _publish_again(self) -> None:
        for when, session_id, key, value in self.workload.outside:
            if when <= self.loop.time():
                self._publish(session_id, key, orjson.dumps(value))

    # --- faults --------------------------------------------------------------------------------------

    def _strike_inside(self, process: str) -> bool:
        """Strike during an exchange of a process. Returns True if the process is killed.

        Its gate is closed at once, so that it takes no further step; the fault itself runs as a step of its own.
        """
        # Sorted by the number of the exchange, in which the injector calls back.
        strike = self._sudden.pop(0)
        victim = next(
            (each for each in self.processes if each.incarnation and each.incarnation.gate.name == process), None
        )
        if victim is not None and victim.incarnation is not None and strike.kind in ("kill", "freeze"):
            victim.incarnation.gate.is_open = False
        self.loop.call_soon(self._strike, strike, victim, context=OUTSIDE)
        return victim is not None and strike.kind == "kill"

    def _strike(self, strike: Strike, victim: Process | None) -> None:
        # The promises are checked now, and data that is lost after that would look like a violation.
        if self._over.done() and strike.kind in LOSS_STRIKES:
            return
        if victim is None:
            victim = self.processes[int(strike.victim * len(self.processes))]
        self.observer.note(f"{strike.kind} {victim.name} for {strike.seconds:.3f} s")
        _STRIKES[strike.kind](self, victim, strike)

    def _take_over(self, takeover: Takeover) -> None:
        """Strike the owner of a feature, also after the horizon of all other faults."""
        if self._over.done():
            return
        strike = takeover.strike
        processes = [each for each in self.processes if each.kind == takeover.kind]
        self._strike(strike, processes[int(strike.victim * len(processes))])

    def _jump(self) -> None:
        """Let all wall clocks jump, as those of virtual machines that were suspended. All owners are replaced: an
        owner learns the broker's time when it takes over, and its timers would be late by the jump."""
        self.observer.note(f"all clocks jump by {self.clocks.jump:g} s")
        for clock in (self.clock, *(each.clock for each in self.processes)):
            clock.skew += self.clocks.jump
        for process in self.processes:
            process.kill(1.0)

    def kill(self, process: Process, seconds: float = 1.0) -> None:
        """Kill a process from one of its own steps."""
        if process.incarnation is not None:
            process.incarnation.gate.is_open = False
        self.loop.call_soon(process.kill, seconds, context=OUTSIDE)

    def kill_owner(self, topic: str, partition: int, seconds: float) -> None:
        """Kill the process that a partition is assigned to."""
        for process in self.processes:
            incarnation = process.incarnation
            if incarnation is not None and any(each.has(topic, partition) for each in incarnation.log.memberships):
                process.kill(seconds)

    def cut(self, server: str, seconds: float) -> None:
        """Make a server unreachable for `seconds`."""
        self.injector.cut.add(server)
        self.loop.call_later(seconds, self.injector.cut.discard, server, context=OUTSIDE)

    def refuse(self, seconds: float) -> None:
        """Let the store refuse writes for `seconds`."""
        self.server.refusing = True
        self.loop.call_later(seconds, self._accept, context=OUTSIDE)

    def _accept(self) -> None:
        self.server.refusing = False

    def restart_store(self, seconds: float, *, empty: bool) -> None:
        """Restart the store, empty or with data that is a second old."""
        if empty:
            self.lost_at = self.loop.time()
            self.server.restart()
        else:
            self.server.restart_older()
        self.store_restarted(seconds)

    def store_restarted(self, seconds: float) -> None:
        """Handle a replaced store: it is unreachable for `seconds`, and users write their external values
        again."""
        self.observer.store_replaced()
        self.cut("store", seconds)
        self._publish_again()


def _settings(random: Any) -> Settings:
    return Settings(
        prefix="sim.",
        concurrency=random.choice((2, 8, 64)),
        inline_limit=random.choice((400, 65_536, 65_536)),
        partitions=PARTITIONS,
    )


def _settings_of(seed: str, settings_of: SettingsOf) -> SettingsOf:
    return running_outside(seed, pooling(seed, configuring(seed, offering(seed, settings_of))))


def _registry(world: World, process: Process) -> Registry:
    def started(task: Any) -> None:
        world.observer.started(task)
        world.checks.called(task)
        expected = world.observer.expected_of(task.run_id)
        if wrong := wrong_pool(str(world.seed), process.name, task, expected):
            world.observer.violated(wrong)
        if wrong := invariants.unclaimed_call(process, task, world.loop.time()):
            world.observer.violated(wrong)

    registry = registry_of({"work": make_agent(started, partial(world.kill, process))})
    registry = add_outside_agent(str(world.seed), registry, started)
    return add_agents(str(world.seed), registry, process, world.observer.violated)


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
    "clock": lambda world, victim, strike: setattr(victim.clock, "skew", strike.size * world.clocks.most_skew),
    "retain": lambda world, victim, strike: retain(world, strike),
    **LOSS_STRIKES,
}
