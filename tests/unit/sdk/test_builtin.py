"""The built-in agents; `http` against a local server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from anabranch import GiveUp, Misconfigured, Registry, RetryLater, Task
from anabranch.sdk.builtin import emit
from anabranch.sdk.http_agent import HttpAgent, HttpError
from anabranch.sdk.http_policy import AllowList


def call(name: str, environ: dict[str, str] | None = None, **task: Any) -> Any:
    declared = Registry.builtin(environ or {}).get(name)
    assert declared is not None
    returned = declared.handler(Task(**{"name": "t", **task}))
    return asyncio.run(returned) if declared.is_async else returned


def test_echo_returns_its_inputs_or_else_its_message() -> None:
    assert call("echo", inputs={"a": 1}, message="hello") == {"a": 1}
    assert call("echo", inputs=[], message="hello") == []
    assert call("echo", message="hello") == "hello"


def test_sleep_returns_its_value_after_the_time() -> None:
    assert call("sleep", inputs={"seconds": "1ms", "value": 7}) == 7
    with pytest.raises(GiveUp, match=r"inputs\.seconds"):
        call("sleep", inputs={"seconds": "soon"})


def test_fail_fails_the_first_attempts_then_returns_its_value() -> None:
    for attempt in (1, 2):
        with pytest.raises(RuntimeError, match="the first 2 attempts"):
            call("fail", inputs={"times": 2, "value": "ok"}, attempt=attempt)
    assert call("fail", inputs={"times": 2, "value": "ok"}, attempt=3) == "ok"


@pytest.mark.parametrize("inputs", [None, {}, {"message": "requested failure"}])
def test_fail_always_fails_without_a_number(inputs: Any) -> None:
    with pytest.raises(RuntimeError, match="requested failure"):
        call("fail", inputs=inputs, attempt=1000)


class Answers(BaseHTTPRequestHandler):
    """Answers by path; `/to/<where>` redirects."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/json":
            self.answer(200, b'{"a": 1}', {"Content-Type": "application/json"})
        elif path == "/headers":
            self.answer(200, json.dumps(dict(self.headers)).encode(), {"Content-Type": "application/json"})
        elif path == "/loop":
            self.answer(302, b"", {"Location": "/loop"})
        elif path == "/away":
            self.answer(307, b"", {"Location": "http://169.254.169.254/latest"})
        elif path == "/elsewhere":
            port = self.server.server_address[1]
            self.answer(307, b"", {"Location": f"http://localhost:{port}/headers"})
        elif path == "/deep":
            self.answer(200, b"[" * 100_000, {"Content-Type": "application/json"})
        elif path == "/home":
            self.answer(301, b"", {"Location": "/json"})
        elif path == "/busy":
            self.answer(503, b"", {"Retry-After": "7"})
        elif path == "/slow":
            self.server.gate.wait(30)  # type: ignore[attr-defined]
        else:
            self.answer(404, b"nothing here", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"got " + body, {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.gate = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.gate.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


ALLOWED = {"ANABRANCH_HTTP_ALLOW": "127.0.0.1"}


def get(url: str, **inputs: Any) -> Any:
    return call("http", ALLOWED, inputs={"url": url, **inputs})


def test_http_returns_status_headers_and_the_body_by_its_type(site: str) -> None:
    answer = get(f"{site}/json")

    assert (answer["status"], answer["body"], answer["url"]) == (200, {"a": 1}, f"{site}/json")
    assert answer["headers"]["content-type"] == "application/json"
    assert get(f"{site}/x", method="POST", json={"b": 2})["body"] == 'got {"b": 2}'


def test_http_follows_redirects_and_checks_each(site: str) -> None:
    assert get(f"{site}/home")["body"] == {"a": 1}
    with pytest.raises(GiveUp, match="more than 5 redirects"):
        get(f"{site}/loop")
    with pytest.raises(GiveUp, match=r"169\.254\.169\.254 is not in ANABRANCH_HTTP_ALLOW"):
        get(f"{site}/away")


def test_http_has_limits_on_size_and_time(site: str) -> None:
    with pytest.raises(GiveUp, match="larger than max_bytes = 3"):
        get(f"{site}/json", max_bytes=3)
    with pytest.raises(HttpError, match=r"took longer than 0\.05 s"):
        get(f"{site}/slow", timeout="50ms")


def test_http_errors_are_failed_attempts(site: str) -> None:
    with pytest.raises(GiveUp, match=r"answered 404 .*nothing here"):
        get(f"{site}/none")
    with pytest.raises(RetryLater) as later:
        get(f"{site}/busy")
    assert later.value.after == 7


def test_http_connects_to_nothing_private_unless_it_is_listed(site: str) -> None:
    with pytest.raises(GiveUp, match="not a public address"):
        call("http", {}, inputs={"url": f"{site}/json"})
    with pytest.raises(GiveUp, match="not a public address"):
        call("http", {}, inputs={"url": f"{site}/json".replace("127.0.0.1", "2130706433")})


def test_http_connects_to_the_address_that_was_checked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves to another address the second time: the checked address is used."""
    port = int(site.rpartition(":")[2])
    asked: list[str] = []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("anabranch.sdk.http_agent.socket.getaddrinfo", resolve)
    connected: list[tuple[str, int]] = []
    import socket

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda to, *a: connected.append(to) or connect(to, *a))
    answer = HttpAgent(AllowList.parse("shop.test"))(
        Task(name="t", inputs={"url": f"http://shop.test:{port}/headers"})
    )

    assert connected == [("127.0.0.1", port)]
    assert asked[0] == "shop.test"
    assert answer["body"]["Host"] == f"shop.test:{port}"


@pytest.mark.parametrize(
    "url",
    ["ftp://example.test/", "http:///x", "http://u:p@example.test/", "http://example.test/a b", 5, "http://[/"],
)
def test_http_refuses_invalid_urls(url: Any) -> None:
    with pytest.raises(GiveUp):
        call("http", ALLOWED, inputs={"url": url})


_IPV4 = """
    172.16.0.1 192.168.1.1 169.254.169.254 100.127.255.255 240.0.0.1 255.255.255.255 198.18.0.1
    192.0.0.1 0.1.2.3 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.2.1 192.88.99.1
    198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
"""
_IPV6 = """
    :: fc00::1 fd00:ec2::254 fec0::1 ff02::1 ::ffff:169.254.169.254 ::7f00:1 64:ff9b::7f00:1
    64:ff9b:1::7f00:1 2002:7f00:1:: 2001:0:0:0:0:0:80ff:fffe 2001:db8::1 100::1 64:ff9b::192.0.0.8
    2002:c000:8:: ::ffff:192.0.0.170 2001:0:c0a8:101:0:0:f7f7:f7f7 ::192.0.0.8 100:0:0:1::1
    2001:2::1 2001:10::1 2001:20::1 3fff::1 5f00::1 fe80::1 4000::1 2001:1::1
"""
_PUBLIC = """
    1.1.1.1 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 192.31.196.1
    198.17.255.255 198.20.0.1 223.255.255.255 2606:4700::1111 2620:4f:8000::1 2001:200::1
    64:ff9b::808:808 2002:808:808:: 2001:0:808:808:0:0:f7f7:f7f7 ::ffff:8.8.8.8
"""
NOT_PUBLIC, PUBLIC = (_IPV4 + _IPV6).split(), _PUBLIC.split()


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "0", "localhost", "[::1]"]
)
def test_http_checks_the_address_however_it_is_written(host: str) -> None:
    with pytest.raises((GiveUp, HttpError), match=r"not a public address|cannot be resolved"):
        call("http", {}, inputs={"url": f"http://{host}/"})


def test_http_takes_no_credential_to_another_origin(site: str) -> None:
    given = {"Authorization": "a", "Cookie": "b", "X-Api-Key": "c", "Accept": "text/plain"}
    allowed = {"ANABRANCH_HTTP_ALLOW": "127.0.0.1, localhost"}

    kept = call("http", allowed, inputs={"url": f"{site}/elsewhere", "headers": given})["body"]

    assert kept["Accept"] == "text/plain"
    assert not {"authorization", "cookie", "x-api-key"} & {name.lower() for name in kept}
    assert get(f"{site}/headers", headers=given)["body"]["X-Api-Key"] == "c"


def test_http_uses_no_proxy_of_the_environment(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert get(f"{site}/json")["status"] == 200


def test_http_errors_contain_neither_the_query_nor_a_refused_header(site: str) -> None:
    with pytest.raises(GiveUp) as refused:
        get(f"{site}/none?key=5ecret")
    assert "5ecret" not in str(refused.value)
    with pytest.raises(GiveUp) as refused:
        get(f"{site}/json", headers={"Authorization": "5ecret\r\nX: y"})
    assert "5ecret" not in f"{refused.value} {refused.value.__cause__}"
    with pytest.raises(GiveUp) as refused:
        get("http://me:5ecret@example.test/")
    assert "5ecret" not in str(refused.value)


def test_http_fails_the_attempt_over_an_answer_nested_too_deeply(site: str) -> None:
    with pytest.raises(HttpError, match="is not JSON"):
        get(f"{site}/deep")


@pytest.mark.parametrize(
    ("allowed", "host", "address", "refused"),
    [
        ("", "example.test", "93.184.216.34", None),
        ("", "example.test", "10.0.0.1", "not a public address"),
        ("", "example.test", "127.0.0.1", "not a public address"),
        ("", "example.test", "::1", "not a public address"),
        ("", "example.test", "fe80::1%eth0", "not a public address"),
        ("", "example.test", "::ffff:192.168.0.1", "not a public address"),
        ("", "example.test", "64:ff9b::a00:1", "not a public address"),
        ("", "example.test", "100.64.0.1", "not a public address"),
        ("", "example.test", "224.0.0.1", "not a public address"),
        ("", "example.test", "0.0.0.0", "not a public address"),
        *(("", "example.test", address, "not a public address") for address in NOT_PUBLIC),
        *(("", "example.test", address, None) for address in PUBLIC),
        ("other.test", "example.test", "93.184.216.34", "not in ANABRANCH_HTTP_ALLOW"),
        ("example.test", "Example.TEST.", "10.0.0.1", None),
        ("*.example.test", "a.example.test", "93.184.216.34", None),
        ("*.example.test", "a.example.test", "10.0.0.1", "not a public address"),
        ("*.example.test", "badexample.test", "93.184.216.34", "not in"),
        ("10.0.0.0/8", "inner.test", "10.1.2.3", None),
        ("10.0.0.0/8", "example.test", "93.184.216.34", "not in"),
        ("10.0.0.0/8, *", "example.test", "93.184.216.34", None),
    ],
)
def test_the_allow_list(allowed: str, host: str, address: str, refused: str | None) -> None:
    reason = AllowList.parse(allowed).refusal(host, address)

    assert reason is None if refused is None else refused in (reason or "")


@pytest.mark.parametrize("entry", ["http://a.test", "a.test:80", "a*.test"])
def test_an_allow_list_that_cannot_be_read_is_refused(entry: str) -> None:
    with pytest.raises(Misconfigured, match="is not a host"):
        AllowList.parse(entry)


async def test_emit_needs_the_name_of_an_event() -> None:
    with pytest.raises(GiveUp, match="must be the name"):
        await emit(Task(name="t", inputs={"key": "k"}))


async def test_a_task_that_belongs_to_no_system_publishes_nothing() -> None:
    with pytest.raises(RuntimeError, match="no system"):
        await Task(name="t").publish("paid")
