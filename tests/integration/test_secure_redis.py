"""TLS and ACL users on a Redis: accepted and refused clients, and their errors. A proxy of the test terminates
TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from servers.certificates import Authority
from servers.process import ServerHandle, ServerUnavailableError
from servers.tls_proxy import tls_proxy

from anabranch.adapters.redis.notifier import RedisNotifier
from anabranch.adapters.redis.store import RedisStore
from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable, StoreRefused
from anabranch.ports import Fence, Write
from anabranch.runtime.process.connections import redis_pair
from anabranch.runtime.process.settings import Settings

RIGHTS = (
    "~anabranch.* ~session:* &anabranch.* &session:* -@all +@read +@write +@scripting +@connection +@pubsub +info"
)
"""The same as in docs/security.md."""


@pytest.fixture
def address(redis_process: ServerHandle) -> str:
    """host:port of a server with the users `service`, with a service's permissions, and `reader`."""
    address = urlsplit(redis_process.address).netloc
    admin = redis.Redis.from_url(redis_process.address)
    rights = RIGHTS.split()
    admin.execute_command(
        "ACL", "SETUSER", "service", "on", ">pw-of-service", "resetkeys", "resetchannels", *rights
    )
    admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw-of-reader", "~*", "-@all", "+@connection", "+get")
    admin.execute_command("ACL", "SETUSER", "default", "off")
    admin.close()
    return address


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    try:
        return Authority(tmp_path / "certificates")
    except ServerUnavailableError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def tls_address(address: str, authority: Authority) -> Iterator[str]:
    host, port = address.split(":")
    with tls_proxy(authority.issue("redis"), host, int(port)) as before:
        yield f"127.0.0.1:{before}"


async def refused(url: str, ca_file: str | None = None) -> AnabranchError:
    with pytest.raises(AnabranchError) as caught:
        await RedisStore.connect(url, ca_file=ca_file, timeout=5)
    assert "pw-of" not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    return caught.value


async def test_a_user_with_the_documented_rights_can_do_all_that_services_do(address: str) -> None:
    settings = Settings(redis_url=f"redis://{address}", redis_username="service", redis_password="pw-of-service")
    store, notifier = await redis_pair(settings)
    try:
        await store.put([Write("session:{s}:a", b"1", 60.0)], Fence("anabranch.{s}:fence", 1, 60.0))
        assert await store.get(["session:{s}:a"]) == [b"1"]
        assert await store.claim(["anabranch.{s}:claim:1"], "me", 60.0) == ["me"]
        await store.release(["anabranch.{s}:claim:1"], "me")
        await store.expire(["session:{s}:a"], 30.0)
        await store.index_add("anabranch.{list}:runs", {"r": 1.0}, keep=10, ttl=60.0)
        assert await store.delete(["session:{s}:a"]) == 1
        assert await store.identity()
        await store.check()
    finally:
        await notifier.close()
        await store.close()


async def test_a_wrong_password_is_a_wrong_setting(address: str) -> None:
    error = await refused(f"redis://service:pw-of-nobody@{address}")

    assert isinstance(error, Misconfigured)
    assert "user and password" in str(error)


async def test_no_password_where_one_is_needed_is_a_wrong_setting(address: str) -> None:
    error = await refused(f"redis://{address}")

    assert isinstance(error, Misconfigured)


async def test_the_error_of_a_user_without_a_permission_names_it(address: str) -> None:
    store = await RedisStore.connect(f"redis://reader:pw-of-reader@{address}")
    try:
        with pytest.raises(StoreRefused, match="ACL"):
            await store.put([Write("session:{s}:a", b"1", 60.0)])
    finally:
        await store.close()


async def test_tls_with_a_ca_file(tls_address: str, authority: Authority) -> None:
    url = f"rediss://service:pw-of-service@{tls_address}"
    store = await RedisStore.connect(url, ca_file=str(authority.file))
    notifier = await RedisNotifier.connect(url, ca_file=str(authority.file))
    try:
        await store.put([Write("session:{s}:a", b"x" * 300_000, 60.0)])
        assert await store.get(["session:{s}:a"]) == [b"x" * 300_000]
    finally:
        await notifier.close()
        await store.close()


async def test_a_certificate_of_an_unknown_authority_is_refused(tls_address: str) -> None:
    error = await refused(f"rediss://service:pw-of-service@{tls_address}")

    assert isinstance(error, Misconfigured)
    assert "ANABRANCH_REDIS_CA_FILE" in str(error)


async def test_a_certificate_for_another_name_is_refused(address: str, authority: Authority) -> None:
    host, port = address.split(":")
    with tls_proxy(authority.issue("elsewhere", "127.0.0.9"), host, int(port)) as before:
        error = await refused(f"rediss://service:pw-of-service@127.0.0.1:{before}", str(authority.file))

    assert isinstance(error, Misconfigured)


async def test_tls_to_a_server_without_it_is_reported(address: str, authority: Authority) -> None:
    error = await refused(f"rediss://service:pw-of-service@{address}", str(authority.file))

    assert isinstance(error, ServerUnavailable)
    assert f"rediss://{address}" in str(error)
