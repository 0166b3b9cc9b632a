"""Kafka properties in librdkafka's names, translated for Faust."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch_eventmanager.drivers.faust_oauth import Tokens, tokens, unsecured_token
from anabranch_eventmanager.drivers.faust_security import faust_options, tls_context


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
    ("properties", "message"),
    [
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "GSSAPI"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "no source of tokens"),
        (
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": "https://id.test/token",
                "sasl.oauthbearer.client.id": "me",
            },
            "client.secret: is missing",
        ),
        ({"security.protocol": "TLS"}, "security.protocol"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}, "certificate"),
        ({"security.protocol": "SSL", "ssl.key.pem": "-----BEGIN"}, "ssl.key.location"),
        ({"session.timeout.ms": "soon"}, "not a number"),
    ],
)
def test_unsupported_properties_are_refused(properties: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        faust_options(properties)


def read(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "==="))


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    monotonic = now


def test_an_unsecured_token_has_principal_and_expiry() -> None:
    token, seconds = unsecured_token("principal=me scope=a", 1_000.0)

    head, claims, signature = (
        json.loads(base64.urlsafe_b64decode(part + "===") or "null") for part in token.split(".")
    )
    assert (head, claims["sub"], claims["exp"], signature) == ({"alg": "none"}, "me", 1_000.0 + seconds, None)
    with pytest.raises(Misconfigured, match="principal="):
        unsecured_token("", 0.0)


async def test_a_token_is_kept_until_it_is_about_to_expire() -> None:
    clock, made = Watch(), iter(["first", "second"])
    kept = Tokens(lambda: (next(made), 600.0), clock)

    assert [await kept.token(), await kept.token()] == ["first", "first"]
    clock.seconds = 541.0
    assert await kept.token() == "second"


@pytest.fixture
def provider() -> Iterator[tuple[str, list[str]]]:
    """An identity provider with one client, which records its requests."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            good = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")) == b"me:s3cret"
            self.send_response(200 if good else 401)
            self.end_headers()
            self.wfile.write(b'{"access_token": "t", "expires_in": 300}' if good else b"s3cret is wrong")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/token", asked
    server.shutdown()
    thread.join()
    server.server_close()


def oidc(url: str, secret: str) -> dict[str, str]:
    return {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": url,
        "sasl.oauthbearer.client.id": "me",
        "sasl.oauthbearer.client.secret": secret,
        "sasl.oauthbearer.scope": "kafka",
    }


async def test_a_token_is_fetched_with_the_clients_credentials(
    provider: tuple[str, list[str]],
) -> None:
    url, asked = provider

    assert await tokens(oidc(url, "s3cret"), Watch()).token() == "t"
    assert asked[0] == "grant_type=client_credentials&scope=kafka"


async def test_a_refusal_of_the_provider_says_no_secret(provider: tuple[str, list[str]]) -> None:
    with pytest.raises(ServerUnavailable, match="HTTPError") as refused:
        await tokens(oidc(provider[0], "wr0ng"), Watch()).token()
    shown = f"{refused.value!r} {refused.value} {refused.value.__cause__}"
    assert "wr0ng" not in shown
    assert "s3cret" not in shown
