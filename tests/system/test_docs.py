"""Runs every code block of the documentation, page by page, so that examples work as written.

Blocks that cannot be run here give a reason in their info string; the list of reasons is closed, and printed.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from command_zygote import zygote
from doc_blocks import blocks_of
from doc_pages import Page
from source_tree import ROOT, shown

PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "sh", "yaml", "json", "text", "mermaid", "toml", "go", "java", "js", "dockerfile"}
REASONS = {
    "clones and installs",
    "needs a container engine",
    "needs a cluster",
    "needs Kafka's own tools",
    "needs redis-cli",
    "needs a Go toolchain",
    "needs a JDK and the Kafka client",
    "needs Node and kafkajs",
    "measures for minutes",
    "is the project's own make",
    "changes the reader's shell",
    "Celery's side",
    "Airflow's side",
    "ids of the reader's own",
}
DEFAULT_PREFIX = "anabranch."

EVERY = [block for page in PAGES for block in blocks_of(page)]
RUN = [
    page for page in PAGES if any(block.language in ("python", "sh", "yaml", "json") for block in blocks_of(page))
]


@pytest.fixture(scope="module")
def installation(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The services under the default names, which the pages use."""
    cluster = Cluster(tmp_path_factory.mktemp("docs"), kafka, redis_url, DEFAULT_PREFIX)
    try:
        cluster.start_all(workers=1)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with zygote(tmp_path_factory.mktemp("command")) as program:
        yield program


@pytest.fixture
def page(installation: Cluster, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    own = {
        "ANABRANCH_BROKERS": installation.brokers,
        "ANABRANCH_REDIS_URL": installation.redis_url,
        "ANABRANCH_GATEWAY_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NO_COLOR": "1",
    }
    for name in ("ANABRANCH_BROKERS", "ANABRANCH_REDIS_URL"):
        monkeypatch.setenv(name, own[name])
    replaced = {
        "redis://localhost:6379/0": installation.redis_url,
        "localhost:9092": installation.brokers,
        "127.0.0.1:8321": f"127.0.0.1:{port}",
        "--port 8321": f"--port {port}",
    }
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    made = Page(tmp_path, {**os.environ, **own}, replaced, command)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("path", [pytest.param(path, id=shown(path)) for path in RUN])
def test_the_code_blocks_of_a_page_work(installation: Cluster, page: Page, path: Path) -> None:
    for block in blocks_of(path):
        if block.skip is None:
            try:
                page.run(block)
            except Exception as error:
                where = f"{shown(path)}, the block at line {block.line}"
                raise AssertionError(f"{where}: {error}\n{page.logs()}\n{installation.logs()}") from error


def test_blocks_that_are_not_run_have_a_reason_from_the_list() -> None:
    reasons = Counter(block.skip for block in EVERY if block.skip is not None)
    for reason, times in sorted(reasons.items()):
        print(f"{times:3} not run: {reason}")

    assert set(reasons) <= REASONS
    assert sum(reasons.values()) <= len(EVERY) / 3


def test_blocks_are_of_a_language_that_is_checked() -> None:
    strange = [
        f"{shown(block.path)}:{block.line}"
        for block in EVERY
        if block.language not in LANGUAGES or not set(block.attributes) <= {"title", "skip", "output"}
    ]

    assert strange == []
