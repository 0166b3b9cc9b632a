"""Publish and subscribe, over every adapter."""

from __future__ import annotations

from collections.abc import Callable

from waiting import eventually

from anabranch.ports import Notifier
from conformance.clients import NewNotifier


def keep(into: list[bytes | None]) -> Callable[[bytes | None], None]:
    return into.append


async def test_a_subscriber_gets_what_is_published_later(new_notifier: NewNotifier, prefix: str) -> None:
    sender, receiver = await new_notifier(), await new_notifier()
    got: list[bytes | None] = []
    await sender.publish([(f"{prefix}c", b"before")])
    await receiver.subscribe(f"{prefix}c", keep(got))

    await sender.publish([(f"{prefix}c", b"%d" % i) for i in range(100)] + [(f"{prefix}other", b"no")])

    await eventually(lambda: len(got) == 100)
    assert got == [b"%d" % i for i in range(100)]


async def test_two_callbacks_share_a_channel(new_notifier: NewNotifier, prefix: str) -> None:
    notifier = await new_notifier()
    one: list[bytes | None] = []
    two: list[bytes | None] = []
    keep_one, keep_two = keep(one), keep(two)
    await notifier.subscribe(f"{prefix}c", keep_one)
    await notifier.subscribe(f"{prefix}c", keep_two)
    await notifier.publish([(f"{prefix}c", b"1")])
    await eventually(lambda: one == two == [b"1"])

    await notifier.unsubscribe(f"{prefix}c", keep_one)
    await notifier.publish([(f"{prefix}c", b"2")])
    await eventually(lambda: two == [b"1", b"2"])
    assert one == [b"1"]

    await notifier.unsubscribe(f"{prefix}c", keep_two)
    await notifier.subscribe(f"{prefix}c", keep_one)
    await notifier.publish([(f"{prefix}c", b"3")])
    await eventually(lambda: one == [b"1", b"3"])
    assert two == [b"1", b"2"]


async def test_an_unknown_callback_is_ignored(new_notifier: NewNotifier, prefix: str) -> None:
    notifier = await new_notifier()
    got: list[bytes | None] = []

    await notifier.unsubscribe(f"{prefix}c", keep(got))
    await notifier.subscribe(f"{prefix}c", keep(got))
    await notifier.publish([(f"{prefix}c", b"1")])

    await eventually(lambda: got == [b"1"])


async def test_nothing_is_called_inside_publish(new_notifier: NewNotifier, prefix: str) -> None:
    notifier = await new_notifier()
    inside: list[bool] = []
    publishing = False
    await notifier.subscribe(f"{prefix}c", lambda message: inside.append(publishing))

    publishing = True
    call = notifier.publish([(f"{prefix}c", b"1")])
    try:
        call.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        publishing = False
    else:
        publishing = False
        call.close()  # type: ignore[attr-defined]
        await notifier.publish([(f"{prefix}c", b"1")])

    await eventually(lambda: inside)
    assert not any(inside)


async def test_many_channels(new_notifier: NewNotifier, prefix: str) -> None:
    sender, receiver = await new_notifier(), await new_notifier()
    got: list[bytes | None] = []
    for i in range(1_200):
        await receiver.subscribe(f"{prefix}{i}", keep(got))

    await sender.publish([(f"{prefix}{i}", b"%d" % i) for i in range(1_200)])

    await eventually(lambda: len(got) == 1_200)


async def test_after_a_reconnect_every_callback_is_asked_to_read_again(
    fragile_notifier: tuple[Notifier, Callable[[], None]],
) -> None:
    """The server cuts the subscribing connections twice."""
    notifier, interrupt = fragile_notifier
    got: dict[str, list[bytes | None]] = {f"c{i}": [] for i in range(1_100)}
    for channel, messages in got.items():
        await notifier.subscribe(channel, keep(messages))
    also: list[bytes | None] = []
    await notifier.subscribe("c7", keep(also))

    for times in (1, 2):
        interrupt()
        await eventually(lambda times=times: all(messages.count(None) == times for messages in got.values()))
    assert also == [None, None]

    await notifier.publish([(channel, b"after") for channel in got])
    await eventually(lambda: all(messages == [None, None, b"after"] for messages in got.values()))


async def test_a_channel_left_and_entered_again_is_active(new_notifier: NewNotifier, prefix: str) -> None:
    sender, receiver = await new_notifier(), await new_notifier()
    for i in range(30):
        got: list[bytes | None] = []
        callback = keep(got)
        await receiver.subscribe(f"{prefix}c", callback)
        await sender.publish([(f"{prefix}c", b"%d" % i)])
        await eventually(lambda got=got, i=i: got == [b"%d" % i])
        await receiver.unsubscribe(f"{prefix}c", callback)
