"""Decides in a trial which tasks begin, which are skipped, and when groups and the run have ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from anabranch.core.forecast.draws import Draws
from anabranch.core.forecast.path import Link
from anabranch.core.forecast.work import Need, Work, WorkTask


class State(Enum):
    """The state of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


_OPEN = frozenset({State.WAITING, State.RUNNING})


class Flow:
    """The states of all tasks. A node is a task, or the end of a loop, see `Work`."""

    def __init__(self, work: Work, draws: Draws) -> None:
        self._work = work
        self._draws = draws
        count = len(work.tasks)
        self._sources: list[tuple[int, ...]] = [task.sources for task in work.tasks]
        self._sources += [work.end_sources[loop] for loop in sorted(work.ends, key=work.ends.__getitem__)]
        self._loop_of_end = {end: loop for loop, end in work.ends.items()}
        self._dependents: list[list[int]] = [[] for _ in self._sources]
        for node, sources in enumerate(self._sources):
            for source in sources:
                self._dependents[source].append(node)
        self._left = [len(sources) for sources in self._sources]
        self.states = [State.WAITING] * count
        self._links: list[Link | None] = [None] * len(self._sources)
        self._before: list[Link | None] = [None] * len(self._sources)
        self._ready_at = [0.0] * len(self._sources)
        self._chosen: dict[int, int] = {}
        self._iterations: dict[int, int] = {}
        """Of each running loop, those that are left with the running one."""
        self._broken: set[int] = set()
        """Loops of which a task of the running iteration has failed."""
        self._pauses: list[tuple[int, float]] = []
        self._to_cancel: list[int] = []
        self._completed = [0] * len(work.groups)
        self._open = len(self._sources)
        self._stopped_groups: set[int] = set()
        self.has_failed = False
        self.ended_at = 0.0
        self.last: Link | None = None

    @property
    def is_over(self) -> bool:
        """True if all tasks have ended."""
        return self._open == 0

    def start(self) -> list[int]:
        """Begin the tasks that wait for nothing; returns those that run members."""
        return self._settle([node for node, left in enumerate(self._left) if left == 0], 0.0)

    def end(self, index: int, state: State, now: float, blocked: Mapping[str, float]) -> list[int]:
        """A task has ended; returns the tasks that begin to run members."""
        if self.states[index] not in _OPEN:
            return []
        self._finish(index, state, now, blocked)
        return self._settle(self._released(index), now)

    def take_cancelled(self) -> list[int]:
        """The tasks that are to be cancelled since the last call."""
        found, self._to_cancel = self._to_cancel, []
        return found

    def take_pauses(self) -> list[tuple[int, float]]:
        """The loops whose next iteration begins at a later time, since the last call."""
        found, self._pauses = self._pauses, []
        return found

    def wins(self, index: int, completed_members: int) -> bool:
        """True if the completed members of a task decide the race of its group, of which it is the only task."""
        group = self._work.groups[self._work.tasks[index].group]
        return group.need is not None and len(group.tasks) == 1 and completed_members >= group.need

    def time_out(self, group: int, now: float) -> list[int]:
        """The timeout of a group is over; returns the tasks to cancel."""
        found = self._open_tasks(group)
        if found:
            self.has_failed = True
            self._stopped_groups.add(group)
        return found

    # --- order -------------------------------------------------------------------------------------

    def _settle(self, nodes: list[int], now: float) -> list[int]:
        """Decide about nodes whose sources have all ended, and those that follow; returns the tasks to run."""
        begun: list[int] = []
        stack = list(reversed(nodes))
        while stack:
            node = stack.pop()
            if node in self._loop_of_end:
                stack += self._end_of_iteration(node, now)
                continue
            task = self._work.tasks[node]
            if self.states[node] is not State.WAITING:
                continue
            self._ready_at[node] = now
            state = self._decided(task)
            if state is State.RUNNING:
                self.states[node] = state
                if task.kind == "loop":
                    stack += self._begin_loop(node)
                else:
                    begun.append(node)
                continue
            self._finish(node, state, now, {})
            stack += self._released(node)
        return begun

    def _decided(self, task: WorkTask) -> State:
        if task.group in self._stopped_groups:
            return State.CANCELLED
        if self._is_skipped(task):
            return State.SKIPPED
        if task.kind == "switch":
            self._chosen[task.index] = self._choose(task)
            return State.COMPLETED
        return State.RUNNING

    def _is_skipped(self, task: WorkTask) -> bool:
        if task.loop is not None and self.states[task.loop] is not State.RUNNING:
            return True
        if task.branch is not None and self._chosen.get(task.branch[0], -1) != task.branch[1]:
            return True
        if not all(self._is_met(need) for need in task.needs):
            return True
        return task.skip_rate > 0 and self._draws.unit() < task.skip_rate

    def _is_met(self, need: Need) -> bool:
        return any(self.states[each.task].value in each.ends for each in need)

    def _choose(self, task: WorkTask) -> int:
        unit = self._draws.unit()
        for case, chance in enumerate(task.chances):
            if unit < chance:
                return case
            unit -= chance
        return -1

    def _released(self, node: int) -> list[int]:
        """The nodes that waited for this one last."""
        found = []
        for dependent in self._dependents[node]:
            self._left[dependent] -= 1
            if self._left[dependent] == 0:
                self._before[dependent] = self._links[node]
                found.append(dependent)
        return found

    def _finish(self, index: int, state: State, now: float, blocked: Mapping[str, float]) -> None:
        task = self._work.tasks[index]
        was_waiting = self.states[index] is State.WAITING
        self.states[index] = state
        before = self._before[index]
        if state is State.SKIPPED or was_waiting:
            self._links[index] = before  # it took no time
        else:
            self._links[index] = Link(index, self._ready_at[index], now, before, blocked)
        if task.kind != "loop" or state is not State.COMPLETED:
            self._count(task, state)
        self._close(index, now)

    def _close(self, node: int, now: float) -> None:
        self._open -= 1
        if now >= self.ended_at:
            self.ended_at = now
            self.last = self._links[node] or self.last

    # --- groups ------------------------------------------------------------------------------------

    def _count(self, task: WorkTask, state: State) -> None:
        """What the end of a task means for its loop, its group and the run."""
        group = self._work.groups[task.group]
        if state is State.FAILED and not task.handles_failure:
            if task.loop is not None:
                self._broken.add(task.loop)
            else:
                self.has_failed = True
            if group.fail_fast:
                self._stop(task.group)
        if state is State.COMPLETED and group.need is not None and len(group.tasks) > 1:
            self._completed[task.group] += 1
            if self._completed[task.group] == group.need:
                self._stop(task.group)

    def _stop(self, group: int) -> None:
        self._stopped_groups.add(group)
        self._to_cancel += self._open_tasks(group)

    def _open_tasks(self, group: int) -> list[int]:
        return [
            index
            for index in self._work.groups[group].tasks
            if self.states[index] is State.RUNNING and self._work.tasks[index].kind != "loop"
        ]

    # --- loops -------------------------------------------------------------------------------------

    def _begin_loop(self, loop: int) -> list[int]:
        """The begin of a loop, which its body waits for; its end follows from that of the body."""
        self._iterations[loop] = round(self._work.tasks[loop].iterations.draw(self._draws))
        self._broken.discard(loop)
        self._links[loop] = self._before[loop]
        if self._iterations[loop] <= 0:
            self.states[loop] = State.COMPLETED  # so its body is skipped
        self._open -= 1
        return self._released(loop)

    def _end_of_iteration(self, end: int, now: float) -> list[int]:
        """All tasks of an iteration have ended: returns the nodes that are ready now."""
        loop = self._loop_of_end[end]
        task = self._work.tasks[loop]
        if self.states[loop] is State.RUNNING:
            self._iterations[loop] -= 1
            goes_on = self._iterations[loop] > 0 and loop not in self._broken
            if goes_on and task.group not in self._stopped_groups:
                if task.delay > 0:
                    self._pauses.append((loop, now + task.delay))
                    return []
                return self._reset(loop, self._before[end])
            failed = loop in self._broken
            self.states[loop] = State.FAILED if failed else State.COMPLETED
            self._count(task, self.states[loop])
        self._links[end] = self._before[end]
        self._close(end, now)
        return self._released(end)

    def iterate(self, loop: int, now: float) -> list[int]:
        """Begin the next iteration of a loop after its delay; returns the tasks to run."""
        return self._settle(self._reset(loop, self._before[self._work.ends[loop]]), now)

    def _reset(self, loop: int, before: Link | None) -> list[int]:
        """Let the tasks of a loop wait again; returns those that wait for nothing of the body."""
        body = self._work.bodies[loop]
        nodes = {*body, *(self._work.ends[each] for each in body if each in self._work.ends)}
        for index in body:
            self.states[index] = State.WAITING
        for node in nodes:
            self._left[node] = sum(source in nodes for source in self._sources[node])
        end = self._work.ends[loop]
        self._left[end] = sum(source in nodes for source in self._sources[end])
        self._open += len(nodes)
        ready = [node for node in sorted(nodes) if self._left[node] == 0]
        for node in ready:
            self._before[node] = before
        return ready
