"""A message as the owner of its partition decides about it. Pure."""

from __future__ import annotations

from anabranch.core.value_objects import value_object
from anabranch.core.wire.message_parts import Message


@value_object
class DeliveredMessage:
    """A message with its payload, its offset, and the timestamp (seconds since the epoch) and size (bytes) of its
    record."""

    message: Message
    segments: tuple[bytes, ...]
    offset: int
    at: float
    size: int = 0
