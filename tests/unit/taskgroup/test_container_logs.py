"""Frames, lines and positions of a container's log, fed in chunks of any size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.sdk.programs.spec import MAX_LINE_BYTES
from anabranch_taskgroup.worker.executors.programs.container.log_stream import LogCursor, StdoutCapture

T0, T1 = "2026-11-30T22:12:49", "2026-11-30T22:12:50"
SECOND = 1_796_076_769


def frame(text: str, stream: int = 1, time: str = f"{T0}Z") -> bytes:
    data = f"{time} {text}".encode() if time else text.encode()
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def lines(cursor: LogCursor, data: bytes, size: int = 7) -> list[tuple[str, str]]:
    return [line for at in range(0, len(data), size) for line in cursor.feed(data[at : at + size])]


def test_lines_keep_their_stream_and_lose_their_time() -> None:
    cursor = LogCursor()

    found = lines(cursor, frame("one\n") + frame("error\n", 2, f"{T0}.123456789+01:00") + frame("tail"))

    assert found == [("stdout", "one"), ("stderr", "error")]
    assert cursor.end() == [("stdout", "tail")]
    assert cursor.end() == []


def test_parts_of_a_long_line_are_joined_although_the_other_stream_comes_between() -> None:
    cursor = LogCursor()

    found = lines(cursor, frame("a" * 100) + frame("x\n", 2) + frame("b\r\n"))

    assert found == [("stderr", "x"), ("stdout", "a" * 100 + "b")]


def test_a_text_of_several_bytes_is_not_torn_by_frames() -> None:
    cursor, text = LogCursor(), "ü🚀".encode()
    frames = [
        bytes((1, 0, 0, 0)) + (len(T0) + 3).to_bytes(4, "big") + f"{T0}Z ".encode() + text[at : at + 1]
        for at in range(len(text))
    ]

    assert lines(cursor, b"".join(frames) + frame("\n")) == [("stdout", "ü🚀")]


def test_a_long_line_is_cut_and_says_so() -> None:
    ((_, line),) = lines(LogCursor(), frame("x" * (MAX_LINE_BYTES + 5) + "\n"), 4096)

    assert line == "x" * MAX_LINE_BYTES + " … (5 more bytes)"


def test_a_flood_without_a_line_break_takes_bounded_memory() -> None:
    cursor = LogCursor()
    cursor.feed(bytes((1, 0, 0, 0)) + (1 << 30).to_bytes(4, "big") + f"{T0}Z ".encode())

    for _ in range(200):
        assert cursor.feed(b"y" * 100_000) == []

    ((_, line),) = cursor.end()
    assert len(line) < MAX_LINE_BYTES + 50


def logged(entries: list[tuple[str, int, str]], since: int) -> bytes:
    """What an engine sends that keeps whole seconds."""
    return b"".join(
        frame(text, stream, f"{time}Z") for time, stream, text in entries if time == T1 or since <= SECOND
    )


def pieces(draw: st.DrawFn, data: bytes) -> Iterator[bytes]:
    while data:
        size = draw(st.integers(1, len(data)))
        yield data[:size]
        data = data[size:]


@given(st.data())
def test_broken_connections_lose_and_repeat_nothing(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 8))
    entries = [
        (T0 if number < count // 2 else T1, 1 + number % 2, f"line {number}" + "\n" * data.draw(st.integers(0, 1)))
        for number in range(count)
    ]
    whole = LogCursor()
    expected = [*lines(whole, logged(entries, whole.resume())), *whole.end()]

    cursor = LogCursor()
    found = []
    for _ in range(data.draw(st.integers(0, 3))):
        sent = logged(entries, cursor.resume())
        broken = sent[: data.draw(st.integers(0, len(sent)))]
        for piece in pieces(data.draw, broken):
            found += cursor.feed(piece)
    found += [*cursor.feed(logged(entries, cursor.resume())), *cursor.end()]

    for stream in ("stdout", "stderr"):
        assert [each for each in found if each[0] == stream] == [each for each in expected if each[0] == stream]


def test_a_log_without_times_is_read_from_its_beginning() -> None:
    cursor = LogCursor()
    assert cursor.resume() == 0
    assert lines(cursor, frame("one\n", time="") + frame("tw", time="")[:-1]) == [("stdout", "one")]

    assert cursor.resume() == 0
    assert lines(cursor, frame("one\n", time="") + frame("two\n", time="")) == [("stdout", "two")]


@pytest.mark.parametrize(
    ("text", "last"),
    [("1\n2\n", b"2"), ("1\n2", b"2"), ("1\r\n2\r\n\n \n", b"2"), ("\n\n", b""), ("", b"")],
)
def test_the_last_line_of_stdout(text: str, last: bytes) -> None:
    capture = StdoutCapture(100, is_last_line=True)
    for part in text:
        capture.feed(frame(part, time="") + frame("noise\n", 2, ""))

    assert capture.result() == last


def test_the_whole_of_stdout_up_to_a_limit() -> None:
    fits, large = StdoutCapture(4, is_last_line=False), StdoutCapture(4, is_last_line=False)
    fits.feed(frame("ab\n", time="") + frame("c", time=""))
    large.feed(frame("ab\nc\nd", time="") + frame("e" * 1000, time=""))

    assert (fits.result(), large.result()) == (b"ab\nc", None)


def test_a_long_line_before_the_last_one_does_not_matter() -> None:
    capture = StdoutCapture(4, is_last_line=True)
    capture.feed(frame("x" * 100 + "\n1\n", time=""))

    assert capture.result() == b"1"
