"""What librdkafka's errors mean here: the translation into the system's own error tree, in one place."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable

_NO_TOPIC = {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
}
_DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_CHECK_ADDRESS = "Check that the broker runs and that ANABRANCH_BROKERS names it"


def error_of(exception: KafkaException) -> KafkaError:
    """The KafkaError that an exception carries."""
    error: KafkaError = exception.args[0]
    return error


def translate(error: KafkaError, brokers: str, what: str) -> AnabranchError:
    """The error to raise for `what`, which librdkafka gave up with `error`."""
    if error.code() in _NO_TOPIC:
        return Misconfigured(what, f"the topic or partition does not exist: {error.str()}", "create it first")
    if error.code() in _DENIED:
        return Misconfigured(what, f"Kafka denied it: {error.str()}", "correct the credentials or the ACLs")
    return ServerUnavailable("Kafka", brokers, f"{what}: {error.str()}", _CHECK_ADDRESS)


def unreachable(brokers: str, seconds: float, detail: str) -> ServerUnavailable:
    """For a first connection that nobody answered."""
    return ServerUnavailable(
        "Kafka", brokers, f"no broker answered within {seconds:g} s ({detail})", _CHECK_ADDRESS
    )
