"""Settings and acknowledgements of the Kafka producer that keep records from being lost. Needs no broker."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.producer import delivery_result


def test_settings_cannot_weaken_the_durability_of_records() -> None:
    loose = {
        "acks": "1",
        "enable.idempotence": "false",
        "max.in.flight.requests.per.connection": "5",
        "partitioner": "random",
        "linger.ms": "7",
    }

    settings = KafkaSettings("localhost:9092", loose).producer()

    assert settings["acks"] == "all"
    assert settings["enable.idempotence"] is True
    assert settings["max.in.flight.requests.per.connection"] == 1
    assert settings["partitioner"] == "murmur2_random"
    assert settings["linger.ms"] == "7"


def test_a_report_gives_the_offset_or_the_error() -> None:
    late = KafkaError(KafkaError._MSG_TIMED_OUT)

    assert delivery_result(None, 12) == (None, 12)
    assert delivery_result(late, None) == (late, -1)


def test_an_acknowledgement_without_an_offset_is_no_acknowledgement() -> None:
    error, offset = delivery_result(None, None)

    assert error is not None
    assert "without an offset" in error.str()
    assert offset == -1


def test_a_short_poll_interval_is_accepted_by_every_consumer() -> None:
    """librdkafka refuses an interval shorter than the session timeout, even for consumers without a session."""
    settings = KafkaSettings("localhost:1", {"max.poll.interval.ms": "9000"})

    for properties in (settings.member("g"), settings.asker("g"), settings.reader()):
        Consumer(properties).close()
