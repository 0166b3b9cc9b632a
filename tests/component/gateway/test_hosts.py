"""Host and path checks of the gateway: malformed and refused ones, and the headers of every response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from gateways import HELLO, Running, gateway

from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.http.hosts import Hosts, host_of

OPEN = replace(Settings(), gateway_host="0.0.0.0", gateway_auth="none")


async def raw(running: Running, head: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response to a raw request."""
    port = int(running.service.url.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = "\r\n" if "connection: " in head else "connection: close\r\n\r\n"
    writer.write((head + end).encode("latin-1"))
    answer = await reader.read()
    writer.close()
    top, _, content = answer.partition(b"\r\n\r\n")
    status, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, content


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("Example.ORG.:8321", "example.org"),
        ("my_service", "my_service"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8321", "::1"),
        ("a:", "a"),
        *(
            (wrong, None)
            for wrong in (
                "", " ", "a b", "a:b", "a:99999", "a:-1", "a:1:2", "user@a", "a/b", "a?b", "a,b", "::1", "[::1",
                "[::g]", "[1.2.3.4]", "[::1]x", "a..b", ".a", "a\0", "h\xe4user", "http://a", "[fe80::1%25e]",
            )
        ),
    ],
)  # fmt: skip
def test_a_host_header_is_a_host_with_an_optional_port(header: str, host: str | None) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("listed", "allowed", "refused"),
    [
        (["a.example"], "a.example localhost 127.0.0.1 ::1", "b.example x.a.example 10.0.0.1"),
        (["*.a.example"], "x.a.example y.x.a.example", "a.example xa.example"),
        (["10.0.0.0/8", "fd00::/8", "1.2.3.4"], "10.1.2.3 fd00::1 1.2.3.4", "11.0.0.1 fe80::1 1.2.3.5 a.example"),
        (["*"], "a.example 10.0.0.1", ""),
    ],
)
def test_hosts_are_allowed_as_they_are_listed(listed: list[str], allowed: str, refused: str) -> None:
    hosts = Hosts.parse(listed)

    assert [host for host in allowed.split() if not hosts.allow(host)] == []
    assert [host for host in refused.split() if hosts.allow(host)] == []


@pytest.mark.parametrize("entry", ["http://a.example", "a.example:80", "a*.example", "*.", "a b"])
async def test_an_invalid_list_of_hosts_ends_the_start(entry: str) -> None:
    with pytest.raises(Misconfigured, match="gateway_allowed_hosts"):
        async with gateway(replace(Settings(), gateway_allowed_hosts=(entry,))):
            raise AssertionError("it started")


async def status_of(running: Running, host: str, path: str = "/v1/whoami") -> int:
    return (await running.http.get(path, headers={"host": host})).status_code


async def test_an_open_gateway_beyond_this_machine_answers_to_addresses_and_its_own_names() -> None:
    async with gateway(OPEN) as running:
        hosts = (
            "localhost:8321",
            "127.0.0.1",
            "10.1.2.3:80",
            "[fd00::1]",
            "evil.example",
            "localhost.evil.example",
        )
        statuses = {host: await status_of(running, host) for host in hosts}
        probe = await status_of(running, "evil.example", "/livez")
        written = await running.http.post("/v1/runs", json=HELLO, headers={"host": "evil.example"})
        framed = await running.http.post(
            "/v1/plan", json=HELLO, headers={"host": "localhost", "origin": "https://evil.example"}
        )

    assert statuses == dict(zip(hosts, (200, 200, 200, 200, 403, 403), strict=True))
    assert (probe, written.status_code, framed.status_code) == (200, 403, 403)
    assert written.json()["code"] == "forbidden"
    assert "gateway_allowed_hosts" in written.json()["detail"]


