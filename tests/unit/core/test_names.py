"""Names on the servers, and which names users may choose."""

from __future__ import annotations

import inspect
import uuid

import pytest

from anabranch.core import names
from anabranch.core.names import Names

PUBLIC_PREFIX = "acme."


def test_topics_and_consumer_groups_carry_the_prefix() -> None:
    of = Names(PUBLIC_PREFIX)

    assert of.topics == (
        "acme.requests",
        "acme.runs",
        "acme.groups",
        "acme.tasks",
        "acme.events",
        "acme.results",
        "acme.dead-letters",
    )
    assert of.agency_requests == "acme.agency-requests"
    assert Names().requests == "anabranch.requests"


def test_the_value_and_the_channel_of_a_result_have_the_session_as_hash_tag() -> None:
    assert names.session_key("s-1", "a b.c") == "session:{s-1}:a b.c"


OF_LANES = ("tasks", "tasks_group", "topics_of_levels")


def _private_keys(of: Names) -> dict[str, str]:
    names_of_methods = [name for name, _ in inspect.getmembers(Names, inspect.isfunction)]
    of_keys = [
        name
        for name in names_of_methods
        if not name.startswith("_") and not name.endswith("_problem") and name not in OF_LANES
    ]
    taking_session = [(name, getattr(of, name)) for name in of_keys]
    return {
        name: method(*["sid", "b", "c", "d"][: len(inspect.signature(method).parameters)])
        for name, method in taking_session
    }


def test_each_private_key_has_the_prefix_and_the_first_argument_as_its_only_hash_tag() -> None:
    keys = _private_keys(Names(PUBLIC_PREFIX))

    assert len(keys) > 10
    for name, key in keys.items():
        assert key.startswith("acme.{sid}:"), name
        assert key.count("{") == 1, name
    assert len(set(keys.values())) == len(keys), "two kinds of key share a name"


@pytest.mark.parametrize("prefix", ["", "a b", "{x}", ".x", "x" * 101, "a/b"])
def test_a_prefix_that_cannot_start_a_topic_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Names(prefix)


def test_a_run_id_is_a_function_of_the_request_id_for_ever() -> None:
    assert names.run_id_for("order-17") == names.run_id_for("order-17")
    assert names.run_id_for("order-17") != names.run_id_for("order-18")
    assert names.run_id_for("order-17") == "1730a2fb-229a-5d78-a020-51a0b15f671c"
    assert uuid.UUID(names.run_id_for("ü")).version == 5


def test_a_record_without_request_id_gets_one_from_its_place() -> None:
    assert names.request_id_for("anabranch.requests", 3, 41) == "anabranch.requests:3:41"
    assert names.key_problem(names.request_id_for("anabranch.requests", 3, 41)) is None


@pytest.mark.parametrize(
    "good", ["a", "1st run", "NF.core_1", "übung 日本", "x" * 255, "a{b}", "👩‍🚀", "a\u00a0b"]
)
def test_names_may_be_printable_unicode(good: str) -> None:
    assert names.name_problem(good) is None


@pytest.mark.parametrize("bad", ["", "  ", "a/b", "x" * 256, "a\nb", "\x00", "a\u2028b", "\ud800"])
def test_names_may_not(bad: str) -> None:
    assert names.name_problem(bad)


def test_keys_may_have_slashes_but_no_braces() -> None:
    assert names.key_problem("a/b") is None
    assert names.key_problem("a{b")
    assert names.key_problem("b}")


@pytest.mark.parametrize(("session_id", "is_good"), [("A-z.0_~", True), ("", False), ("a b", False)])
def test_session_ids(session_id: str, is_good: bool) -> None:
    assert (names.session_id_problem(session_id) is None) == is_good
    assert names.session_id_problem("s" * 128) is None
    assert names.session_id_problem("s" * 129)


def test_a_reference_is_split_at_its_first_slash() -> None:
    assert names.split_reference(names.reference_address("s", "a/b")) == ("s", "a/b")
    with pytest.raises(ValueError, match="not a reference"):
        names.split_reference("nothing")
