"""The records that keep the documents of a partition in a table. Pure.

A document is one record. The tasks of a run that would make a large record are records of their own, of which a
write needs only those that have changed; the run's record then has the names of its tasks in place of their
documents. Earlier versions wrote a record for each group and each task of every run; such records are read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from anabranch.core.json_documents import dumps
from anabranch_eventmanager.projection.documents import NEW_TASK, Document

WHOLE_BYTES = 100_000
"""Maximum bytes of the record of a whole run. At most a megabyte can be published as one record."""

_WRITTEN_AT = "written_at"
"""Field of a run's record: the offset of its document when it was written in this layout. Earlier versions keep
the field and change the offset."""


def group_key(run_id: str, group: str) -> str:
    """Key of a group's record; only earlier versions wrote such records."""
    return f"group/{run_id}/{group}"


def task_key(run_id: str, group: str, task: str) -> str:
    """Key of a task's record; names have no `/`, so two tasks cannot share one."""
    return f"task/{run_id}/{group}/{task}"


class TableRecords:
    """Divides the documents of a partition into records, and joins them again."""

    def __init__(self) -> None:
        # Key of a divided run -> key of each record of its own -> the task in it; None if that is not known.
        self._parts: dict[str, dict[str, Document | None]] = {}

    def load(self, records: Mapping[str, bytes]) -> dict[str, Document]:
        """The documents of a partition whose table has these records."""
        found: dict[str, Document] = {key: orjson.loads(value) for key, value in records.items()}
        documents = {key: each for key, each in found.items() if not key.startswith(("group/", "task/"))}
        for key, document in documents.items():
            if key.startswith("run/"):
                self._join(key, document, found)
        return documents

    def changes(self, key: str, document: Document | None) -> Iterator[tuple[str, bytes | None]]:
        """The records to write after a document was replaced, or deleted (None). A None value deletes a record.

        They have to be written in this order: the record of a run follows those that it refers to.
        """
        if document is None:
            yield from ((part, None) for part in self._parts.pop(key, ()))
            yield key, None
            return
        if key not in self._parts:
            is_run = key.startswith("run/")
            value = dumps(document | {_WRITTEN_AT: document["offset"]} if is_run else document)
            if len(value) <= WHOLE_BYTES or not is_run:
                yield key, value
                return
        yield from self._divided(key, document)

    def _divided(self, key: str, run: Document) -> Iterator[tuple[str, bytes]]:
        parts = self._parts.setdefault(key, {})
        outline = {}
        for group_name, group in run["groups"].items():
            outline[group_name] = {**group, "tasks": list(group["tasks"])}
            for name, task in group["tasks"].items():
                part = task_key(run["run_id"], group_name, name)
                # Documents are replaced and never changed in place, so one that is still the same has not changed.
                if task is not NEW_TASK and parts.get(part) is not task:
                    parts[part] = task
                    yield part, dumps(task)
        if run["settled"]:  # most of these never change again, and are kept as JSON elsewhere
            self._parts[key] = dict.fromkeys(parts)
        yield key, dumps(run | {"groups": outline, _WRITTEN_AT: run["offset"]})

    def _join(self, key: str, run: Document, found: Mapping[str, Document]) -> None:
        """Put the groups and tasks with records of their own into the document of their run."""
        run_id, parts, groups = run["run_id"], dict[str, Document | None](), {}
        # An earlier version may have continued with the table meanwhile, as in a rolling upgrade. Then what has a
        # record of its own is newer than what the run's record has of the same name.
        is_continued = run.pop(_WRITTEN_AT, None) != run["offset"]
        known: Document = run["groups"] if isinstance(run["groups"], dict) else {}
        for name in run["groups"]:
            group: Document | None = known.get(name)
            if (part := group_key(run_id, name)) in found:
                parts[part] = None
                group = found[part] if is_continued or group is None else group
            if group is None:
                continue  # it was lost: the view lacks this group, and nothing else
            tasks = dict.fromkeys(group["tasks"], NEW_TASK)
            for inline in (known.get(name, {}).get("tasks"), group["tasks"]):
                tasks.update(inline if isinstance(inline, dict) else {})
            for task in tasks:
                if (part := task_key(run_id, name, task)) in found:
                    tasks[task] = parts[part] = found[part]
            groups[name] = {**group, "tasks": tasks}
        run["groups"] = groups
        if parts:
            self._parts[key] = parts
