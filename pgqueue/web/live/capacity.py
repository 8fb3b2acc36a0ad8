"""Places: how many may wait or listen at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException

RETRY_AFTER = 5
"""Seconds after which somebody who found no place may ask again."""


class Places:
    """So many of something at once, and no more."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self.taken = 0

    def check(self) -> None:
        """Raise HTTPException 503 if all places are taken.

        Nothing may be awaited between this and `hold`.
        """
        if self.taken >= self._limit:
            raise HTTPException(
                503,
                f"{self._what}: all {self._limit} places are taken; poll instead, or ask again later",
                {"Retry-After": str(RETRY_AFTER)},
            )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Take a place, and give it back."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
