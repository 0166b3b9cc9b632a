"""Translates the Kafka properties of the installation into options of Faust.

One set of properties, in librdkafka's names, configures all clients; Faust's client is the only other one.
Properties that only tune librdkafka have no counterpart and are ignored.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock

_SECONDS = 0.001

_TUNING: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "client.id": ("broker_client_id", str),
    "session.timeout.ms": ("broker_session_timeout", lambda text: float(text) * _SECONDS),
    "heartbeat.interval.ms": ("broker_heartbeat_interval", lambda text: float(text) * _SECONDS),
    "max.poll.interval.ms": ("broker_max_poll_interval", lambda text: float(text) * _SECONDS),
    "metadata.max.age.ms": ("consumer_metadata_max_age_ms", int),
    "group.instance.id": ("consumer_group_instance_id", str),
    "linger.ms": ("producer_linger", lambda text: float(text) * _SECONDS),
    "message.max.bytes": ("producer_max_request_size", int),
}
_UNSUPPORTED = ("ssl.certificate.pem", "ssl.key.pem", "ssl.keystore.location")
_FILES = "write PEM files, and name them in ssl.certificate.location and ssl.key.location"
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


def faust_options(properties: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for `faust.App`.

    Raises:
        Misconfigured: Faust does not support a security setting, and must not fall back to a weaker one.
    """
    options: dict[str, Any] = {}
    for name, (option, read) in _TUNING.items():
        if name in properties:
            options[option] = _read(name, properties[name], read)
    credentials = _credentials(properties)
    if credentials is not None:
        options["broker_credentials"] = credentials
    return options


def _read(name: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise Misconfigured(f"kafka property {name}", f"{text!r} is not a number") from error


def _credentials(properties: Mapping[str, str]) -> Any:
    from faust import SASLCredentials, SSLCredentials
    from faust.auth import OAuthCredentials

    from anabranch_eventmanager.drivers.faust_oauth import tokens

    protocol = properties.get("security.protocol", "PLAINTEXT").upper()
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return SSLCredentials(context=tls_context(properties))
    if protocol not in ("SASL_PLAINTEXT", "SASL_SSL"):
        raise Misconfigured(
            "kafka property security.protocol", f"{protocol!r} is not a security protocol of Kafka"
        )
    context = tls_context(properties) if protocol == "SASL_SSL" else None
    mechanism = _mechanism(properties)
    if mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=tokens(properties, SystemClock()), ssl_context=context)
    return SASLCredentials(
        mechanism=mechanism,
        username=properties.get("sasl.username"),
        password=properties.get("sasl.password"),
        ssl_context=context,
    )


def _mechanism(properties: Mapping[str, str]) -> str:
    mechanism = properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism not in _MECHANISMS:
        raise Misconfigured(
            "kafka property sasl.mechanism",
            f"the event manager cannot use {mechanism}",
            f"use one of {', '.join(_MECHANISMS)}",
        )
    return mechanism


def tls_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS settings; without a configured CA the CAs of the system are trusted.

    Raises:
        Misconfigured: a certificate or key cannot be read, or has a form that Python's TLS does not support.
    """
    for name in _UNSUPPORTED:
        if name in properties:
            raise Misconfigured(f"kafka property {name}", "the event manager cannot use it", _FILES)
    try:
        context = ssl.create_default_context(
            cafile=properties.get("ssl.ca.location"), cadata=properties.get("ssl.ca.pem")
        )
        if "ssl.certificate.location" in properties:
            context.load_cert_chain(
                properties["ssl.certificate.location"],
                properties.get("ssl.key.location"),
                properties.get("ssl.key.password"),
            )
    except OSError as error:  # the base class of ssl.SSLError
        raise Misconfigured(
            "kafka property ssl.*", f"a certificate cannot be used: {error}", "correct the locations"
        ) from error
    if properties.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    if properties.get("enable.ssl.certificate.verification", "").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
