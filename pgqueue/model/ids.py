"""Job ids: UUIDv7 (RFC 9562, section 5.7) that increase strictly within a process.

The order is that of section 6.2, method 3: the 12 bits after the milliseconds hold the fraction of the
millisecond, in steps of 244 nanoseconds, and each id takes a step of its own. A bulk call takes as many
steps as it has jobs, and so may run ahead of the clock by a few milliseconds. The other 62 bits are random:
an id cannot be guessed from its neighbours.

pgqueue has its own code because the standard library has uuid7 only from Python 3.14 on, and so that a bulk
call draws its randomness once. asyncpg's UUID is a `uuid.UUID` made from bytes in C: 0.8 microseconds per id,
where the standard class takes 2.7 (measured), and asyncpg sends it without looking inside.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from struct import Struct, unpack
from typing import Final
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as BytesUUID  # noqa: N811  # a class, whatever its case

from pgqueue.errors import InvalidIdError

_STEPS: Final = 1 << 12
"""In a millisecond."""
_PAIR: Final = Struct(">QQ")
_VARIANT: Final = 2 << 62
_RANDOM_BITS: Final = (1 << 62) - 1


def read_id(given: UUID | str) -> UUID:
    """Return the id that *given* is: a UUID, or its string. Raises InvalidIdError."""
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise InvalidIdError(given) from None


class IdSource:
    """Makes ids, each greater than all ids that it made before, in any thread.

    *clock*: returns the nanoseconds since 1970. While the clock stands still, or after it stepped back, ids
    continue from the last one.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        """The step of the last id: milliseconds since 1970, times 4096, plus the steps in the millisecond."""

    def take_one(self) -> UUID:
        """Return a new id."""
        with self._lock:
            step = self._last = max(self._clock() * _STEPS // 1_000_000, self._last + 1)
        low = int.from_bytes(os.urandom(8), "big") & _RANDOM_BITS | _VARIANT
        return BytesUUID(_PAIR.pack(step >> 12 << 16 | 0x7000 | step & 0xFFF, low))

    def take(self, count: int) -> list[UUID]:
        """Return *count* new ids, ascending: the order of a bulk call is the order of its ids."""
        with self._lock:
            first = max(self._clock() * _STEPS // 1_000_000, self._last + 1)
            self._last = first + count - 1
        return [
            BytesUUID(_PAIR.pack(step >> 12 << 16 | 0x7000 | step & 0xFFF, low & _RANDOM_BITS | _VARIANT))
            for step, low in enumerate(unpack(f">{count}Q", os.urandom(8 * count)), first)
        ]

    def renew_lock(self) -> None:
        """Replace the lock: in a forked child, a thread that does not exist there may hold it."""
        self._lock = threading.Lock()


_source: Final = IdSource()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_source.renew_lock)

new_id: Final = _source.take_one
new_ids: Final = _source.take
