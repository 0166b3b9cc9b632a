"""Observes the log, the store and the agents from outside, and reports violated promises.

Reads the bytes of records and writes, and keeps its own accounts. It never reads the state of a service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import orjson

from anabranch.core.names import Names, run_id_for, session_key
from anabranch.core.ranges import Ranges
from anabranch.core.wire.fragments import Assembler
from anabranch.core.wire.results import MARK, has_mark, is_reference
from anabranch.ports import Fence, HistoryEntry, Incoming, Write
from anabranch.testing.simulator.accounts import Account
from anabranch.testing.simulator.branches import ChoiceOrder
from anabranch.testing.simulator.children import ChildOrder
from anabranch.testing.simulator.endings import COMPENSATE, EndingOrder
from anabranch.testing.simulator.loops import IterationOrder
from anabranch.testing.simulator.scheduled import FiringCheck
from anabranch.testing.simulator.sharing import SHARED
from anabranch.testing.simulator.workload import Expected

Place = tuple[str, str, str]
"""Run id, group, task."""


class Observer:
    """See the module. `trace` is a checksum of everything observed, in order."""

    def __init__(self, names: Names, now: Callable[[], float], all_ended: Callable[[], None]) -> None:
        self._names = names
        self._now = now
        self._all_ended = all_ended
        self.accounts: dict[str, Account] = {}
        self.violations: list[str] = []
        self.trace = 0
        self.history: list[str] | None = None
        self.starts: dict[tuple[Place, int], int] = {}
        self._ended: dict[Place, Ranges] = {}
        self._published_bodies: dict[str, Any] = {}
        # Also keys that a store has lost since: the promise is that a value is written before it is published.
        self._put: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._events: set[tuple[str, str]] = set()
        self.endings: dict[str, EndingOrder] = {}
        self.children = ChildOrder()
        self._firings = FiringCheck(names, self.violated)
        self._iterations: dict[str, IterationOrder] = {}
        self._choices: dict[str, ChoiceOrder] = {}
        self._by_topic = {
            names.results: self._result,
            names.groups: self._on_groups,
            names.runs: self._on_runs,
            names.events: self._event,
        }
        self._assemblers: dict[tuple[str, int], Assembler] = {}

    def expect(
        self,
        expected: Expected,
        *,
        may_repeat: bool = False,
        may_be_lost: bool = False,
        may_end_again: bool = False,
    ) -> None:
        """Announce a run that will be submitted."""
        run_id = run_id_for(expected.request_id)
        if run_id not in self.accounts:
            self.accounts[run_id] = Account(
                expected, may_repeat=may_repeat, may_be_lost=may_be_lost, may_end_again=may_end_again
            )

    def expected_of(self, run_id: str) -> Expected | None:
        """The expected outcome of a run; None if it was not announced."""
        account = self.accounts.get(run_id)
        return account.expected if account is not None else None

    def expect_again(self, expected: Expected) -> None:
        """Announce a submission with a reused request id, possibly with another body. It must get a response."""
        account = self.accounts[run_id_for(expected.request_id)]
        account.others.append(expected)
        account.unanswered += 1

    def violated(self, what: str) -> None:
        """Record a violated promise."""
        self.violations.append(f"{self._now():.3f} s: {what}")

    def note(self, what: str) -> None:
        """Add an event of the simulation to the trace and the history."""
        self.trace = crc32(what.encode(), self.trace)
        if self.history is not None:
            self.history.append(f"{self._now():9.4f} {what}")

    # --- the log -------------------------------------------------------------------------------------

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        # Two runs of a seed are compared by this checksum, which has the order of all records.
        self.trace = crc32(b"%d %d" % (record.partition, record.offset), crc32(record.value, self.trace))
        if self.history is not None:
            shown = record.value[:300].decode("utf-8", "replace")
            self.history.append(f"{self._now():9.4f} {record.topic}/{record.partition}/{record.offset} {shown}")
        self._firings.appended(record)
        handler = self._by_topic.get(record.topic)
        if handler is not None:
            handler(self._whole(record))

    def _whole(self, record: Incoming) -> Incoming:
        """The record; for the last fragment of a message, the whole message."""
        assembler = self._assemblers.setdefault((record.topic, record.partition), Assembler())
        return replace(record, value=assembler.whole(record.value, record.offset, record.timestamp))

    def _result(self, record: Incoming) -> None:
        headers = {name: (value or b"").decode() for name, value in record.headers}
        kind, event_id = headers["ce_type"], headers["ce_id"]
        body = orjson.loads(record.value)
        account = self.accounts.get(body.get("run_id") or "")
        identity = event_id if account is None else account.identity(event_id, body)
        may_differ = account is not None and (
            account.may_end_again or (kind == "result.published" and account.may_repeat)
        )
        if not may_differ and self._published_bodies.setdefault(identity, body) != body:
            before = self._published_bodies[identity]
            self.violated(f"{event_id} was published with two contents: {before} and {body}")
        for problem in self.children.read(kind, body):
            self.violated(problem)
        if account is None:
            return
        if kind == "result.published":
            self._published(account, body)
        elif kind == "run.accepted":
            account.accepted(body, self._now())
        elif kind == "run.rejected":
            self._rejected(account, body)
        else:
            self._final(account, body)

    def _rejected(self, account: Account, body: Mapping[str, Any]) -> None:
        """Check a rejection: only a different body with a known id, or the id of an ended run whose end the store
        has lost, may be rejected."""
        account.unanswered = 0
        codes = {error["code"] for error in body["errors"]}
        if not (account.others or account.finals) or codes != {"request_id_conflict"}:
            self.violated(f"the request {body['request_id']} was rejected: {body['errors']}")
        self._check_all_over(account)

    def _published(self, account: Account, body: Mapping[str, Any]) -> None:
        key, value = body["result_key"], body["value"]
        if session_key(body["session_id"], key) not in self._put:
            self.violated(f"{key!r} of {body['run_id']} was published before it was in the store")
        self._check_mark(body, key, value)
        expected = account.expected
        if (
            expected
            and not expected.skips_values
            and not is_reference(value, body["session_id"])
            and (expected.is_exact or key != SHARED)
            and key not in expected.unchecked
            and value not in account.results_of(key)
        ):
            self.violated(f"{key!r} was published as {value}, expected {expected.results.get(key)}")

    def _check_mark(self, body: Mapping[str, Any], key: str, value: Any) -> None:
        """Check a value that looks like a reference: it must be a reference of the run itself. A user's value must
        never be published in this form."""
        if has_mark(value) and not (is_reference(value, body["session_id"]) and self._is_stored(body, value)):
            self.violated(f"{key!r} of {body['run_id']} was published as {value}, which was never stored")

    def _is_stored(self, body: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        key = value[MARK].partition("/")[2]
        return self._names.value_manifest(body["session_id"], body["run_id"], key) in self._put

    def _final(self, account: Account, body: dict[str, Any]) -> None:
        account.final_records += 1
        if self._names.tombstone(body["run_id"]) not in self._put:
            self.violated(f"the end of {body['run_id']} was published before it was in the store")
        account.unanswered = 0
        # The same final record may be published again after a crash.
        if body not in account.finals:
            self._new_final(account, body)
        self._check_all_over(account)

    def _new_final(self, account: Account, body: dict[str, Any]) -> None:
        is_new = account.is_new(body)
        account.finals.append(body)
        account.ended_at = self._now()
        account.ended.setdefault(body["accepted_at"], account.ended_at)
        for key, value in body["results"].items():
            self._check_mark(body, key, value)
        if not is_new and not account.may_end_again:
            self.violated(f"{body['run_id']} ended twice: {account.finals}")

    def _check_all_over(self, account: Account) -> None:
        if account.is_over:
            self._check_all_ended()

    def _check_all_ended(self) -> None:
        if all(each.is_over for each in self.accounts.values()):
            self._all_ended()

    def _on_groups(self, record: Incoming) -> None:
        header = _header(record.value)
        if header.get("type") != "members":
            return
        place = (header["run_id"], header["group"], header["task"])
        ended = self._ended.setdefault(place, Ranges())
        for start, stop in header.get("completed", ()):
            ended.add(start, stop)
        for failure in header.get("failed", ()):
            ended.add(failure["index"])

    def _on_runs(self, record: Incoming) -> None:
        header = _header(record.value)
        if header.get("type") != "group_finished":
            return
        run_id, group = header["run_id"], header["group"]
        identity = f"group {run_id}/{group} of admission {header.get('admission')}"
        account = self.accounts.get(run_id)
        may_differ = account is not None and account.may_be_lost
        if self._published_bodies.setdefault(identity, header) != header and not may_differ:
            self.violated(f"{identity} finished twice: {self._published_bodies[identity]} and {header}")
        # A run that completed has nothing to undo: its group of compensations has no events.
        is_unused = group == COMPENSATE and not header.get("counts", {}).get("total")
        if (run_id, group) not in self._events and not is_unused:
            self.violated(f"{identity} was reported as finished before its event was on the log")

    def _event(self, record: Incoming) -> None:
        header = _header(record.value)
        self._check_endings(header)
        if self._firings.missed(header.get("entries", ()), self.accounts.values()):
            self._check_all_ended()
        if header.get("source") == "groups":
            order = self._iterations.setdefault(header["run_id"], IterationOrder())
            choices = self._choices.setdefault(header["run_id"], ChoiceOrder())
            entries = header.get("entries", ())
            for problem in (*order.read(entries), *choices.read(entries)):
                self.violated(f"{header['run_id']}: {problem}")
        for entry in header.get("entries", ()):
            kind = str(entry.get("type", ""))
            if kind.startswith("group.") and kind != "group.started":
                self._events.add((header["run_id"], entry["group"]))

    def _check_endings(self, header: Mapping[str, Any]) -> None:
        account = self.accounts.get(header["run_id"])
        if header.get("source") != "groups" or account is None or account.expected is None:
            return
        order = self.endings.setdefault(header["run_id"], EndingOrder())
        groups = [group["name"] for group in account.expected.request["task_groups"]]
        for problem in order.read(header.get("entries", ()), groups):
            self.violated(f"{header['run_id']}: {problem}")

    # --- the store -----------------------------------------------------------------------------------

    def accepted(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None) -> None:
        """Observe accepted writes of the store."""
        for write in writes:
            self._put.add(write.key)
            # XOR ignores the order: within one call it may depend on the hash seed of the process.
            self.trace ^= crc32(write.value, crc32(write.key.encode()))
        if fence is None:
            return
        known = self._epochs.get(fence.key, fence.epoch)
        if fence.epoch < known:
            self.violated(f"the store accepted epoch {fence.epoch} under {fence.key}, which was at {known}")
        self._epochs[fence.key] = max(known, fence.epoch)

    def store_replaced(self) -> None:
        """Forget the epochs: a replaced store may have lost its fences."""
        self._epochs.clear()

    # --- agents --------------------------------------------------------------------------------------

    def started(self, task: Any) -> None:
        """Observe a call of an agent."""
        index = 0 if task.index is None else task.index
        place = (task.run_id, task.group, task.task_name)
        self.starts[place, index] = self.starts.get((place, index), 0) + 1
        self.note(f"start {task.task_name}/{index}.{task.attempt}")
        account = self.accounts.get(task.run_id)
        expected = account.expected if account else None
        if account is None or expected is None:
            return
        if task.group == COMPENSATE:
            self._check_undone(task)
        for key in task.context:
            if task.iteration and key in expected.in_loops:
                continue  # its value differs by iteration, and is part of those that are checked
            if key in expected.producers or key == SHARED:
                self._check_dependency(task, key, account, expected)

    def _check_undone(self, task: Any) -> None:
        """Check that a compensation sees the result of the member that it undoes."""
        order = self.endings.get(task.run_id, EndingOrder())
        for (_, name), members in order.completed.items():
            wanted = None if task.index is None else sorted(members, reverse=True)[task.index : task.index + 1]
            if name == task.task_name and wanted not in (None, [task.inputs["undoes"]]):
                self.violated(f"{task.name} undoes {task.inputs['undoes']}, expected {wanted}")

    def _check_dependency(self, task: Any, key: str, account: Account, expected: Expected) -> None:
        for producer in expected.writers if key == SHARED else (expected.producers[key],):
            self._check_ended(task, producer, expected)
        if session_key(task.session_id, key) not in self._put:
            self.violated(f"{task.task_name} started before {key!r} was in the store")
        if not expected.skips_values and task.context[key] not in account.values_of(key):
            self.violated(
                f"{task.task_name} got {key!r} = {task.context[key]}, expected {expected.values.get(key)}"
            )

    def _check_ended(self, task: Any, producer: str, expected: Expected) -> None:
        group, _, name = producer.partition("/")
        total = expected.totals.get(producer, 0)
        ended = self._ended.get((task.run_id, group, name), Ranges())
        if len(ended) < total and not expected.skips_values:
            self.violated(
                f"{task.task_name} started when {len(ended)} of {total} members of {name} had ended on the log"
            )


def _header(value: bytes) -> dict[str, Any]:
    header: dict[str, Any] = orjson.loads(value.partition(b"\n")[0])
    return header
