"""All services on a Kafka with TLS, SASL and ACLs and a Redis with TLS and an ACL user, at debug level.

One request from end to end; then every secret is searched for in all output, records and keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from cluster import Cluster, User
from servers.process import ServerHandle, ServerUnavailableError
from servers.secure_kafka import SecureKafka, secure_kafka
from servers.tls_proxy import tls_proxy

PREFIX = "sec."
SECRETS = {
    "ANABRANCH_KAFKA_SASL_PASSWORD": "kafka-5ecret-password",
    "ANABRANCH_REDIS_PASSWORD": "redis-5ecret-password",
    "ANABRANCH_KAFKA_SSL_KEY_PASSWORD": "key-5ecret-password",
    "ANABRANCH_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "oauth-5ecret-password",
    "A_SECRET_OF_AN_AGENT": "agent-5ecret-password",
}
MARK = b"5ecret"
RIGHTS = "~sec.* ~session:* &sec.* &session:* -@all +@read +@write +@scripting +@connection +@pubsub +info"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@dataclass
class Secured:
    """The installation, with clients that bypass its access control for inspection."""

    cluster: Cluster
    open: Cluster


def variables(secure: SecureKafka) -> dict[str, str]:
    properties = secure.scram_properties("service", "")
    del properties["sasl.password"]
    named = {f"ANABRANCH_KAFKA_{name.replace('.', '_').upper()}": value for name, value in properties.items()}
    return {
        **named,
        **SECRETS,
        "ANABRANCH_REDIS_USERNAME": "service",
        "ANABRANCH_REDIS_CA_FILE": str(secure.authority.file),
        "ANABRANCH_LOG_LEVEL": "DEBUG",
        "CI": "",
    }


def admit(secure: SecureKafka, redis_url: str) -> None:
    """The user `service` on both servers, with the permissions in the docs."""
    secure.add_user("service", SECRETS["ANABRANCH_KAFKA_SASL_PASSWORD"])
    secure.allow("service", PREFIX)
    admin = redis.Redis.from_url(redis_url)
    password = SECRETS["ANABRANCH_REDIS_PASSWORD"]
    admin.execute_command("ACL", "SETUSER", "service", "on", f">{password}", "resetchannels", *RIGHTS.split())
    admin.close()


@pytest.fixture
def secured(tmp_path: Path, redis_process: ServerHandle) -> Iterator[Secured]:
    with ExitStack() as stack:
        try:
            secure = secure_kafka(tmp_path / "secure" / "data")
            stack.callback(secure.broker.stop)
            secure.broker.start()
        except ServerUnavailableError as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"CI needs every server: {missing}")
            pytest.skip(str(missing))
        admit(secure, redis_process.address)
        host, port = urlsplit(redis_process.address).netloc.split(":")
        before = stack.enter_context(tls_proxy(secure.certificate, host, int(port)))
        folder = tmp_path / "cluster"
        folder.mkdir()
        url = f"rediss://127.0.0.1:{before}/0"
        cluster = Cluster(folder, secure.scram, url, PREFIX, variables(secure))
        stack.callback(cluster.stop)
        cluster.start_all(workers=1)
        yield Secured(cluster, replace(cluster, brokers=secure.broker.address, redis_url=redis_process.address))


REQUEST = {
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {"name": "a", "agent": "echo", "inputs": {"n": 1}, "result_keys": ["one"]},
                {"name": "b", "agent": "fail", "inputs": {"times": 1, "value": 2}, "result_keys": ["two"]},
            ],
        }
    ]
}


def test_a_request_runs_over_tls_sasl_and_acls_and_no_secret_leaks(secured: Secured) -> None:
    cluster = secured.cluster
    user = User(secured.open, ("results", "events", "dead-letters", "runs", "groups", "tasks"))
    try:
        final = user.run({**REQUEST, "request_id": "first"}, 90)
        assert (final["status"], final["results"]["one"]) == ("failed", {"n": 1})
        user.produce(b"{no request")
        user.await_records(lambda seen: seen.kind == "run.rejected")
        shown = [cluster.run("status", "first"), cluster.run("list"), cluster.run("result", "first", "one")]
        assert [each.returncode for each in shown] == [0, 0, 1], shown
        refused = [
            replace(cluster, environ={**cluster.environ, name: f"wrong-{MARK.decode()}-one"}).run(*command)
            for name, *command in (
                ("ANABRANCH_KAFKA_SASL_PASSWORD", "topics", "create"),
                ("ANABRANCH_REDIS_PASSWORD", "list"),
            )
        ]
        assert [each.returncode for each in refused] == [2, 2], [each.stderr for each in refused]
        printed = "".join(each.stdout + each.stderr for each in [*shown, *refused]).encode()
        logs = b"".join(process.log.read_bytes() for process in cluster.processes)
        records = b"".join(seen.value + repr(seen.headers).encode() for seen in user.seen)
        stored = repr([(key, user.redis.dump(key)) for key in user.redis.scan_iter()]).encode()
    finally:
        user.close()

    assert b"DEBUG" in logs
    assert b"first" in records
    for name, text in (("printed", printed), ("logs", logs), ("records", records), ("stored", stored)):
        lines = [line for line in text.splitlines() if MARK in line]
        assert not lines, (name, lines[:3])
