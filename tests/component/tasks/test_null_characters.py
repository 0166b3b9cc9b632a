"""Texts with the character NUL, which PostgreSQL cannot store, lose it and hold up nothing."""

from __future__ import annotations

import orjson
import pytest

from anabranch.adapters.sql.null_characters import json_without_null
from anabranch.tasks import ExecutionStatus, Task, TaskAPI, TaskType

SECONDS = 20
NUL = "a\x00b"


async def test_names_results_and_errors_may_have_the_character_nul(database_url: str) -> None:
    def work(task: Task) -> object:
        if task.metadata.get("fails"):
            raise ValueError(NUL)
        return {NUL: [NUL, "a\\u0000b"]}

    async with TaskAPI(database_url=database_url) as api:
        await api.register_agent("ann", "custom", {"code_review"}, work)
        ended = []
        for fails in (False, True):
            task = await api.create_task(
                Task(
                    name=NUL, description=NUL, task_type=TaskType.CODE_REVIEW, metadata={"fails": fails, "x": NUL}
                )
            )
            ended.append(await api.execute_task(task.id, wait=True, timeout=SECONDS))

    completed, failed = ended
    assert (completed.status, failed.status) == (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED)
    [values] = completed.result.values()
    assert values[1] == r"a\u0000b"
    assert (failed.error_message or "").startswith("a")


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a\x00b", "ab"), (r"\u0000", r"\u0000"), ("\\\x00", "\\"), ("\x00" * 5, ""), (r"\\u0000x", r"\\u0000x")],
)
def test_only_null_characters_are_removed_from_json(text: str, stored: str) -> None:
    assert orjson.loads(json_without_null(orjson.dumps({text: [text]}))) == {stored: [stored]}
