"""Publish and subscribe, over every adapter."""

from __future__ import annotations

from collections.abc import Callable

from conformance.clients import NewNotifier
from waiting import eventually


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
