"""Unique identifiers as `ports.Ids`. No other module uses randomness."""

from __future__ import annotations

import secrets
from uuid import UUID

from anabranch.ports import Clock

_INCARNATION_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: without letters that look like digits."""

_INCARNATION_LENGTH = 10


class SystemIds:
    """See `ports.Ids`. The run-scoped ids of one instance are strictly ascending, also within one millisecond."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._millisecond = 0
        self._counter = 0

    def run_scoped(self) -> str:
        """A UUIDv7 (RFC 9562, section 6.2 method 1: `rand_a` is a counter within the millisecond)."""
        self._tick(int(self._clock.now() * 1000))
        value = (self._millisecond & ((1 << 48) - 1)) << 80
        value |= 0x7 << 76 | self._counter << 64
        value |= 0b10 << 62 | secrets.randbits(62)
        return str(UUID(int=value))

    def incarnation(self) -> str:
        """Ten random characters, 50 bits."""
        return "".join(secrets.choice(_INCARNATION_ALPHABET) for _ in range(_INCARNATION_LENGTH))

    def _tick(self, millisecond: int) -> None:
        """Advance to `millisecond`. If the clock has not advanced or went back, increment the counter of the last
        id."""
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._counter = secrets.randbits(11)  # of 12 bits: leaves at least 2,048 ids for this millisecond
            return
        self._counter += 1
        if self._counter == 1 << 12:
            self._millisecond += 1
            self._counter = 0
