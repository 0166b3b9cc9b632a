"""Translates librdkafka's errors to the errors of `core.errors`."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException

from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable

_NO_TOPIC = {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
}
_DENIED: Mapping[int, str] = {
    KafkaError._AUTHENTICATION: "Correct the mechanism, user and password: ANABRANCH_KAFKA_SASL_...",
    KafkaError._SSL: "Correct the CA file, or the certificate and key of this client: ANABRANCH_KAFKA_SSL_...",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "Give this user Create, Describe, DescribeConfigs, Read and Write on the topics that begin with the prefix"
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "Give this user Describe and Read on the consumer groups that begin with the prefix"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "Give this user Write on the topics that begin with the prefix, before Kafka 2.8 also IdempotentWrite"
    ),
}
"""Errors that mean a denial by Kafka or TLS, and the fix for each."""
_AUTHENTICATION = {KafkaError.SASL_AUTHENTICATION_FAILED: KafkaError._AUTHENTICATION}
_CHECK_ADDRESS = "Check that the broker runs and that ANABRANCH_BROKERS names it"


def error_of(exception: KafkaException) -> KafkaError:
    """The KafkaError that an exception carries."""
    error: KafkaError = exception.args[0]
    return error


def is_denied(error: KafkaError) -> bool:
    """True if a retry cannot help, because credentials, certificates or permissions are wrong."""
    return _kind(error) in _DENIED


def _kind(error: KafkaError) -> int:
    return _AUTHENTICATION.get(error.code(), error.code())


def translate(error: KafkaError, brokers: str, what: str) -> AnabranchError:
    """The error to raise for the operation `what`, which failed in librdkafka with `error`."""
    if error.code() in _NO_TOPIC:
        return Misconfigured(what, f"the topic or partition does not exist: {error.str()}", "create it first")
    if is_denied(error):
        return Misconfigured(what, f"Kafka denied it: {error.str().rstrip('.')}", _DENIED[_kind(error)])
    return ServerUnavailable("Kafka", brokers, f"{what}: {error.str()}", _CHECK_ADDRESS)


def unreachable(brokers: str, seconds: float, detail: str, seen: KafkaError | None = None) -> AnabranchError:
    """The error of a first connection without a response; `seen` is the last error event of the client."""
    if seen is not None and is_denied(seen):
        return translate(seen, brokers, f"connecting to Kafka at {brokers}")
    if seen is not None:
        detail = f"{detail}; {seen.str()}"
    reason = f"no broker answered within {seconds:g} s ({detail})"
    return ServerUnavailable("Kafka", brokers, reason, f"{_CHECK_ADDRESS}, and that security.protocol fits it")
