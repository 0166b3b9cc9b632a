"""Numbers the lives of a topic, so that what the store kept from an earlier one is known to be older.

A topic that was deleted and created again counts its offsets from 0. The store keeps a list of the lives of each
topic; the place in that list is the generation. A store that was emptied has also forgotten the fences and marks
that generations are compared with, but records on the log carry positions of the present generation: each commit
notes it too, and the list goes on from there.
"""

from __future__ import annotations

from itertools import count

from anabranch.core.admissions import parts_of
from anabranch.core.names import Names
from anabranch.ports import EventLog, StateStore, Write

GENERATION_SECONDS = 400 * 86_400.0
_LOST = b"lost"
"""Stands for a life of which nothing is known but that it was."""


async def generation_of(log: EventLog, store: StateStore, names: Names, topic: str, at_least: int = 0) -> int:
    """The generation of a topic as it is now, 0 for the first.

    Args:
        at_least: the generation that a commit of the topic noted; see `replay.generation_noted`.

    Raises:
        ServerUnavailable: the log or the store cannot be asked.
    """
    incarnation = (await log.incarnation(topic)).encode()
    if not incarnation:
        return await _last_known(store, names, topic, at_least)
    for generation in count(at_least):
        key = names.log_life(topic, generation)
        known = await store.put_new(Write(key, incarnation, GENERATION_SECONDS))
        if known in (None, incarnation):
            await store.expire([key], GENERATION_SECONDS)
            return generation
    raise AssertionError("count() ends")


async def _last_known(store: StateStore, names: Names, topic: str, at_least: int) -> int:
    """Brokers that do not tell ids, or not all of which do while they are upgraded: nothing says that the topic is
    another one than it was."""
    for generation in count(at_least + 1):
        [known] = await store.get([names.log_life(topic, generation)])
        if known is None:
            return generation - 1
    raise AssertionError("count() ends")


def is_of_later_life(position: int, generation: int, end: int) -> bool:
    """Whether a position out of the store is of another life of a partition, which this owner does not know: of a
    later generation, or beyond the `end` of the partition in the generation that the owner has."""
    of, offset = parts_of(position)
    return of > generation or (of == generation and offset >= end)


async def rise_above(position: int, end: int, log: EventLog, store: StateStore, names: Names, topic: str) -> None:
    """See that the topic's present life is numbered above that of a position out of the store.

    A store that lost the list of lives and kept a fence would refuse every owner for ever.

    Raises:
        ServerUnavailable: the log or the store cannot be asked.
    """
    if not is_of_later_life(position, await generation_of(log, store, names, topic), end):
        return
    lost, _ = parts_of(position)
    incarnation = (await log.incarnation(topic)).encode()
    lives = [Write(names.log_life(topic, each), _LOST, GENERATION_SECONDS) for each in range(lost + 1)]
    await store.put([*lives, Write(names.log_life(topic, lost + 1), incarnation, GENERATION_SECONDS)])
