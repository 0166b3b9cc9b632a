"""Fair shares of webhook deliveries: pending deliveries and threads for each project and endpoint.

An endpoint that does not respond holds a thread for up to ten seconds. So an endpoint whose last attempt did not
succeed gets at most one thread, all such endpoints together get a part of the threads, and each project gets a
part of both. Free threads are assigned to projects in turn, and within a project to its endpoints in turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

THREADS = 64
UNPROVEN_THREADS = 48
"""Threads of all endpoints whose last attempt did not succeed, including new endpoints."""
PROJECT_THREADS, PROJECT_UNPROVEN_THREADS = 32, 24
"""The same for one project."""
ENDPOINT_THREADS, ENDPOINT_UNPROVEN_THREADS = 4, 1
"""The same for one endpoint."""
MAX_PENDING = 20_000
"""Pending deliveries of all projects. Beyond this, projects with more than an equal share get no more."""
MAX_PENDING_OF_PROJECT = 2_000
MAX_PENDING_OF_ENDPOINT = 500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Target of deliveries: a URL that a project has subscribed. Two projects with one URL are two endpoints."""

    project: str
    url: str


class PendingShares:
    """Counts pending deliveries by project and endpoint, and refuses those beyond a share."""

    def __init__(self) -> None:
        self._projects: Counter[str] = Counter()
        self._endpoints: Counter[Endpoint] = Counter()

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Why one more delivery cannot be queued; None if it can."""
        if self._endpoints[endpoint] >= MAX_PENDING_OF_ENDPOINT:
            return f"{MAX_PENDING_OF_ENDPOINT:,} deliveries are pending for {endpoint.url}"
        of_project = self._projects[endpoint.project]
        if of_project >= MAX_PENDING_OF_PROJECT:
            return f"{MAX_PENDING_OF_PROJECT:,} deliveries of the project {endpoint.project} are pending"
        # An equal share counts only when all places are used: until then a single project may use them.
        if self._projects.total() >= MAX_PENDING and of_project >= MAX_PENDING / len(self._projects):
            return f"{MAX_PENDING:,} deliveries are pending, {of_project:,} of them of {endpoint.project}"
        return None

    def add(self, endpoint: Endpoint) -> None:
        self._projects[endpoint.project] += 1
        self._endpoints[endpoint] += 1

    def remove(self, endpoint: Endpoint) -> None:
        for counter, key in ((self._projects, endpoint.project), (self._endpoints, endpoint)):
            _decrement(counter, key)

    def has(self, endpoint: Endpoint) -> bool:
        """True if a delivery is pending for an endpoint."""
        return endpoint in self._endpoints


class ThreadShares:
    """Assigns threads to endpoints in turn.

    `is_proven`: returns whether the last attempt at an endpoint succeeded.
    """

    def __init__(self, is_proven: Callable[[Endpoint], bool]) -> None:
        self._is_proven = is_proven
        self._used: Counter[str | Endpoint | None] = Counter()
        """Threads in use: in total (None), by project, by endpoint."""
        self._unproven: Counter[str | Endpoint | None] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[Endpoint, deque[asyncio.Future[bool]]]] = OrderedDict()
        """Waiting attempts by project and endpoint.

        The order is the round robin: who got a thread goes to the end.
        """

    @asynccontextmanager
    async def thread(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Hold a thread for one attempt, after waiting for the endpoint's turn."""
        is_proven = await self._wait_for_turn(endpoint)
        try:
            yield
        finally:
            self._release(endpoint, is_proven)

    async def _wait_for_turn(self, endpoint: Endpoint) -> bool:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(endpoint.project, OrderedDict()).setdefault(endpoint, deque()).append(turn)
        self._assign_free()
        try:
            return await turn
        except asyncio.CancelledError:
            # A thread may have been assigned between the cancellation and this point: it must be released.
            if turn.done() and not turn.cancelled():
                self._release(endpoint, turn.result())
            else:
                self._leave_queue(endpoint, turn)
            raise

    def _release(self, endpoint: Endpoint, is_proven: bool) -> None:
        for key in (None, endpoint.project, endpoint):
            _decrement(self._used, key)
            if not is_proven:
                _decrement(self._unproven, key)
        self._assign_free()

    def _leave_queue(self, endpoint: Endpoint, turn: asyncio.Future[bool]) -> None:
        waiting = self._waiting[endpoint.project][endpoint]
        waiting.remove(turn)
        self._drop_empty(endpoint)

    def _assign_free(self) -> None:
        """Assign each free thread to the next endpoint in turn below its limits."""
        while (endpoint := next(self._eligible(), None)) is not None:
            is_proven = self._is_proven(endpoint)
            # The waiter gets `is_proven` too: the endpoint's state may change meanwhile, and its release has to be
            # counted like this.
            self._waiting[endpoint.project][endpoint].popleft().set_result(is_proven)
            for key in (None, endpoint.project, endpoint):
                self._used[key] += 1
                self._unproven[key] += not is_proven
            self._waiting[endpoint.project].move_to_end(endpoint)
            self._waiting.move_to_end(endpoint.project)
            self._drop_empty(endpoint)

    def _eligible(self) -> Iterator[Endpoint]:
        if self._used[None] >= THREADS:
            return
        for project, endpoints in self._waiting.items():
            if self._used[project] < PROJECT_THREADS:
                yield from (endpoint for endpoint in endpoints if self._may_get_thread(endpoint))

    def _may_get_thread(self, endpoint: Endpoint) -> bool:
        if self._is_proven(endpoint):
            return self._used[endpoint] < ENDPOINT_THREADS
        return (
            self._used[endpoint] < ENDPOINT_UNPROVEN_THREADS
            and self._unproven[endpoint.project] < PROJECT_UNPROVEN_THREADS
            and self._unproven[None] < UNPROVEN_THREADS
        )

    def _drop_empty(self, endpoint: Endpoint) -> None:
        endpoints = self._waiting[endpoint.project]
        if not endpoints[endpoint]:
            del endpoints[endpoint]
        if not endpoints:
            del self._waiting[endpoint.project]


def _decrement(counter: Counter, key: object) -> None:  # type: ignore[type-arg]
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
