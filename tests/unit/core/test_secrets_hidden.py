"""No message, repr or log line contains a secret, whatever is wrong with the settings that have it."""

from __future__ import annotations

import io
import logging
import traceback
from pathlib import Path

import pytest

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.redis.connection import RedisAddress
from anabranch.core.errors import AnabranchError, Misconfigured
from anabranch.runtime.process.connections import redis_url
from anabranch.runtime.process.logs import set_up_logging
from anabranch.runtime.process.settings import Settings

SECRET = "hunter2horse"
URLS = [
    f"redis://user:{SECRET}@h:6379/0",
    f"redis://:{SECRET}@h",
    f"rediss://h?password={SECRET}",
    f"http://user:{SECRET}@h",
    f"redis://user:{SECRET}/more@h:6379/0",
    f"redis://user:{SECRET}#more@h:6379/0",
    f"redis://user:{SECRET}?more@h:6379/0",
    f"redis://user:more/{SECRET}@h:6379/0",
    f"redis://user:more#{SECRET}@h:6379/0",
    f"redis://user:{SECRET}",
    f"{SECRET}",
]


def text_of(error: BaseException) -> str:
    chain = [error, error.__cause__, None if error.__suppress_context__ else error.__context__]
    return " ".join(f"{each} {each!r} {each.args}" for each in chain if each is not None)


def error_of_settings(**environ: str) -> str:
    try:
        settings = Settings.load(environ)
    except Misconfigured as error:
        return text_of(error)
    return f"{settings} {settings!r} {settings.shown()}"


@pytest.mark.parametrize("url", URLS[:-2])
def test_errors_of_settings_do_not_contain_the_password_of_a_url(url: str) -> None:
    assert SECRET not in error_of_settings(ANABRANCH_REDIS_URL=url)


@pytest.mark.parametrize("url", URLS[:-2])
async def test_errors_of_a_redis_address_do_not_contain_its_password(url: str) -> None:
    address = RedisAddress(url, timeout=0.01)

    with pytest.raises(AnabranchError) as refused:
        await address.connect()
    assert SECRET not in f"{address} {address!r} {text_of(refused.value)}"


@pytest.mark.parametrize(
    "variable",
    [
        "REDIS_PASSWORD",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_KEY_PASSWORD",
        "KAFKA_SSL_KEY_PEM",
        "KAFKA_SSL_KEYSTORE_PASSWORD",
        "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET",
        "KAFKA_SASL_OAUTHBEARER_CONFIG",
        "KAFKA_SASL_JAAS_CONFIG",
    ],
)
def test_secret_settings_are_masked(variable: str) -> None:
    text = error_of_settings(**{f"ANABRANCH_{variable}": SECRET})

    assert SECRET not in text
    assert "***" in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("anabranch.yaml", f"redis_password: {SECRET}: x\n"),
        ("anabranch.yaml", f'redis_password: "{SECRET}\n'),
        ("anabranch.yaml", f"kafka_sasl_password: [{SECRET}]\n"),
        ("anabranch.toml", f"redis_password = {SECRET}\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_quoted(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(Misconfigured) as refused:
        Settings.load({}, file)
    assert SECRET not in text_of(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert name in str(refused.value)


def test_properties_are_not_shown_with_the_clients_settings() -> None:
    assert SECRET not in repr(KafkaSettings("b:1", {"sasl.password": SECRET}))


def test_a_separately_set_password_is_only_in_the_url_that_connects() -> None:
    settings = Settings(redis_password=SECRET)

    assert SECRET in redis_url(settings)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "ERROR"])
def test_logins_are_not_logged_at_any_level(level: str) -> None:
    stream = io.StringIO()
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    try:
        set_up_logging(level, "text", stream)
        logging.getLogger("aiokafka.conn").debug("%s Request %d: %s", "broker", 1, f"sasl_auth_bytes={SECRET}")
        logging.getLogger("aiokafka.conn").error("it failed")
    finally:
        root.handlers[:] = before
        root.setLevel(logging.WARNING)
    assert SECRET not in stream.getvalue()
    assert "it failed" in stream.getvalue()
