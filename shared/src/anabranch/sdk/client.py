"""The client: submits requests over Kafka and hands back runs to wait for.

Entering its context connects to the configured servers, or uses the given ports. Inside an agent of an embedded
system, if no servers are configured, it uses that system. It validates before it sends, so an invalid request
raises here with every error; the Agency then accepts or rejects the request.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import orjson

from anabranch.core.errors import Misconfigured
from anabranch.core.names import Names, run_id_for
from anabranch.core.project import project_named
from anabranch.core.request.admission import Limits, read_request
from anabranch.core.request.graph import SessionKeys
from anabranch.core.request.models import Request
from anabranch.core.request.request_hash import body_hash
from anabranch.ports import Clock, EventLog, Ids, Notifier, Outgoing, StateStore
from anabranch.runtime.instrumentation.correlation import trace_headers
from anabranch.runtime.process.resources import Resources, connect
from anabranch.runtime.process.settings import Settings, servers_named
from anabranch.runtime.process.topics import ensure_topics
from anabranch.sdk.control import retry, send_control
from anabranch.sdk.local_system import LocalSystem, local_system
from anabranch.sdk.request_file import read_document
from anabranch.sdk.run import Run
from anabranch.sdk.watch import ResultsWatcher

Control = Literal["cancel", "pause", "resume", "redrive", "dismiss"]

FRESH_SECONDS = 30.0
"""How old the known end of the events topic may be when a run is submitted."""


@dataclass(frozen=True, slots=True)
class ClientPorts:
    """The ports that a client works over."""

    log: EventLog
    store: StateStore
    notifier: Notifier
    names: Names
    clock: Clock
    ids: Ids


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
        self._ends: Mapping[int, int] = {}
        self._ends_at = float("-inf")

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """A client on the servers that the settings name."""
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
        """A client over ports that somebody else owns and closes: embedded, and in tests."""
        client = cls()
        client._links = ClientPorts(log, store, notifier, names, clock, ids)
        client._limits = limits or Limits()
        return client

    async def __aenter__(self) -> Self:
        """Connect where there are no ports yet.

        Raises:
            ServerUnavailable: a server does not answer.
            Misconfigured: a setting is wrong.
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

    # the ports, for what works on behalf of the client --------------------------------------------------

    @property
    def links(self) -> ClientPorts:
        """Raises Misconfigured where the client is not open."""
        if self._links is None or self._watcher is None:
            raise Misconfigured("client", "it is not open", "use it inside `async with Client(...) as client`")
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

    # submitting -----------------------------------------------------------------------------------------

    async def submit(
        self,
        request: Request | Mapping[str, Any] | str | Path,
        *,
        agents: Collection[str] | None = None,
        traceparent: str | None = None,
    ) -> Run:
        """Validate a request, publish it and return its run. The same request id twice gives the same run.

        Args:
            request: a `Request`, a document (also in the compatibility envelope), or the path of a JSON or
                YAML file.
            agents: names that are known to exist; others are refused. Without it no agent is unknown here.
            traceparent: W3C trace context, carried through to all records of the run; by default that of the
                OpenTelemetry span which this code runs within, if any.

        Raises:
            RequestRefused: with every error; nothing was sent.
            ServerUnavailable: the request could not be published, or the store not be asked.
        """
        document = read_document(Path(request)) if isinstance(request, (str, Path)) else request
        reading = read_request(
            document, limits=self._limits, agents=agents, session_keys=session_keys_of(document)
        )
        links = self.links
        canonical = reading.required().to_document()
        request_id = canonical.setdefault("request_id", links.ids.run_scoped())
        run_id = run_id_for(request_id)
        session_id = canonical.get("session_id", run_id)
        project = project_named(canonical)
        run = await self.watch(run_id, request_id, session_id, body_hash(canonical), reading.warnings, project)
        headers = {"content-type": b"application/json"}
        sent = trace_headers() if traceparent is None else {"traceparent": traceparent}
        headers |= {name: value.encode() for name, value in sent.items()}
        await links.log.publish([Outgoing(links.names.requests, request_id, orjson.dumps(canonical), headers)])
        return run

    async def run(self, run_or_request_id: str) -> Run:
        """A run that was submitted before, by its run id or its request id. Its events are read from the
        beginning of the topic.

        Raises:
            ServerUnavailable: a server does not answer.
        """
        links = self.links
        run_id = await self.run_id_of(run_or_request_id)
        await self._started()
        request_id = None if run_id == run_or_request_id else run_or_request_id
        watch = await self._open_watcher().watch(run_id, request_id, None)
        stored = await links.store.get([links.names.run_lookup(run_id)])
        session_id = stored[0].decode() if stored[0] is not None else None
        return Run(self, watch, session_id, "earliest")

    async def run_id_of(self, run_or_request_id: str) -> str:
        """The run id of what may be a run id or a request id: what is known as a run is one.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        derived = run_id_for(run_or_request_id)
        names = self.names
        as_run, as_request = await self.store.get([names.tombstone(run_or_request_id), names.tombstone(derived)])
        if as_run is None and (as_request is not None or not _looks_like_run_id(run_or_request_id)):
            return derived
        return run_or_request_id

    async def retry(self, run_or_request_id: str, *, request_id: str | None = None) -> Run:
        """Start a run that takes over every result of one that did not complete, and runs the rest again.

        Args:
            request_id: of the new run; the same one twice starts one run. Without it, a fresh one.

        Raises:
            RequestRefused: the run is not known, is still open or completed, or the request id is taken.
            ServerUnavailable: a server does not answer.
        """
        return await retry(self, run_or_request_id, request_id or self.links.ids.run_scoped())

    async def control(
        self, action: Control, *, run_id: str | None = None, request_id: str | None = None, **more: Any
    ) -> None:
        """Publish a control record for a run; `more` are further fields of it.

        Raises:
            RequestRefused: that is no control record.
            ServerUnavailable: it could not be published.
        """
        await send_control(self.links, {"type": action, "run_id": run_id, "request_id": request_id, **more})

    async def watch(
        self,
        run_id: str,
        request_id: str,
        session_id: str,
        request_hash: str | None,
        warnings: tuple[str, ...] = (),
        project: str | None = None,
    ) -> Run:
        """A run that is about to be asked for, so that nothing of it is missed; see `RunWatch` for the hash."""
        await self._started()
        watch = await self._open_watcher().watch(run_id, request_id, request_hash, project)
        start: int | Literal["earliest"] = "earliest"
        if not watch.final.done():  # else its events lie behind, maybe far
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
        """Where the events topic ended a moment ago: no event of a run submitted now lies before it."""
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
    """Run ids are UUIDs made from a name; request ids that nobody chose are of another version."""
    try:
        return UUID(text).version == 5
    except ValueError:
        return False


def session_keys_of(document: Any) -> SessionKeys:
    """Which keys the session has from earlier runs is not known here: where one is named, any might be."""
    session_id = document.session_id if isinstance(document, Request) else _named_session(document)
    return (lambda _key: True) if session_id else ()


def _named_session(document: Any) -> Any:
    if not isinstance(document, Mapping):
        return None
    inner = document.get("object") if "task_groups" not in document else None
    return document.get("session_id") or (inner.get("session_id") if isinstance(inner, Mapping) else None)
