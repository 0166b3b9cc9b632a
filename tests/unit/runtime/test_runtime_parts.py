"""Ids, log lines and health probes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from uuid import UUID

import pytest
import structlog

from anabranch.runtime.instrumentation.correlation import working_for, working_for_current
from anabranch.runtime.process.health import Health, HealthServer
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.logs import LogFormat, set_up_logging


class StandingClock:
    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def test_a_run_scoped_id_is_a_uuid_of_version_7_with_its_time() -> None:
    made = UUID(SystemIds(StandingClock(1_700_000_000.123)).run_scoped())

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == 1_700_000_000_123


def test_ids_ascend_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    clock = StandingClock(1_700_000_000.0)
    ids = SystemIds(clock)

    made = [ids.run_scoped() for _ in range(10_000)]
    clock.at -= 60
    made.append(ids.run_scoped())

    assert made == sorted(set(made))


def test_incarnations_differ() -> None:
    ids = SystemIds(StandingClock(0))

    assert len({ids.incarnation() for _ in range(100)}) == 100


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_has_the_extras_and_the_error(lines: io.StringIO) -> None:
    set_up_logging("INFO", "json", lines)

    try:
        raise LookupError("lost")
    except LookupError:
        logging.getLogger("anabranch.x").exception("no %s", "key", extra={"run_id": "r"})

    document = json.loads(lines.getvalue())
    assert (document["message"], document["level"], document["run_id"]) == ("no key", "error", "r")
    assert "LookupError: lost" in document["error"]


def test_a_text_line_stays_one_line(lines: io.StringIO) -> None:
    set_up_logging("INFO", "text", lines)

    logging.getLogger("anabranch.x").info("a\nb", extra={"run_id": "r"})

    assert lines.getvalue().count("\n") == 1
    assert r"a\nb  run_id=r" in lines.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_has_the_ids_of_the_work_it_was_written_for(lines: io.StringIO, style: LogFormat) -> None:
    set_up_logging("INFO", style, lines)

    with working_for(run="r", group="g", task="t", trace_id="ab"):
        logging.getLogger("some.library").info("within")
    logging.getLogger("some.library").info("after")

    within, after = lines.getvalue().splitlines()
    shown = {
        "text": "  run=r  group=g  task=t  trace_id=ab",
        "json": '"run":"r","group":"g","task":"t","trace_id":"ab"',
    }
    assert shown[style] in within
    assert "run" not in after


def test_ids_of_the_current_message_are_read_when_a_line_is_written(lines: io.StringIO) -> None:
    set_up_logging("INFO", "json", lines)

    current: dict[str, str] = {}
    with working_for_current(lambda: current):
        for run in ("first", "second"):
            current = {"run": run}
            logging.getLogger("anabranch.owner").info("decided")
        current = {}
        logging.getLogger("anabranch.owner").info("undecodable")

    found = [json.loads(line).get("run") for line in lines.getvalue().splitlines()]
    assert found == ["first", "second", None]


def test_fields_of_the_caller_override_the_context(lines: io.StringIO) -> None:
    set_up_logging("INFO", "json", lines)

    with working_for(run="r", task="t"):
        logging.getLogger("anabranch.agent").info("x", extra={"task": "own", "member": "own_1"})

    document = json.loads(lines.getvalue())
    assert (document["run"], document["task"], document["member"]) == ("r", "own", "own_1")


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_logger_of_structlog_writes_the_same_lines(lines: io.StringIO, style: LogFormat) -> None:
    set_up_logging("INFO", style, lines)

    with working_for(run="r"):
        structlog.get_logger("an.agent").bind(rows=3).info("read %s", "all")
        structlog.get_logger("an.agent").debug("not shown")
        try:
            raise LookupError("lost")
        except LookupError:
            structlog.get_logger("an.agent").exception("no key")

    first, *rest = lines.getvalue().splitlines()
    if style == "json":
        document = json.loads(first)
        assert (document["logger"], document["message"], document["rows"]) == ("an.agent", "read all", 3)
        assert document["run"] == "r"
        assert json.loads(rest[0])["error"].endswith("LookupError: lost")
    else:
        assert first.endswith("INFO    an.agent  read all  run=r  rows=3")
        assert rest[-1] == "LookupError: lost"


def test_info_lines_of_libraries_are_not_shown(lines: io.StringIO) -> None:
    set_up_logging("INFO", "text", lines)

    logging.getLogger("faust.app").info("routine")
    logging.getLogger("faust.app").warning("trouble")

    assert "routine" not in lines.getvalue()
    assert "trouble" in lines.getvalue()


async def _ask(port: int, line: str) -> tuple[int, dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line}\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("health", "live", "ready"),
    [
        (Health(True, True), 200, 200),
        (Health(True, False, "Redis is away"), 200, 503),
        (Health(False, True), 503, 503),
    ],
)
async def test_probes_return_the_health_of_the_service(health: Health, live: int, ready: int) -> None:
    server = HealthServer(lambda: health, "agency")
    port = await server.start(0, "127.0.0.1")
    try:
        assert (await _ask(port, "GET /livez HTTP/1.1"))[0] == live
        status, body = await _ask(port, "GET /readyz?verbose HTTP/1.1")
        assert status == ready
        assert body == {"service": "agency", "live": health.live, "ready": health.ready, "detail": health.detail}
        assert (await _ask(port, "GET / HTTP/1.1"))[0] == 404
        assert (await _ask(port, "POST /livez HTTP/1.1"))[0] == 405
    finally:
        await server.stop()
