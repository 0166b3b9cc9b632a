"""Numbers the generations of a topic, so that positions of an earlier generation compare as older.

A topic that was deleted and created again counts its offsets from 0. The store has a list of the ids that a topic
had; the index in that list is the generation. A store that was emptied has also lost the fences and marks that
generations are compared with, but records on the log contain positions of the present generation. Commits
therefore contain it too, and the list continues from there.
"""

from __future__ import annotations

from itertools import count

from anabranch.core.admissions import parts_of
from anabranch.core.names import Names
from anabranch.ports import EventLog, StateStore, Write

GENERATION_SECONDS = 400 * 86_400.0
_LOST = b"lost"
"""Entry for a generation whose topic id is unknown."""


async def generation_of(log: EventLog, store: StateStore, names: Names, topic: str, at_least: int = 0) -> int:
    """The present generation of a topic, 0 for the first.

    Args:
        at_least: the generation in a commit of the topic; see `replay.committed_generation`.

    Raises:
        ServerUnavailable: the log or the store cannot be asked.
    """
    incarnation = (await log.incarnation(topic)).encode()
    if not incarnation:
        return await _last_known(store, names, topic, at_least)
    # The first owner in a new topic appends the topic's id to the list; later owners of the same topic find it
    # there.
    for generation in count(at_least):
        key = names.log_life(topic, generation)
        known = await store.put_new(Write(key, incarnation, GENERATION_SECONDS))
        if known in (None, incarnation):
            # The entry must live longer than the fences and marks that contain its generation.
            await store.expire([key], GENERATION_SECONDS)
            return generation
    raise AssertionError("count() ends")


async def _last_known(store: StateStore, names: Names, topic: str, at_least: int) -> int:
    """The latest known generation: brokers without topic ids, or with some such brokers during an upgrade, cannot
    show that the topic was created again."""
    for generation in count(at_least + 1):
        [known] = await store.get([names.log_life(topic, generation)])
        if known is None:
            return generation - 1
    raise AssertionError("count() ends")


def is_of_later_generation(position: int, generation: int, end: int) -> bool:
    """True if a position in the store is of a generation that this owner does not know: a later one, or one whose
    partition was longer than `end`, the present end of the partition."""
    of, offset = parts_of(position)
    return of > generation or (of == generation and offset >= end)


async def renumber_above(
    position: int, end: int, log: EventLog, store: StateStore, names: Names, topic: str
) -> None:
    """Give the topic a higher generation than that of a position in the store.

    Otherwise a store that lost the list of generations, but not a fence, would refuse every owner for ever.

    Raises:
        ServerUnavailable: the log or the store cannot be asked.
    """
    if not is_of_later_generation(position, await generation_of(log, store, names, topic), end):
        return
    lost, _ = parts_of(position)
    incarnation = (await log.incarnation(topic)).encode()
    # All lower entries are written, too: `generation_of` takes the first free one.
    lives = [Write(names.log_life(topic, each), _LOST, GENERATION_SECONDS) for each in range(lost + 1)]
    await store.put([*lives, Write(names.log_life(topic, lost + 1), incarnation, GENERATION_SECONDS)])
