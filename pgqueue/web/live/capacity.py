"""How many clients may wait or listen at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException

RETRY_AFTER = 5
"""Seconds after which a client that was turned away may try again."""


class Capacity:
    """At most *limit* clients at once; *what* they hold open."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self.taken = 0

    def check(self) -> None:
        """Raise HTTPException 503 if the limit is reached.

        Nothing may be awaited between this and `hold`.
        """
        if self.taken >= self._limit:
            raise HTTPException(
                503,
                f"too many {self._what} (limit {self._limit}); poll without waiting, or try again later",
                {"Retry-After": str(RETRY_AFTER)},
            )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count one more client, inside the block."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
