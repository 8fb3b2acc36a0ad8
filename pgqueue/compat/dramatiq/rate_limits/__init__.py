"""Rate limiters, to be acquired inside an actor. They are in the database of its broker."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pgqueue import Limiter
from pgqueue.compat import Lacking, not_there
from pgqueue.compat.dramatiq import state
from pgqueue.compat.dramatiq.errors import RateLimitExceeded

__all__ = [
    "Barrier", "BucketRateLimiter", "ConcurrentRateLimiter", "RateLimitExceeded", "RateLimiter",
    "RateLimiterBackend", "WindowRateLimiter",
]  # fmt: skip


class RateLimiterBackend(Lacking):
    """A name only: limiters are in the broker's database."""

    lacking = "use a limiter, or broker.pgqueue's own: pgq.mutex(...), pgq.window(...)"

    def __init__(self, *_: object, **__: object) -> None:
        pass


class RateLimiter:
    """Base class of the limiters."""

    def __init__(self, backend: object, key: str) -> None:
        del backend
        self.key = key

    def limiter(self) -> Limiter:
        """Return the limiter of pgqueue."""
        raise NotImplementedError

    def acquire(self, *, raise_on_failure: bool = True) -> Acquired:
        """Return what an actor enters by `with`, or `async with`: it gives whether there was room.

        It does not wait. Without room, RateLimitExceeded is raised, or with *raise_on_failure* False the
        block is entered all the same.
        """
        return Acquired(self, raises=raise_on_failure)


class Acquired:
    """A block that a limiter guards."""

    def __init__(self, limiter: RateLimiter, *, raises: bool) -> None:
        self._key = limiter.key
        self._limiter = limiter.limiter()
        self._raises = raises

    def __enter__(self) -> bool:
        return self._checked(self._limiter.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limiter.__exit__(kind, error, trace)

    async def __aenter__(self) -> bool:
        return self._checked(await self._limiter.__aenter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._limiter.__aexit__(kind, error, trace)

    def _checked(self, has_room: bool) -> bool:
        if not has_room and self._raises:
            raise RateLimitExceeded(f"rate limit exceeded for key {self._key!r}")
        return has_room


class ConcurrentRateLimiter(RateLimiter):
    """At most *limit* blocks at a time. A block belongs to its attempt, so *ttl* says nothing."""

    def __init__(self, backend: object, key: str, *, limit: int = 1, ttl: int = 900_000) -> None:
        super().__init__(backend, key)
        del ttl
        self.limit = limit

    def limiter(self) -> Limiter:
        """Return the limiter of pgqueue."""
        found: Limiter = _pgqueue().concurrent(self.key, slots=self.limit, wait=0, raise_on_failure=False)
        return found


class BucketRateLimiter(RateLimiter):
    """At most *limit* blocks at once, and as many again in each *bucket* milliseconds."""

    def __init__(self, backend: object, key: str, *, limit: int = 1, bucket: int = 1000) -> None:
        super().__init__(backend, key)
        self.limit = limit
        self.bucket = bucket

    def limiter(self) -> Limiter:
        """Return the limiter of pgqueue."""
        found: Limiter = _pgqueue().bucket(
            self.key, limit=self.limit, per=self.bucket / 1000, wait=0, raise_on_failure=False
        )
        return found


class WindowRateLimiter(RateLimiter):
    """At most *limit* blocks in any *window* seconds."""

    def __init__(self, backend: object, key: str, *, limit: int = 1, window: int = 1) -> None:
        super().__init__(backend, key)
        self.limit = limit
        self.window = window

    def limiter(self) -> Limiter:
        """Return the limiter of pgqueue."""
        found: Limiter = _pgqueue().window(
            self.key, limit=self.limit, per=self.window, wait=0, raise_on_failure=False
        )
        return found


class Barrier:
    """Not there: what waits for several messages is a callback of their group."""

    def __init__(self, *_: object, **__: object) -> None:
        raise not_there("Barrier", "give a group a completion callback, or use chord([...], body) of pgqueue")


def _pgqueue() -> Any:
    """Return the PgQueue of the actor that is running, or else of the broker."""
    found = state.processed.get()
    return (state.brokers.chosen if found is None else found[1]).pgqueue
