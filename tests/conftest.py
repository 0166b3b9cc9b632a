"""The servers as fixtures. Without one a test is skipped, with the reason; where CI=true it fails."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from servers.finder import find_kafka, find_redis, private_kafka, private_redis
from servers.kafka_trio import KafkaTrio, kafka_trio
from servers.postgres import find_postgres, fresh_database
from servers.process import ServerHandle, ServerUnavailableError

from anabranch.adapters.sql.database import Database

_prefixes = itertools.count(1)

# Tests check behaviour, benchmarks measure time: on a busy machine an example may take any time.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class Startable(Protocol):
    """A server, or a cluster of them."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


Server = TypeVar("Server", bound=Startable)


def _started(find: Callable[[], Server]) -> Iterator[Server]:
    try:
        server = find()
        server.start()
    except ServerUnavailableError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs every server: {missing}")
        pytest.skip(str(missing))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def _own_address_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands of tests find no `anabranch dev` of the user, and those of a test leave no address to others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="session")
def _shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    yield from _started(lambda: find_kafka(tmp_path_factory.mktemp("kafka") / "data"))


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    yield from _started(lambda: find_redis(tmp_path_factory.mktemp("redis") / "data"))


@pytest.fixture(scope="session")
def _shared_postgres() -> Iterator[ServerHandle]:
    yield from _started(find_postgres)


@pytest.fixture
def postgres_url(_shared_postgres: ServerHandle) -> Iterator[str]:
    """URL of an empty database of this test's own on the PostgreSQL that all tests share."""
    with fresh_database(_shared_postgres.address) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of this test's own, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of this test's own with the newest schema, once of each kind."""
    database = Database.open(database_url)
    try:
        database.upgrade()
        yield database
    finally:
        database.close()


@pytest.fixture(scope="session")
def kafka(_shared_kafka: ServerHandle) -> str:
    """Bootstrap servers of the broker that all tests share: name topics with `prefix`, stop nothing."""
    return _shared_kafka.address


@pytest.fixture(scope="session")
def redis_url(_shared_redis: ServerHandle) -> str:
    """URL of the Redis that all tests share: name keys with `prefix`, never FLUSH, stop nothing."""
    return _shared_redis.address


@pytest.fixture
def prefix() -> str:
    """A prefix for topics, groups and keys that no other test, and no other run on the same servers, has."""
    return f"t{os.getpid()}x{next(_prefixes)}x{os.urandom(3).hex()}."


@pytest.fixture
def server_settings(request: pytest.FixtureRequest) -> Mapping[str, Mapping[str, str]]:
    """What `@pytest.mark.server_settings(kafka={...}, redis={...})` sets on the test's own servers."""
    marker = request.node.get_closest_marker("server_settings")
    return marker.kwargs if marker else {}


@pytest.fixture
def broker_process(
    tmp_path: Path,
    server_settings: Mapping[str, Mapping[str, str]],
) -> Iterator[ServerHandle]:
    """A broker of this test's own, running, and all the faults of a ServerHandle."""
    yield from _started(lambda: private_kafka(tmp_path / "kafka" / "data", server_settings.get("kafka")))


@pytest.fixture
def redis_process(tmp_path: Path, server_settings: Mapping[str, Mapping[str, str]]) -> Iterator[ServerHandle]:
    """A Redis of this test's own, running: `address` (a URL), and the same faults as `broker_process`.

    It keeps nothing over a restart unless the test is marked with `redis={"appendonly": "yes"}`.
    """
    yield from _started(lambda: private_redis(tmp_path / "redis" / "data", server_settings.get("redis")))


@pytest.fixture
def three_brokers(tmp_path: Path) -> Iterator[KafkaTrio]:
    """A cluster of three brokers of this test's own, running."""
    yield from _started(lambda: kafka_trio(tmp_path / "trio"))


@pytest.fixture
def redis_pair(tmp_path: Path) -> Iterator[tuple[ServerHandle, ServerHandle]]:
    """Two Redis servers of this test's own, running, that do not know each other yet."""
    for first in _started(lambda: private_redis(tmp_path / "first" / "data")):
        for second in _started(lambda: private_redis(tmp_path / "second" / "data")):
            yield first, second
