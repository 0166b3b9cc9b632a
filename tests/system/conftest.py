"""Fixtures of system tests: a cluster for each module with a user of it, a system with its dashboard, a
browser."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import BrowserMissingError, chromium
from cluster import Cluster, Start, User, cluster_with_agents
from dev_system import DevSystem, dev_system
from playwright.sync_api import Browser, Route

ASSETS = Path(__file__).parents[2] / "services/gateway/src/anabranch_gateway/dashboard/assets"
ORIGIN = "http://dashboard.test/"


@pytest.fixture(scope="module")
def cluster(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Agency, two TaskGroups and an EventManager as separate processes."""
    folder = tmp_path_factory.mktemp("cluster")
    prefix = f"s{os.getpid()}x{os.urandom(3).hex()}."
    cluster = cluster_with_agents(folder, kafka, redis_url, prefix)
    try:
        cluster.start_all(workers=2, agents="system_agents")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def start(prefix: str, tmp_path: Path) -> Iterator[Start]:
    """Starts an Agency, workers of 8 slots and an EventManager on given servers; `more` are their variables."""
    clusters: list[Cluster] = []

    def start_it(brokers: str, redis_url: str, workers: int = 2, **more: str) -> Cluster:
        clusters.append(cluster_with_agents(tmp_path, brokers, redis_url, prefix, **more))
        clusters[-1].start_all(workers=workers, agents="system_agents", concurrency=8)
        return clusters[-1]

    yield start_it
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def user(cluster: Cluster) -> Iterator[User]:
    user = User(cluster)
    yield user
    user.close()


@pytest.fixture(scope="session")
def dev() -> Iterator[DevSystem]:
    """`anabranch dev` with the agents of `dashboard_agents`."""
    with dev_system("dashboard_agents") as system:
        yield system


# Not a session fixture: while it is open, no asynchronous test can run in this process.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. Without one the test is skipped with the reason, or fails if CI=true."""
    try:
        with chromium() as opened:
            yield opened
    except BrowserMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs a browser: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def compute(browser: Browser) -> Iterator[Callable[..., Any]]:
    """Calls `compute(module, expression, argument)` for a module of the dashboard; in the expression `m` is the
    module and `x` the argument."""
    page = browser.new_page()
    page.route(f"{ORIGIN}**", _serve)
    page.goto(ORIGIN)

    def call(module: str, expression: str, argument: Any = None) -> Any:
        script = f"async x => {{ const m = await import('/{module}'); return {expression}; }}"
        return page.evaluate(script, argument)

    yield call
    page.close()


def _serve(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN)
    if not path:
        route.fulfill(content_type="text/html", body="<!doctype html><title>parts</title>")
        return
    kind = mimetypes.guess_type(path)[0] or "text/javascript"
    route.fulfill(content_type=kind, body=(ASSETS / path).read_text("utf-8"))
