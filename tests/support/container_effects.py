"""A real container engine for system tests: its network, a counter of effects on it, and what it still has."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENGINE_VARIABLE = "ANABRANCH_TEST_CONTAINER_ENGINE"
"""Address of a container engine that tests may use, `unix:///path`."""
IMAGE_VARIABLE = "ANABRANCH_TEST_CONTAINER_IMAGE"
"""An image with /bin/sh and python3 that the engine has."""

SUBNET, GATEWAY = "10.89.77.0/24", "10.89.77.1"
_IP_FREEBIND = 15

MEMBER_CODE = """
import http.client, json, os, time
inputs = json.load(open(os.environ["ANABRANCH_INPUT"]))
effect = {"mark": inputs["mark"], "n": inputs["n"], "attempt": os.environ["ANABRANCH_ATTEMPT"]}
connection = http.client.HTTPConnection(inputs["host"], inputs["port"], timeout=60)
connection.request("POST", "/", json.dumps(effect))
assert connection.getresponse().status == 200
print("counted", inputs["n"], flush=True)
time.sleep(inputs["seconds"])
json.dump(inputs["n"] * 2, open(os.environ["ANABRANCH_OUTPUT"], "w"))
"""
"""Counts its effect at a server outside, then works for a while, and returns its number twice."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class TestEngine:
    """A container engine, spoken to without the product."""

    __test__ = False
    address: str
    image: str

    def call(self, method: str, path: str, document: Any = None) -> Any:
        connection = _UnixConnection(self.address.removeprefix("unix://"))
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, f"/v1.41{path}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 400, text
            return json.loads(text) if text else None
        finally:
            connection.close()

    def containers(self, installation: str) -> list[dict[str, Any]]:
        """The containers of an installation, running or ended."""
        filters = json.dumps({"label": [f"anabranch.installation={installation}"]}).replace('"', "%22")
        filters = filters.replace(" ", "").replace("{", "%7B").replace("}", "%7D")
        found: list[dict[str, Any]] = self.call("GET", f"/containers/json?all=true&filters={filters}")
        return found

    def volumes(self) -> list[str]:
        return [each["Name"] for each in self.call("GET", "/volumes")["Volumes"] or ()]


def test_engine() -> TestEngine | None:
    """The engine that the environment names."""
    if ENGINE_VARIABLE not in os.environ:
        return None
    return TestEngine(os.environ[ENGINE_VARIABLE], os.environ[IMAGE_VARIABLE])


test_engine.__test__ = False  # type: ignore[attr-defined]


@dataclass
class EffectCounter:
    """Effects as they arrived from containers."""

    host: str
    port: int
    network: str
    effects: list[dict[str, Any]] = field(default_factory=list)

    def of(self, mark: str) -> list[dict[str, Any]]:
        return [each for each in list(self.effects) if each["mark"] == mark]


@contextmanager
def effect_counter(engine: TestEngine, network: str) -> Iterator[EffectCounter]:
    """A network of its own for containers, and a server on its gateway that counts what they do."""
    pool = {"Config": [{"Subnet": SUBNET, "Gateway": GATEWAY}]}
    engine.call("POST", "/networks/create", {"Name": network, "Driver": "bridge", "IPAM": pool})
    server = _FreeServer((GATEWAY, 0), _Handler)
    server.counter = EffectCounter(GATEWAY, server.server_address[1], network)
    thread = threading.Thread(target=server.serve_forever, name="effects")
    thread.start()
    try:
        yield server.counter
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        engine.call("DELETE", f"/networks/{network}")


class _FreeServer(ThreadingHTTPServer):
    request_queue_size = 128
    counter: EffectCounter

    def server_bind(self) -> None:
        # The gateway's address exists only while a container is on the network.
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _FreeServer

    def do_POST(self) -> None:
        effect = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.counter.effects.append(effect)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
