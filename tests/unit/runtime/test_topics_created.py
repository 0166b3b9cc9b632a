"""The topics that a command or a service creates: of pools, and with how many copies."""

from __future__ import annotations

from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import gateway_topic_specs, topic_specs

LEVELS = ("low", "high", "urgent", "critical")


def test_topics_of_named_pools_are_those_of_all_their_levels() -> None:
    plain = {each.name for each in topic_specs(Settings())}
    more = {each.name for each in topic_specs(Settings(), ["gpu", "big"])} - plain

    expected = {f"anabranch.tasks.{pool}" for pool in ("gpu", "big")}
    assert more == expected | {f"{name}.{level}" for name in expected for level in LEVELS}


def test_every_topic_has_the_copies_that_are_set() -> None:
    for copies in (None, 3):
        settings = Settings(replication_factor=copies, create_topics=False)
        made = [*topic_specs(settings, ["gpu"]), *gateway_topic_specs(settings)]
        assert {each.replication_factor for each in made} == {copies}


def test_the_variable_sets_it() -> None:
    assert Settings.load({"ANABRANCH_REPLICATION_FACTOR": "3"}).replication_factor == 3
