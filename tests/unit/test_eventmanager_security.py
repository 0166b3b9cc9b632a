"""Kafka properties in librdkafka's names, translated for Faust."""

from __future__ import annotations

import ssl

import pytest

from anabranch.core.errors import Misconfigured
from anabranch_eventmanager.faust_security import faust_options, tls_context


def test_without_properties_there_are_no_options() -> None:
    assert faust_options({}) == {}


def test_user_and_password_are_taken_over() -> None:
    options = faust_options(
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "secret",
        }
    )

    credentials = options["broker_credentials"]
    assert (credentials.mechanism.value, credentials.username) == ("SCRAM-SHA-512", "me")
    assert credentials.protocol.value == "SASL_PLAINTEXT"


def test_tls_trusts_the_systems_authorities_and_checks_names() -> None:
    credentials = faust_options({"security.protocol": "ssl"})["broker_credentials"]

    assert credentials.context.verify_mode == ssl.CERT_REQUIRED
    assert credentials.context.check_hostname


def test_checks_are_left_out_only_where_that_is_asked_for() -> None:
    assert not tls_context({"ssl.endpoint.identification.algorithm": "none"}).check_hostname
    assert tls_context({"enable.ssl.certificate.verification": "false"}).verify_mode == ssl.CERT_NONE


def test_milliseconds_become_seconds() -> None:
    assert faust_options({"session.timeout.ms": "6000"}) == {"broker_session_timeout": 6.0}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "OAUTHBEARER"),
        ({"security.protocol": "TLS"}, "security.protocol"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}, "certificate"),
        ({"session.timeout.ms": "soon"}, "no number"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(properties: dict[str, str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        faust_options(properties)
