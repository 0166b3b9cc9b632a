"""Documents are stored as records of a table and read back: small runs whole, large ones in parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from eventmanager_records import batch, entry, subscribe
from hypothesis import given
from hypothesis import strategies as st

from anabranch_eventmanager.projection import table_records
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.documents import NEW_TASK, Document
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.projection.table_records import TableRecords

TASKS = {"g": ["a", "b"], "h": ["a"]}
ACCEPTED = batch("r", "runs", 1, entry("run.accepted", 1, groups=TASKS, tasks=3))


class Table:
    """A table with a changelog, in memory."""

    def __init__(self) -> None:
        self.records = TableRecords()
        self.data: dict[str, bytes] = {}
        self.written: list[str] = []

    def store(self, key: str, document: Document | None) -> None:
        for name, value in self.records.changes(key, document):
            self.written.append(name)
            if value is None:
                self.data.pop(name, None)
            else:
                self.data[name] = value

    def loaded(self) -> dict[str, Document]:
        """The documents that the next process reads."""
        return TableRecords().load(self.data)

    def restart(self) -> None:
        self.records = TableRecords()
        self.records.load(self.data)
        self.written = []


def _documents(values: Iterable[bytes]) -> Iterable[dict[str, Document]]:
    """The documents after each record."""
    documents: dict[str, Document] = {}
    for offset, value in enumerate(values):
        at = RecordPosition(0, offset, float(offset))
        documents |= EventProjection("ch").apply(documents, decode_record(value), at).writes
        yield dict(documents)


def _started(group: str, task: str, at: int) -> bytes:
    return batch("r", "groups", at, entry("task.started", at, group, task))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is too large for one record."""
    monkeypatch.setattr(table_records, "WHOLE_BYTES", 0)


def test_a_small_run_is_one_record() -> None:
    table = Table()
    for documents in _documents([ACCEPTED, _started("g", "a", 2)]):
        table.store("run/r", documents["run/r"])

    assert table.written == ["run/r", "run/r"]
    assert table.loaded() == documents


@pytest.mark.usefixtures("small")
def test_of_a_large_run_only_changed_tasks_are_written_and_the_run_is_last() -> None:
    table = Table()
    for documents in _documents([ACCEPTED, _started("g", "a", 2), _started("h", "a", 3)]):
        table.store("run/r", documents["run/r"])

    assert table.written == ["run/r", "task/r/g/a", "run/r", "task/r/h/a", "run/r"]
    assert table.loaded() == documents


@pytest.mark.usefixtures("small")
def test_a_settled_run_is_read_back_and_all_its_records_are_deleted() -> None:
    table = Table()
    *_, documents = _documents([ACCEPTED, _started("g", "a", 2), batch("r", "runs", 3, entry("run.failed", 3))])
    table.store("run/r", documents["run/r"] | {"settled": True})
    assert table.loaded() == {"run/r": documents["run/r"] | {"settled": True}}

    table.restart()
    table.store("run/r", None)

    assert table.data == {}
    assert table.written == ["task/r/g/a", "run/r"]


def test_a_run_that_grows_is_divided_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    for documents in _documents([ACCEPTED, _started("g", "a", 2), _started("h", "a", 3)]):
        table.store("run/r", documents["run/r"])
        monkeypatch.setattr(table_records, "WHOLE_BYTES", 0)
    table.restart()
    monkeypatch.setattr(table_records, "WHOLE_BYTES", 1_000_000)
    table.store("run/r", documents["run/r"])

    assert table.written == ["task/r/g/a", "task/r/h/a", "run/r"]
    assert table.loaded() == documents


def test_a_subscription_is_one_record() -> None:
    table = Table()
    [documents] = _documents([subscribe("ch", run_id="r")])
    for key, document in documents.items():
        table.store(key, document)

    assert table.loaded() == documents


def _old_layout(run: Document) -> dict[str, bytes]:
    """The records that versions before this layout wrote."""
    records: dict[str, Any] = {"run/r": run | {"groups": list(run["groups"])}}
    for name, group in run["groups"].items():
        records[f"group/r/{name}"] = group | {"tasks": list(group["tasks"])}
        records |= {f"task/r/{name}/{task}": document for task, document in group["tasks"].items()}
    return {key: orjson.dumps(document) for key, document in records.items()}


def test_records_of_earlier_versions_are_read_continued_and_deleted() -> None:
    table = Table()
    *_, before, after = _documents([ACCEPTED, _started("g", "a", 2), _started("h", "a", 3)])
    table.data = _old_layout(before["run/r"])
    assert table.loaded() == before

    table.restart()
    table.store("run/r", after["run/r"])
    assert table.loaded() == after
    table.store("run/r", None)
    assert table.data == {}


def test_what_an_earlier_version_wrote_meanwhile_is_newer() -> None:
    """After a downgrade the earlier version knows no group of the run, and makes records of its own."""
    table = Table()
    *_, documents = _documents([ACCEPTED, _started("g", "a", 2)])
    run = documents["run/r"]
    table.store("run/r", run)
    ended = dict(NEW_TASK) | {"status": "completed", "started_at": 2.0}
    group = {"status": "completed", "started_at": 2.0, "ended_at": 4.0, "tasks": ["a"]}
    table.data |= {"group/r/g": orjson.dumps(group), "task/r/g/a": orjson.dumps(ended)}
    table.data["run/r"] = orjson.dumps(orjson.loads(table.data["run/r"]) | {"offset": 9})

    loaded = table.loaded()["run/r"]["groups"]

    assert loaded == run["groups"] | {"g": group | {"tasks": {"a": ended, "b": NEW_TASK}}}


def test_a_group_whose_record_was_lost_is_omitted() -> None:
    *_, documents = _documents([ACCEPTED])
    records = _old_layout(documents["run/r"])
    del records["group/r/g"]

    assert list(TableRecords().load(records)["run/r"]["groups"]) == ["h"]


@given(st.lists(st.sampled_from([("g", "a"), ("g", "b"), ("h", "a"), ("k", "new")])), st.integers(0, 3_000))
def test_a_table_has_what_the_documents_are_at_each_moment(steps: list[tuple[str, str]], limit: int) -> None:
    table = Table()
    values = [ACCEPTED, *(_started(group, task, at) for at, (group, task) in enumerate(steps, 2))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_records, "WHOLE_BYTES", limit)
        for documents in _documents(values):
            table.store("run/r", documents["run/r"])
            assert table.loaded() == documents
