"""The client: submits requests over Kafka and returns runs to wait for.

Opening it connects to the configured servers, or uses the given ports. Inside an agent of an embedded system, if
no servers are configured, it uses that system. It validates a request before publishing it, so an invalid request
raises an error with every problem; the Agency then accepts or rejects the request.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import orjson

from anabranch.core.backlog import MEMBER_SECONDS, backlog_document, pool_backlog
from anabranch.core.errors import Misconfigured
from anabranch.core.names import Names, run_id_for
from anabranch.core.project import project_named
from anabranch.core.request.admission import Limits, read_request
from anabranch.core.request.definitions import (
    Definition,
    is_definition_request,
    read_definition,
    read_definition_request,
)
from anabranch.core.request.graph import SessionKeys
from anabranch.core.request.models import Request
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.worker_card import agents_of
from anabranch.ports import Clock, EventLog, Ids, Notifier, Outgoing, StateStore
from anabranch.runtime.instrumentation.correlation import trace_headers
from anabranch.runtime.process.resources import Resources, connect
from anabranch.runtime.process.settings import Settings, servers_named
from anabranch.runtime.process.topics import ensure_topics
from anabranch.runtime.reading.definitions import DefinitionTable
from anabranch.runtime.reading.workers import live_workers
from anabranch.sdk.client_ports import ClientPorts
from anabranch.sdk.control import fork, retry, send_control
from anabranch.sdk.local_system import LocalSystem, local_system
from anabranch.sdk.request_file import read_document
from anabranch.sdk.run import Run
from anabranch.sdk.schedules import Schedules
from anabranch.sdk.watch import ResultsWatcher

Control = Literal["cancel", "terminate", "pause", "resume", "redrive", "dismiss", "signal", "approve"]

FRESH_SECONDS = 30.0
"""Maximum age of the cached end offsets of the events topic. Older offsets are correct too, but make a run's
events start further back."""


class Client:
    """Submits requests and follows runs. Use it as `async with Client(...) as client`.

    Args:
        brokers, redis_url, prefix: as `ANABRANCH_BROKERS`, `ANABRANCH_REDIS_URL`, `ANABRANCH_PREFIX`, which
            are the defaults. If neither these nor the environment configure servers, a client inside an embedded
            system (`anabranch dev`, `run --embedded`, `anabranch.testing`) uses that system.
        settings: any other setting by its name; see the configuration reference.
    """

    def __init__(
        self,
        brokers: str | None = None,
        redis_url: str | None = None,
        prefix: str | None = None,
        **settings: Any,
    ) -> None:
        self._options = {"brokers": brokers, "redis_url": redis_url, "prefix": prefix, **settings}
        self._settings: Settings | None = None
        self._links: ClientPorts | None = None
        self._owned: Resources | None = None
        self._is_local = False
        self._limits = Limits()
        self._watcher: ResultsWatcher | None = None
        self._definitions: DefinitionTable | None = None
        self._ends: Mapping[int, int] = {}
        self._ends_at = float("-inf")

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """A client on the servers of the settings."""
        client = cls()
        client._settings = settings
        return client

    @classmethod
    def over(
        cls,
        log: EventLog,
        store: StateStore,
        notifier: Notifier,
        names: Names,
        clock: Clock,
        ids: Ids,
        limits: Limits | None = None,
    ) -> Self:
        """A client over ports that the caller owns and closes: for embedded systems and tests."""
        client = cls()
        client._links = ClientPorts(log, store, notifier, names, clock, ids)
        client._limits = limits or Limits()
        return client

    async def __aenter__(self) -> Self:
        """Connect, unless ports were given.

        Raises:
            ServerUnavailable: a server does not answer.
            Misconfigured: a setting is invalid.
        """
        if self._links is None and (local := self.local()) is not None:
            self._limits, self._links, self._is_local = local.limits, local.links_here(), True
        if self._links is None:
            settings = self._settings or Settings.load(overrides=self._options)
            self._limits = Limits(settings.request_limit, settings.members_limit, settings.inline_limit)
            self._owned = owned = await _on_servers(settings)
            self._links = ClientPorts(owned.log, owned.store, owned.notifier, owned.names, owned.clock, owned.ids)
        links = self._links
        self._watcher = ResultsWatcher(links.log, links.store, links.names, links.clock)
        return self

    async def __aexit__(self, *_: object) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.close()
        owned, self._owned = self._owned, None
        if owned is not None or self._is_local:
            self._links = None
        if owned is not None:
            await owned.close()

    def local(self) -> LocalSystem | None:
        """The embedded system that this client uses; None if servers are configured or no system runs."""
        is_given = self._links is not None or self._settings is not None
        if is_given or any(value is not None for value in self._options.values()) or servers_named(os.environ):
            return None
        return local_system()

    # ports, for code that works on behalf of the client -------------------------------------------------

    @property
    def links(self) -> ClientPorts:
        """The ports of the open client. Raises Misconfigured if the client is not open."""
        if self._links is None or self._watcher is None:
            raise Misconfigured("client", "the client is not open", "use `async with Client(...) as client`")
        return self._links

    @property
    def log(self) -> EventLog:
        return self.links.log

    @property
    def store(self) -> StateStore:
        return self.links.store

    @property
    def names(self) -> Names:
        return self.links.names

    @property
    def definitions(self) -> DefinitionTable:
        """The definitions of the installation."""
        if self._definitions is None:
            self._definitions = DefinitionTable(self.log, self.names)
        return self._definitions

    # submissions -----------------------------------------------------------------------------------------

    async def submit(
        self,
        request: Request | Mapping[str, Any] | str | Path,
        *,
        agents: Collection[str] | None = None,
        traceparent: str | None = None,
    ) -> Run:
        """Validate a request, publish it and return its run. A repeated request id returns the same run.

        Args:
            request: a `Request`, a document (also in the compatibility envelope), or the path of a JSON or
                YAML file.
            agents: names of the existing agents; a request with other names is refused. None: names of agents are
                not checked here.
            traceparent: W3C trace context for all records of the run; by default that of the current OpenTelemetry
                span, if any.

        Raises:
            RequestRefused: the request is invalid, with every error; nothing was published.
            ServerUnavailable: the request could not be published, or the store could not be read.
        """
        document = read_document(Path(request)) if isinstance(request, (str, Path)) else request
        if is_definition_request(document):
            assert isinstance(document, Mapping)
            started = read_definition_request(document).to_document()
            return await self._publish(started, (), traceparent)
        validated = read_request(
            document, limits=self._limits, agents=agents, session_keys=session_keys_of(document)
        )
        return await self._publish(validated.required().to_document(), validated.warnings, traceparent)

    async def _publish(self, canonical: dict[str, Any], warnings: tuple[str, ...], traceparent: str | None) -> Run:
        """Publish the canonical document of a request, and watch its run."""
        links = self.links
        request_id = canonical.setdefault("request_id", links.ids.run_scoped())
        run_id = run_id_for(request_id)
        session_id = canonical.get("session_id", run_id)
        project = project_named(canonical)
        # Before the request is published, so that no record of the run is missed.
        run = await self.watch(run_id, request_id, session_id, body_hash(canonical), warnings, project)
        headers = {"content-type": b"application/json"}
        sent = trace_headers() if traceparent is None else {"traceparent": traceparent}
        headers |= {name: value.encode() for name, value in sent.items()}
        await links.log.publish([Outgoing(links.names.requests, request_id, orjson.dumps(canonical), headers)])
        return run

    async def run(
        self,
        run_or_request_id: str | None = None,
        *,
        definition: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Run:
        """An earlier run, by its run id or its request id, with events from the beginning of the topic; or a new
        run of a definition.

        Args:
            definition: `name` or `name@version`: submits it with `inputs`, and with further `fields` of the
                request (`request_id`, `session_id`, `project`, `name`, `labels`, `timeout`).

        Raises:
            RequestRefused: a field of the new run is invalid.
            ServerUnavailable: a server does not answer.
        """
        if definition is not None:
            return await self.submit({**fields, "definition": definition, "input": dict(inputs or {})})
        if run_or_request_id is None:
            raise TypeError("run() needs a run id, or a definition")
        links = self.links
        run_id = await self.run_id_of(run_or_request_id)
        await self._started()  # before the store is read: a run that ends in between is reported by the topic
        request_id = None if run_id == run_or_request_id else run_or_request_id
        watch = await self._open_watcher().watch(run_id, request_id, None)
        stored = await links.store.get([links.names.run_lookup(run_id)])
        session_id = stored[0].decode() if stored[0] is not None else None
        return Run(self, watch, session_id, "earliest")

    async def run_id_of(self, run_or_request_id: str) -> str:
        """The run id for a run id or a request id. An id that the store knows as a run id is a run id.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        derived = run_id_for(run_or_request_id)
        names = self.names
        as_run, as_request = await self.store.get([names.tombstone(run_or_request_id), names.tombstone(derived)])
        if as_run is None and (as_request is not None or not _looks_like_run_id(run_or_request_id)):
            return derived
        return run_or_request_id

    @property
    def schedules(self) -> Schedules:
        """The schedules of the installation."""
        return Schedules(self.links)

    async def push_definition(self, document: Any, *, project: str | None = None) -> Definition:
        """Store a version of a definition, which never changes; the same content may be pushed again.

        Args:
            document: `{name, version, input_schema, request}`, or the path of a JSON or YAML file with it. Without
                a version it gets the next number.

        Raises:
            RequestRefused: it is invalid, or the version exists with another content.
            ServerUnavailable: the log is not available.
        """
        if isinstance(document, (str, Path)):
            document = read_document(Path(document))
        return await self.definitions.push(read_definition(document, project, self.links.clock.now()))

    async def retry(
        self,
        run_or_request_id: str,
        *,
        request_id: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> Run:
        """Start a run that imports the results of a run that did not complete, and runs the rest again.

        Args:
            request_id: request id of the new run. A repeated id does not start a second run. None: a new id.
            by, reason: who asks for it, and why; its first event shows them.

        Raises:
            RequestRefused: there is no such run, it is still open or completed, or the request id was used before.
            ServerUnavailable: a server does not answer.
        """
        return await retry(self, run_or_request_id, request_id or self.links.ids.run_scoped(), by, reason)

    async def fork(
        self,
        run_or_request_id: str,
        *,
        tasks: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> Run:
        """Start a run that takes over what an ended run has, except what depends on a change.

        Args:
            tasks: the tasks to run again, as `task` or `group/task`.
            values: values that replace those of the context.
            request: a request in place of that of the run: its tasks with the same definition are taken over.
            request_id: request id of the new run. A repeated id does not start a second run. None: a new id.
            by: who forks the run.
            reason: why; shown with the new run.

        Raises:
            RequestRefused: there is no such run, it is still open, or nothing is to be run again.
            ServerUnavailable: a server does not answer.
        """
        fork_id = request_id or self.links.ids.run_scoped()
        return await fork(self, run_or_request_id, fork_id, tasks, values or {}, request, by, reason)

    async def control(
        self, action: Control, *, run_id: str | None = None, request_id: str | None = None, **more: Any
    ) -> None:
        """Publish a control record for a run. `more`: further fields of the record, such as `by` and `reason`.

        Raises:
            RequestRefused: the fields are not a valid control record.
            ServerUnavailable: the record could not be published.
        """
        await send_control(self.links, {"type": action, "run_id": run_id, "request_id": request_id, **more})

    async def set_breaker(
        self, agent: str, action: Literal["open", "close"], *, by: str | None = None, reason: str | None = None
    ) -> None:
        """Open the breaker of an agent until it is closed, or close it. While it is open, members of the agent
        wait.

        Raises:
            RequestRefused: the fields are not a valid control record.
            ServerUnavailable: the record could not be published.
        """
        fields = {"type": "breaker", "name": agent, "action": action, "by": by, "reason": reason}
        await send_control(self.links, fields)

    async def publish(
        self,
        name: str,
        key: str | float = "",
        data: Any = None,
        *,
        id: str | None = None,
        ttl: float | str | None = None,
        deliver: Literal["all", "one"] | None = None,
        project: str | None = None,
    ) -> str:
        """Publish an event: each run of the project with a task that waits for its name and key gets it, now or
        later. Returns the id of the event.

        Args:
            key: the correlation key, such as the id of an order. A number is its text.
            data: any JSON value; it is the value of the tasks.
            id: a repeated id is the same event, for seven days; by default each call has one of its own.
            ttl: how long it is kept for tasks that wait later, in seconds or as "15m"; by default 24 h.
            deliver: with "one", one run gets it, the one that has waited longest.

        Raises:
            RequestRefused: the name, the key or the time is invalid.
            ServerUnavailable: the event could not be published.
        """
        event_id = id or self.links.ids.run_scoped()
        record = {"type": "event", "name": name, "key": key, "id": event_id, "data": data}
        await send_control(self.links, {**record, "ttl": ttl, "deliver": deliver, "project": project})
        return event_id

    async def workers(self) -> list[dict[str, Any]]:
        """The live workers: `id`, `host`, `pid`, `version`, `pool`, `slots`, `load`, `agents` and more, as
        `anabranch workers --json` shows them.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        return [each.to_document() for each in await live_workers(self.store, self.names)]

    async def backlog(self) -> dict[str, Any]:
        """What is left to do in each pool, by level, with its workers and slots, for an autoscaler.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        return backlog_document(await live_workers(self.store, self.names))

    async def pool_backlog(self, pool: str, member_seconds: float = MEMBER_SECONDS) -> dict[str, Any] | None:
        """What is left to do in one pool, with `work_seconds` and `worker_seconds`; None if no TaskGroup lives,
        because nobody knows then what is left.

        Args:
            member_seconds: assumed duration of a member of a task of which none has ended yet.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        return pool_backlog(await live_workers(self.store, self.names), pool, member_seconds)

    async def agents(self) -> list[dict[str, Any]]:
        """The agents of the live workers: `name`, `version`, `capabilities`, `schema`, `workers` and more, as
        `anabranch agents --json` shows them.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        return agents_of(await live_workers(self.store, self.names))

    async def watch(
        self,
        run_id: str,
        request_id: str,
        session_id: str,
        request_hash: str | None,
        warnings: tuple[str, ...] = (),
        project: str | None = None,
    ) -> Run:
        """Watch a run before its request is published, so that no event is missed. See `RunWatch` for the hash."""
        await self._started()
        watch = await self._open_watcher().watch(run_id, request_id, request_hash, project)
        start: int | Literal["earliest"] = "earliest"
        if not watch.final.done():  # a run that has ended may have its events anywhere in the topic
            partition = await self.log.partition_for(self.names.events, run_id)
            start = (await self._event_ends()).get(partition, 0)
        else:
            warnings = (*warnings, *had_ended(request_id, watch.final.result()))
        return Run(self, watch, session_id, start, warnings)

    async def _started(self) -> None:
        await self._open_watcher().start()

    def _open_watcher(self) -> ResultsWatcher:
        _ = self.links
        assert self._watcher is not None  # as `links` has checked
        return self._watcher

    async def _event_ends(self) -> Mapping[int, int]:
        """Recent end offsets of the events topic. No event of a run that is submitted now has a lower offset."""
        now = self.links.clock.monotonic()
        if now - self._ends_at > FRESH_SECONDS:
            async with self.log.read(self.names.events) as reader:
                self._ends = await reader.end_offsets()
            self._ends_at = now
        return self._ends


async def _on_servers(settings: Settings) -> Resources:
    resources = await connect(settings)
    try:
        await ensure_topics(resources.log, settings)
    except BaseException:
        await resources.close()
        raise
    return resources


def had_ended(request_id: str, final: Mapping[str, Any]) -> tuple[str, ...]:
    """The warning for a submit of a request that had already ended; empty for a refused request."""
    status = str(final["status"])
    if status == "rejected":
        return ()
    return (f"request {request_id!r} had already ended ({status}): this is its result, nothing ran again",)


def _looks_like_run_id(text: str) -> bool:
    """True for a UUID of version 5, as run ids are. Generated request ids have another version."""
    try:
        return UUID(text).version == 5
    except ValueError:
        return False


def session_keys_of(document: Any) -> SessionKeys:
    """Keys that the session has from earlier runs. The client does not know them: with a session id, assume
    any."""
    session_id = document.session_id if isinstance(document, Request) else _named_session(document)
    return (lambda _key: True) if session_id else ()


def _named_session(document: Any) -> Any:
    if not isinstance(document, Mapping):
        return None
    inner = document.get("object") if "task_groups" not in document else None
    return document.get("session_id") or (inner.get("session_id") if isinstance(inner, Mapping) else None)
