"""TLS, SASL and ACLs on a broker that requires them, and the errors of refused clients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import pytest
from servers.process import ServerUnavailableError
from servers.secure_kafka import SecureKafka, secure_kafka
from waiting import eventually

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Committed, Incoming, Outgoing, TopicSpec

SECONDS = 20.0
TURNED_AWAY_SECONDS = 3.0


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    try:
        made = secure_kafka(tmp_path_factory.mktemp("secure") / "data")
        made.broker.start()
    except ServerUnavailableError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs every server: {missing}")
        pytest.skip(str(missing))
    try:
        made.add_user("service", "pw-of-service")
        made.add_user("stranger", "pw-of-stranger")
        made.allow("service", "sec.")
        yield made
    finally:
        made.broker.stop()


def service(secure: SecureKafka) -> dict[str, str]:
    return secure.scram_properties("service", "pw-of-service")


async def used(where: str, properties: Mapping[str, str], topic: str) -> int:
    """The offset of a record that was published to a newly created topic and read again."""
    log = await KafkaLog.connect(where, properties=properties, timeout=SECONDS)
    try:
        await log.create_topics([TopicSpec(topic, 1)])
        [offset] = await log.publish([Outgoing(topic, "key", b"value")])
        async with log.read(topic, start="earliest") as reader:
            async for [record] in reader:
                assert (record.key, record.value) == (b"key", b"value")
                break
        return offset
    finally:
        await log.close()


async def test_scram_over_tls(secure: SecureKafka) -> None:
    assert await used(secure.scram, service(secure), "sec.scram") == 0


async def test_a_bearer_token(secure: SecureKafka) -> None:
    secure.allow("bearer", "sec.")

    assert await used(secure.oauth, secure.oauth_properties("bearer"), "sec.oauth") == 0


async def test_a_clients_certificate(secure: SecureKafka) -> None:
    secure.allow("CN=worker", "sec.")
    properties = secure.mtls_properties(secure.authority.issue("worker"))

    assert await used(secure.mtls, properties, "sec.mtls") == 0


async def error_of(where: str, properties: Mapping[str, str]) -> str:
    with pytest.raises((Misconfigured, ServerUnavailable)) as refused:
        await KafkaLog.connect(where, properties=properties, timeout=TURNED_AWAY_SECONDS)
    assert "pw-of" not in str(refused.value)
    return f"{type(refused.value).__name__} {refused.value}"


async def test_a_wrong_password_is_not_reported_as_an_unavailable_server(secure: SecureKafka) -> None:
    error = await error_of(secure.scram, secure.scram_properties("service", "pw-of-nobody"))

    assert error.startswith("Misconfigured")
    assert "ANABRANCH_KAFKA_SASL" in error


async def test_an_unknown_authority_is_named(secure: SecureKafka) -> None:
    properties = service(secure)
    del properties["ssl.ca.location"]

    error = await error_of(secure.scram, properties)

    assert error.startswith("Misconfigured")
    assert "ssl.ca.location" in error


async def test_a_missing_client_certificate_is_reported(secure: SecureKafka) -> None:
    properties = secure.mtls_properties(secure.certificate)
    del properties["ssl.certificate.location"], properties["ssl.key.location"]

    assert "certificate" in await error_of(secure.mtls, properties)


async def test_plain_text_to_a_listener_with_tls_is_reported(secure: SecureKafka) -> None:
    assert "security.protocol" in await error_of(secure.scram, {})


async def test_the_error_of_a_user_without_permissions_has_the_topic_and_the_fix(secure: SecureKafka) -> None:
    await used(secure.scram, service(secure), "sec.closed")
    properties = secure.scram_properties("stranger", "pw-of-stranger")
    log = await KafkaLog.connect(secure.scram, properties=properties, timeout=SECONDS)
    try:
        for refused in (
            log.partition_count("sec.closed"),
            log.create_topics([TopicSpec("sec.other", 1)]),
            log.publish([Outgoing("sec.closed", "key", b"value")]),
        ):
            with pytest.raises(Misconfigured, match=r"sec\.(closed|other).*Give this user .* the prefix"):
                await refused
    finally:
        await log.close()


class Unassigned:
    """The listener of a group member that is never admitted."""

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        raise AssertionError(f"{topic} {partition} was assigned to a user without permissions")

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        raise AssertionError(f"{topic} {partition} was never assigned")

    async def lost(self, topic: str, partition: int) -> None:
        raise AssertionError(f"{topic} {partition} was never assigned")

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        raise AssertionError(f"{len(records)} records of {topic} {partition}")


async def test_missing_group_permissions_make_the_member_unhealthy(secure: SecureKafka) -> None:
    await used(secure.scram, service(secure), "sec.read")
    log = await KafkaLog.connect(secure.scram, properties=service(secure), timeout=SECONDS)
    try:
        member = await log.join("another.group", ["sec.read"], Unassigned())
        await eventually(member.unhealthy_reason)
        assert "another.group" in str(member.unhealthy_reason())
        assert "consumer groups that begin with the prefix" in str(member.unhealthy_reason())
    finally:
        await log.close()
