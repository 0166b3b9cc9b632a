"""Dead letters of members: one for each that failed permanently, up to a limit, grouped by their signature."""

from __future__ import annotations

import pytest
from held_and_lost import Play

from anabranch.core.wire.dead_letters import MemberDeadLetter, normalised, signature
from anabranch_taskgroup.session.dead_letters import MAX_DEAD_LETTERS


def test_a_failed_member_gets_a_dead_letter() -> None:
    play = Play(3, tolerated_failures=1)

    play.fail(play.chunks[1], 1, message="row 17 is bad")

    [dead_letter], [headers] = play.dead_letters, play.dead_letter_headers
    assert dead_letter == {
        "run_id": "r",
        "request_id": "q",
        "session_id": "s",
        "group": "g",
        "task": "t",
        "index": 1,
        "member": "t_2",
        "agent": "a",
        "error_type": "ValueError",
        "message": "row 17 is bad",
        "attempts": 2,
        "deliveries": 0,
        "held": False,
        "omitted": 0,
    }
    assert headers == {
        "anabranch_code": "member_failed",
        "anabranch_reason": "ValueError: row 17 is bad",
        "anabranch_origin": "t.groups/3/2",
        "anabranch_signature": MemberDeadLetter.model_validate(dead_letter).signature,
        "anabranch_id": "r/g/t_2/0",
    }


def test_dead_letters_of_one_task_have_a_limit_and_the_last_one_counts_the_rest() -> None:
    members = MAX_DEAD_LETTERS + 7
    play = Play(members, rules={"chunk_limit": members})
    while "r" in play.partition.runs:
        chunk = play.chunks[0]
        play.fail(chunk, *chunk.pending.indexes())

    codes = [headers["anabranch_code"] for headers in play.dead_letter_headers]
    assert codes == ["member_failed"] * MAX_DEAD_LETTERS + ["members_omitted"]
    assert play.dead_letters[-1]["omitted"] == 7
    assert "7 further members" in play.dead_letters[-1]["message"]
    assert len({headers["anabranch_id"] for headers in play.dead_letter_headers}) == MAX_DEAD_LETTERS + 1


def test_completed_stopped_and_skipped_members_get_none() -> None:
    play = Play(3)
    play.complete(play.chunks[0], 0)
    play.time_out_group()

    assert play.dead_letters == []


# --- signatures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 17 is bad", "row 4 is bad"),
        ("took 1.5 s", "took 20.25 s"),
        ("no run 6f8e5fe6-eecb-5231-b44b-b71666ee9841", "no run 1730a2fb-229a-5d78-a020-51a0b15f671c"),
        ("object at 0x7f00aa12", "object at 0x55d0c0ffee"),
        ("commit 3f2a9c1d is gone", "commit 77ab01ff is gone"),
        ("token eyJhbGciOiJIUzI1NiIsInR5", "token a8Kd02jfLq8Zm3Xw0PqR11"),
        ("two  lines\nof it", "two lines of it"),
        ("the last was worker pod-a.x-1", "the last was worker pod-b"),
    ],
)
def test_variable_parts_of_a_message_do_not_change_its_signature(one: str, other: str) -> None:
    assert signature("member_failed", one) == signature("member_failed", other)


@pytest.mark.parametrize("other", ["the row is bad", "row 17 is good", ""])
def test_another_message_has_another_signature(other: str) -> None:
    assert signature("member_failed", "row 17 is bad") != signature("member_failed", other)


def test_code_subject_and_type_are_part_of_the_signature() -> None:
    found = {
        signature("a", "m"),
        signature("b", "m"),
        signature("a", "m", subject="s"),
        signature("a", "m", error_type="s"),
    }

    assert len(found) == 4


def test_a_signature_never_changes() -> None:
    """People write them down, and tools group by them over releases."""
    assert signature("member_failed", "row 17", subject="http", error_type="ValueError") == "e3db6a71e61733ca"


def test_any_message_has_a_signature() -> None:
    assert len(normalised("x" * 1_000_000)) <= 400
    assert len(signature("c", "\ud800 river \x00")) == 16
