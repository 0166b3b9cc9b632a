"""A cluster for each module of system tests, and a user of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Cluster, User

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Agency, two TaskGroups and an EventManager as separate processes."""
    folder = tmp_path_factory.mktemp("cluster")
    prefix = f"s{os.getpid()}x{os.urandom(3).hex()}."
    environ = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
        "ANABRANCH_TEST_TRACE": str(folder / "trace.txt"),
        "CI": "",
    }
    cluster = Cluster(folder, kafka, redis_url, prefix, environ)
    try:
        cluster.start_all(workers=2, agents="system_agents")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def user(cluster: Cluster) -> Iterator[User]:
    user = User(cluster)
    yield user
    user.close()