async def test_a_gateway_that_lists_its_hosts_answers_to_those() -> None:
    async with gateway(replace(OPEN, gateway_allowed_hosts=("anabranch.example",))) as running:
        hosts = ("anabranch.example", "ANABRANCH.example:8321", "localhost", "10.1.2.3", "evil.example")
        statuses = [await status_of(running, host) for host in hosts]
        own = await running.http.post(
            "/v1/plan", json=HELLO, headers={"host": "anabranch.example", "origin": "https://anabranch.example"}
        )

    assert statuses == [200, 200, 200, 403, 403]
    assert own.status_code == 200


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway(OPEN) as started:
        yield started


ODD_HOSTS = [
    "",
    "host: \r\n",
    "host: a b\r\n",
    "host: localhost\r\nhost: localhost\r\n",
    "host: localhost\r\nhost: evil.example\r\n",
    "host: localhost:port\r\n",
    "host: localhost:99999\r\n",
    "host: me@localhost\r\n",
    "host: [::1\r\n",
    "host: localhost/x\r\n",
    "host: \xe4\r\n",
    "host: localhost, evil.example\r\n",
]


@pytest.mark.parametrize("path", ["/v1/whoami", "/", "/assets/main.js", "/nowhere"])
async def test_an_odd_host_is_refused_with_400(running: Running, path: str) -> None:
    for headers in ODD_HOSTS:
        status, sent_headers, body = await raw(running, f"GET {path} HTTP/1.1\r\n{headers}")

        assert status == 400, headers
        assert sent_headers["content-type"] == "application/problem+json"
        assert sent_headers["x-content-type-options"] == "nosniff"
        assert orjson.loads(body)["code"] == "bad_host"


async def test_a_path_with_control_characters_or_of_excessive_length_is_refused_with_400(running: Running) -> None:
    long = "/assets/" + "a" * 5_000
    for path in ("/assets/%00", "/assets/a%00.js", "/%00", "/v1/runs/%0a", long, "/v1/runs/%1b%5d0;x", "/%7f"):
        status, sent_headers, body = await raw(running, f"GET {path} HTTP/1.1\r\nhost: localhost\r\n")

        assert (status, orjson.loads(body)["code"]) == (400, "bad_path"), path
        assert sent_headers["x-content-type-options"] == "nosniff"


async def test_only_the_files_of_the_dashboard_are_served(running: Running) -> None:
    for path in (
        "..%2findex.html",
        "../index.html",
        "%2e%2e/%2e%2e/web.py",
        "a" * 3_000,
        "css",
        "",
        "/etc/passwd",
    ):
        status, _, _ = await raw(running, f"GET /assets/{path} HTTP/1.1\r\nhost: localhost\r\n")

        assert status == 404, path


async def test_a_probe_without_a_host_is_answered(running: Running) -> None:
    status, sent_headers, _ = await raw(running, "GET /livez HTTP/1.0\r\n")

    assert (status, sent_headers["x-content-type-options"]) == (200, "nosniff")


async def test_every_response_has_nosniff_once(running: Running) -> None:
    paths = (
        "/",
        "/assets/main.js",
        "/assets/none",
        "/livez",
        "/openapi.json",
        "/v1/whoami",
        "/v1/runs/none",
        "/no",
    )
    for path in paths:
        for method in ("GET", "HEAD", "POST", "TRACE"):
            answer = await running.http.request(method, path)

            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], (method, path)


async def test_a_websocket_of_another_host_or_page_is_refused_in_its_handshake(running: Running) -> None:
    upgrade = (
        "GET /v1/events/ws HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nconnection: upgrade\r\n"
    )
    for headers, expected in (
        ("host: evil.example\r\n", 403),
        ("host: localhost\r\norigin: https://evil.example\r\n", 403),
        ("host: a b\r\n", 400),
        ("host: localhost\r\nhost: localhost\r\n", 400),
    ):
        status, sent_headers, _ = await raw(running, upgrade + headers)

        assert status == expected, headers
        assert sent_headers["x-content-type-options"] == "nosniff"
