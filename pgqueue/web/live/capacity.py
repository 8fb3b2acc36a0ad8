"""How many clients may wait or listen at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException

RETRY_AFTER = 5
"""Seconds after which a client that was turned away may try again."""


class Capacity:
    """At most *limit* places at once; *what* they hold open.

    No reader takes them all: it gets another one while fewer are its own than are free. One alone gets half
    of them, the next half of the rest, and so on.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._held: Counter[str] = Counter()
        self.taken = 0

    def check(self, reader: str) -> None:
        """Raise HTTPException 503 if there is no place for *reader*.

        Nothing may be awaited between this and `hold`.
        """
        free = self._limit - self.taken
        if free <= 0 or self._held[reader] >= free:
            whose = f"limit {self._limit}" if free <= 0 else f"you hold {self._held[reader]}, {free} are free"
            raise HTTPException(
                503,
                f"too many {self._what} ({whose}); poll without waiting, or try again later",
                {"Retry-After": str(RETRY_AFTER)},
            )

    @contextmanager
    def hold(self, reader: str) -> Iterator[None]:
        """Count one more place of *reader*, inside the block."""
        self.taken += 1
        self._held[reader] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._held[reader] -= 1
            # Readers come and go for as long as the process lives.
            if not self._held[reader]:
                del self._held[reader]
