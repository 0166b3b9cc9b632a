"""How programs and the work of their attempts are shown."""

from __future__ import annotations

import pytest

from anabranch.core.programs import shown_program, shown_work, summary
from anabranch_taskgroup.worker.executors.programs.kubernetes.handles import JobHandle


def test_a_summary_has_no_arguments_and_leaves_out_what_there_is_not() -> None:
    assert summary("image:1", ("run", "--password=x", "y"), None) == {
        "image": "image:1",
        "command": "run",
        "arguments": 2,
    }
    assert summary(None, (), "jobs", "robot") == {"namespace": "jobs", "service_account": "robot"}


@pytest.mark.parametrize(
    ("kind", "program", "words"),
    [
        ("process", {"command": "count"}, "process count"),
        ("process", {"command": "count", "arguments": 1}, "process count with 1 argument"),
        ("container", {"image": "i:1"}, "container i:1"),
        (
            "kubernetes",
            {"image": "i:1", "command": "a", "arguments": 2_000, "namespace": "n"},
            "kubernetes i:1, a with 2,000 arguments, in namespace n",
        ),
        ("container", {}, "container"),
    ],
)
def test_a_program_is_shown_in_a_few_words(kind: str, program: dict[str, object], words: str) -> None:
    assert shown_program(kind, program) == words


def test_work_is_shown_as_its_platform_names_it() -> None:
    assert shown_work(JobHandle("jobs", "ab-1", "installation").text) == "Job jobs/ab-1"
    assert shown_work("ab-1/0123456789abcdef0123") == "container 0123456789ab"
    assert shown_work("ab-1") == "program ab-1"
