"""Shared watches: one for each resource, for all executions of an installation in a namespace."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable
from anabranch_taskgroup.worker.executors.programs.kubernetes.api import OPENED, Api
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import (
    EXPIRED,
    FORBIDDEN,
    ApiError,
    ApiUnreachable,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.labels import INSTALLATION, MANAGED_BY, MANAGER
from anabranch_taskgroup.worker.executors.programs.kubernetes.watch_view import (
    Expired,
    Resource,
    WatchFailed,
    WatchView,
)

SYNC_SECONDS = 15.0
"""How long a caller waits for the first list of a watch, or for a watch that is broken."""
FIRST_DELAY = 0.2
MAX_DELAY = 10.0
EVENTS_QUERY = {"fieldSelector": "involvedObject.kind=Job,reason=FailedCreate"}

log = logging.getLogger(__name__)


class Watch:
    """The view of one installation in one namespace, kept up to date by one task for each resource."""

    def __init__(self, api: Api, namespace: str, installation: str) -> None:
        self._api = api
        self._namespace = namespace
        self._selector = f"{MANAGED_BY}={MANAGER},{INSTALLATION}={installation}"
        self.view = WatchView(self._changed)
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._synced: dict[Resource, asyncio.Event] = {"jobs": asyncio.Event(), "pods": asyncio.Event()}
        self._failure = ""
        self._tasks = [asyncio.create_task(self._keep(each)) for each in ("jobs", "pods", "events")]

    async def synced(self) -> None:
        """Wait until the view is up to date.

        Raises:
            EngineUnavailable: it is not within some seconds.
        """
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                for event in self._synced.values():
                    await event.wait()
        except TimeoutError:
            raise EngineUnavailable(
                self._failure or f"cannot watch Jobs in namespace {self._namespace!r}: the API is slow"
            ) from None

    @asynccontextmanager
    async def changes(self, name: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the Job with this name or its pod changes."""
        event = asyncio.Event()
        self._listeners[name].add(event)
        try:
            yield event
        finally:
            self._listeners[name].discard(event)
            if not self._listeners[name]:
                del self._listeners[name]

    async def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, name: str) -> None:
        for event in self._listeners.get(name, ()):
            event.set()

    async def _keep(self, resource: Resource) -> None:
        """Keep the view of a resource up to date, until the task is cancelled."""
        delay, version = FIRST_DELAY, ""
        while True:
            try:
                version = version or await self._relist(resource)
                async with aclosing(
                    self._api.watch(resource, self._namespace, self._query(resource), version)
                ) as events:
                    async for event in events:
                        if event["type"] == OPENED:
                            delay = FIRST_DELAY
                            self._set_synced(resource)
                            continue
                        self.view.apply(resource, event)
                        version = self.view.versions[resource]
                continue
            except Expired:
                version = ""
                continue
            except (ApiError, ApiUnreachable, WatchFailed, ValueError) as error:
                if isinstance(error, ApiError) and error.status == EXPIRED:
                    version = ""
                    continue
                if resource == "events" and isinstance(error, ApiError) and error.status == FORBIDDEN:
                    log.warning("executor kubernetes: causes of Jobs without a pod are not shown: %s", error)
                    return
                if isinstance(error, ApiError) and error.retry_after:
                    delay = max(delay, error.retry_after)
                self._failed(resource, error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY)

    async def _relist(self, resource: Resource) -> str:
        items, version = await self._api.list(resource, self._namespace, self._query(resource))
        self.view.relisted(resource, items, version)
        return version

    def _set_synced(self, resource: Resource) -> None:
        if resource in self._synced:
            self._synced[resource].set()

    def _failed(self, resource: Resource, error: Exception, delay: float) -> None:
        """The view may be out of date from now on, until the watch is open again: callers wait for that."""
        if resource in self._synced:
            self._failure = str(error)
            self._synced[resource].clear()
            for name in list(self._listeners):
                self._changed(name)
        log.warning(
            "executor kubernetes: watch of %s in namespace %s is broken, continuing in %g s: %s",
            resource,
            self._namespace,
            delay,
            error,
        )

    def _query(self, resource: Resource) -> Mapping[str, str]:
        return EVENTS_QUERY if resource == "events" else {"labelSelector": self._selector}


class Watches:
    """The watches of an engine, opened when they are first needed."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._open: dict[tuple[str, str], Watch] = {}

    async def of(self, namespace: str, installation: str) -> Watch:
        """The watch of an installation's label in a namespace, up to date.

        Raises:
            EngineUnavailable: the API does not answer, or refuses.
        """
        watch = self._open.get((namespace, installation))
        if watch is None:
            watch = self._open[namespace, installation] = Watch(self._api, namespace, installation)
        await watch.synced()
        return watch

    async def close(self) -> None:
        """End all watches."""
        while self._open:
            await self._open.popitem()[1].close()
