"""Folds the records of a partition of the events topic to rows. Pure, but for the states that it is given.

A run has one state: its document as of the views, the attempts of its tasks, and its open waits.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.event_sources import is_of_run
from anabranch.core.json_documents import dumps
from anabranch.core.schedules.addresses import is_schedule_address
from anabranch.core.search_terms import terms_of
from anabranch.core.wire.codec import Undecodable
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.ports import Incoming
from anabranch.ports.history import HistoryWrites, Row
from anabranch_eventmanager.projection.decisions import fold_batch, has_ended
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.history.attempts import apply_attempt, new_state
from anabranch_eventmanager.projection.history.run_rows import run_row, task_row
from anabranch_eventmanager.projection.history.waits import begin_wait, decision, end_all, end_waits
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.projection.run_views import build_view

State = dict[str, Any]
"""`{"run": document, "attempts": {"group/task": state}, "waits": {"group/task": [..]}, "log": incarnation,
"terms": [..]}`."""

COMPRESSION = 1
_log = logging.getLogger("anabranch.eventmanager")


def decode(records: Iterable[Incoming]) -> list[tuple[Incoming, EventBatch]]:
    """The batches of events among some records. Others are the event manager's: it dead-letters what it cannot
    read."""
    found = []
    for record in records:
        try:
            decoded = decode_record(record.value)
        except Undecodable as error:
            _log.debug("the history skips %s/%d/%d: %s", record.topic, record.partition, record.offset, error)
            continue
        if isinstance(decoded, EventBatch):
            found.append((record, decoded))
    return found


def encode_state(state: State) -> bytes:
    """A state as a row has it."""
    return zlib.compress(dumps(state), COMPRESSION)


def decode_state(value: bytes) -> State:
    """A state of a row."""
    state: State = orjson.loads(zlib.decompress(value))
    return state


def fold(
    states: dict[str, State], batches: Sequence[tuple[Incoming, EventBatch]], incarnation: str
) -> HistoryWrites:
    """The rows that the batches change; `states` is brought up to date.

    Args:
        states: by run id, of each run of the batches that is known.
        incarnation: of the topic. A state of an earlier one counts offsets of another log.
    """
    writes, folding = HistoryWrites(), _Folding(states, incarnation)
    for record, batch in batches:
        try:
            if is_of_run(batch.run_id):
                folding.apply(batch, record.offset)
            elif is_schedule_address(batch.run_id):
                folding.apply_to_schedule(batch, record)
        except Exception:  # noqa: BLE001 - a bug must not stop the history of all other runs
            place = (record.topic, record.partition, record.offset)
            _log.exception("internal error of the history at %s/%d/%d, the record is left out", *place)
    folding.write(writes)
    return writes


class _Folding:
    """The rows of one batch of records: those of a run once, as the last record leaves it."""

    def __init__(self, states: dict[str, State], incarnation: str) -> None:
        self._states = states
        self._incarnation = incarnation
        self._before: dict[str, Document | None] = {}
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {}

    def apply(self, batch: EventBatch, offset: int) -> None:
        """Apply a batch of a run, unless it was applied before."""
        state = self._state(batch.run_id)
        known = state["run"]
        if known is not None and offset <= known["offset"]:
            return
        if batch.run_id not in self._before:
            self._before[batch.run_id] = known
        state["run"], entries = fold_batch(known, batch, offset)
        for entry, seq in entries:
            self._note(state, batch.run_id, entry, seq)
        if has_ended(state["run"]):
            self._close(state)

    def apply_to_schedule(self, batch: EventBatch, record: Incoming) -> None:
        """Note what became of firings."""
        for nth, entry in enumerate(batch.entries):
            row = {
                name: entry.data.get(name) for name in ("schedule", "project", "at", "source", "firing", "reason")
            }
            place = {"partition": record.partition, "offset": record.offset, "nth": nth}
            self._put("history_firings", place | row | {"type": entry.type, "time": entry.time}, *place.values())
            if row["schedule"]:
                self._put_schedule(row, entry)

    def _put_schedule(self, row: Row, entry: EventEntry) -> None:
        schedule = {"schedule": row["schedule"], "project": row["project"]}
        # Only an open schedule fires, so its last event says whether it is paused.
        schedule |= {"paused": entry.type == "schedule.paused", "last_type": entry.type, "last_time": entry.time}
        self._put("history_schedules", schedule, row["schedule"])

    def write(self, writes: HistoryWrites) -> None:
        """Add all rows to `writes`."""
        for run_id, before in self._before.items():
            self._write_run(writes, run_id, before)
        for table, rows in self._rows.items():
            writes.rows[table] = list(rows.values())

    def _state(self, run_id: str) -> State:
        state = self._states.get(run_id)
        if state is None:
            state = {"run": None, "attempts": {}, "waits": {}, "log": self._incarnation, "terms": []}
            self._states[run_id] = state
        elif state["log"] != self._incarnation:
            state["log"] = self._incarnation
            state["run"] = state["run"] | {"offset": -1}
        return state

    def _note(self, state: State, run_id: str, entry: EventEntry, seq: int) -> None:
        kind, _, action = entry.type.partition(".")
        if entry.task is None or entry.group is None:
            return
        name = f"{entry.group}/{entry.task}"
        if kind == "approval" and action == "decided":
            for row in decision(run_id, seq, entry):
                self._put("history_decisions", row, run_id, seq)
        if kind != "task" or action in ("log", "progress"):
            return
        if action == "waiting":
            waits = state["waits"].setdefault(name, [])
            for row in begin_wait(waits, run_id, seq, entry):
                self._put("history_waits", row, run_id, seq)
            return
        if state["waits"].get(name):
            for row in end_waits(state["waits"][name], action, entry):
                self._put("history_waits", row, run_id, row["seq"])
        self._note_attempt(state, run_id, name, action, entry)

    def _note_attempt(self, state: State, run_id: str, name: str, action: str, entry: EventEntry) -> None:
        attempts = state["attempts"].get(name)
        if attempts is None:
            attempts = state["attempts"][name] = new_state()
        task = state["run"]["groups"].get(entry.group, {}).get("tasks", {}).get(entry.task)
        for row in apply_attempt(attempts, run_id, task["members"] if task else None, action, entry):
            key = (row["group"], row["task"], row["iteration"], row["index"], row["attempt"])
            self._put("history_attempts", row, run_id, *key)

    def _close(self, state: State) -> None:
        """The run has ended, and with it all that was open."""
        run = state["run"]
        for waits in state["waits"].values():
            for row in end_all(waits, run["ended_at"], run["status"]):
                self._put("history_waits", row, run["run_id"], row["seq"])
        state["waits"] = {}
        for attempts in state["attempts"].values():
            attempts["open"] = []

    def _write_run(self, writes: HistoryWrites, run_id: str, before: Document | None) -> None:
        state = self._states[run_id]
        run = state["run"]
        view = build_view(run)
        row = run_row(view)
        terms = terms_of(row)
        known = {(term, state["ordered_at"]) for term in state["terms"]} if state["terms"] else set()
        wanted = {(term, row["ordered_at"]) for term in terms}
        for kept, rows in ((known - wanted, writes.removed_terms), (wanted - known, writes.added_terms)):
            rows.extend({"term": term, "ordered_at": at, "run_id": run_id} for term, at in sorted(kept))
        state["terms"], state["ordered_at"] = sorted(terms), row["ordered_at"]
        self._put("history_runs", row | {"state": encode_state(state)}, run_id)
        for name, value in row["search"].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                number = {"name": name, "number": float(value), "run_id": run_id}
                self._put("history_numbers", number, name, float(value), run_id)
        self._write_tasks(state, run_id, before, view)

    def _write_tasks(self, state: State, run_id: str, before: Document | None, view: Any) -> None:
        groups: Mapping[str, Any] = before["groups"] if before else {}
        ended = has_ended(state["run"]) and not (before and has_ended(before))
        for group_name, group in state["run"]["groups"].items():
            tasks = groups[group_name]["tasks"] if group_name in groups else {}
            for name, task in group["tasks"].items():
                # Documents are replaced and never changed in place. The end of a run is that of its tasks too.
                if not ended and tasks.get(name) is task:
                    continue
                shown = view.groups[group_name].tasks[name]
                attempts = state["attempts"].get(f"{group_name}/{name}")
                self._put(
                    "history_tasks", task_row(run_id, group_name, name, shown, attempts), group_name, name, run_id
                )

    def _put(self, table: str, row: Row, *key: Any) -> None:
        self._rows.setdefault(table, {})[key] = row
