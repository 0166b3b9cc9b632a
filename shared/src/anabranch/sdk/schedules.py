"""Schedules of an installation, for clients: put, controlled and read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from anabranch.core.errors import Code, Problem, RequestRefused, ServerUnavailable
from anabranch.core.json_documents import dumps
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.admission import DEFAULT_LIMITS, Limits
from anabranch.core.schedules.addresses import schedule_address
from anabranch.core.schedules.control import ScheduleControl, read_schedule_control
from anabranch.core.schedules.reading import read_schedule
from anabranch.core.schedules.views import shown
from anabranch.ports import Outgoing
from anabranch.runtime.reading.schedules import load_schedule, load_schedules
from anabranch.sdk.client_ports import ClientPorts

LOOK_SECONDS = 0.05
WAIT_SECONDS = 5.0
"""Seconds for which a call waits until the owner of the schedule has applied it."""

View = Mapping[str, Any]


class Schedules:
    """The schedules that a client can reach.

    A view is `{id, project, schedule, paused, fired, missed, next, running, waiting, history}`, with times as RFC
    3339.
    """

    def __init__(self, links: ClientPorts) -> None:
        self._links = links

    async def put(
        self,
        document: Mapping[str, Any],
        *,
        by: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        agents: Collection[str] | None = None,
    ) -> View:
        """Store a schedule, in place of one with the same id.

        Args:
            limits: limits on its request.
            agents: names that its request may use; None if they are not known here.

        Raises:
            RequestRefused: it is invalid, or its id belongs to another project.
            ServerUnavailable: a server does not answer, or the Agency has refused the schedule.
        """
        # Read by itself first: paths of problems then point into it, and not into a control record.
        schedule = read_schedule(document, limits=limits, agents=agents).to_document()
        record = {"type": "schedule", "action": "put", "schedule": schedule, "by": by}
        control = read_schedule_control(record, limits=limits)
        await self._check_owner(control)
        await self._send(control)
        view = await self._until(
            control.id, lambda found: found is not None and found["schedule"] == control.schedule
        )
        if view is None or view["schedule"] != control.schedule:
            why = f"it has not applied the schedule {control.id!r} within {WAIT_SECONDS:g} s"
            hint = "check that an Agency runs, and if it has refused the schedule: anabranch dlq list"
            raise ServerUnavailable("Agency", "topic requests", why, hint)
        return self._shown(view)

    async def act(self, action: str, schedule_id: str, *, project: str | None = None, **more: Any) -> View | None:
        """Pause, resume, trigger, backfill or delete a schedule; returns its view, None if it is deleted.

        Args:
            more: fields of the control record, such as `by`, `reason`, and `from_`, `to`, `overlap` of a backfill.

        Raises:
            RequestRefused: there is no such schedule, or a field is invalid.
            ServerUnavailable: a server does not answer.
        """
        fields = {name.removesuffix("_"): value for name, value in more.items() if value is not None}
        known = await self._found(schedule_id, project)
        head = {"type": "schedule", "action": action, "id": schedule_id, "project": known["project"]}
        control = read_schedule_control(head | fields)
        await self._send(control)
        if action == "delete":
            await self._until(schedule_id, lambda found: found is None)
            return None
        done: Callable[[View | None], bool] = lambda found: found is None or found != known  # noqa: E731
        if action in ("pause", "resume"):
            done = lambda found: found is None or found["paused"] == (action == "pause")  # noqa: E731
        view = await self._until(schedule_id, done)
        return self._shown(view if view is not None else known)

    async def list(self, project: str | None = None) -> Sequence[View]:
        """The schedules of a project, or of all, by their ids."""
        found = await load_schedules(self._links.store, self._links.names)
        return [self._shown(view) for view in found if project in (None, view["project"])]

    async def show(self, schedule_id: str, *, project: str | None = None) -> View:
        """One schedule. Raises RequestRefused if there is none."""
        return self._shown(await self._found(schedule_id, project))

    async def _found(self, schedule_id: str, project: str | None) -> View:
        view = await load_schedule(self._links.store, self._links.names, schedule_id)
        if view is None or project not in (None, view["project"]):
            raise unknown_schedule(schedule_id)
        return view

    def _shown(self, view: View) -> View:
        return shown(view, self._links.clock.now())

    async def _check_owner(self, control: ScheduleControl) -> None:
        known = await load_schedule(self._links.store, self._links.names, control.id)
        if known is not None and known["project"] != control.project:
            message = f"the schedule {control.id!r} belongs to another project"
            raise RequestRefused([Problem(Code.SCHEMA, "/id", message, "take another id")])

    async def _send(self, control: ScheduleControl) -> None:
        document = {name: value for name, value in control.to_document().items() if value is not None}
        document |= {"type": "schedule", "action": control.action, "project": control.project or DEFAULT_PROJECT}
        names = self._links.names
        # One partition for all records of a schedule: they stay in the order in which one sender publishes them.
        await self._links.log.publish([Outgoing(names.requests, schedule_address(control.id), dumps(document))])

    async def _until(self, schedule_id: str, done: Callable[[View | None], bool]) -> View | None:
        """The view once it is as expected, or as it is after `WAIT_SECONDS`."""
        links = self._links
        end = links.clock.monotonic() + WAIT_SECONDS
        while True:
            view = await load_schedule(links.store, links.names, schedule_id)
            if done(view) or links.clock.monotonic() >= end:
                return view
            await asyncio.sleep(LOOK_SECONDS)


def unknown_schedule(schedule_id: str) -> RequestRefused:
    """The refusal of a schedule that does not exist."""
    hint = "see: anabranch schedules list"
    return RequestRefused([Problem(Code.UNKNOWN_SCHEDULE, "/id", f"there is no schedule {schedule_id!r}", hint)])
