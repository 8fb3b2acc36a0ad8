"""Repeats a database operation until it succeeds, and says once a minute what it waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import anyio

from pgqueue.database.failing import log_fields
from pgqueue.database.outages import (
    PASSING_ERRORS,
    RECONNECT_PAUSES,
    REMIND_AFTER,
    may_have_happened,
    told,
    unavailable,
)

logger = logging.getLogger("pgqueue.worker")

T = TypeVar("T")


class Reminder:
    """Chooses the level at which to log something that goes on: a loud one once a minute, or else DEBUG."""

    __slots__ = ("_told_at",)

    def __init__(self) -> None:
        self._told_at = float("-inf")

    def level(self, loud: int = logging.WARNING) -> int:
        """Return *loud* if the last time was REMIND_AFTER ago, and otherwise DEBUG."""
        now = time.monotonic()
        if now - self._told_at < REMIND_AFTER:
            return logging.DEBUG
        self._told_at = now
        return loud


class Tries:
    """The tries of one call, made again *within* so many seconds while the database is unavailable."""

    def __init__(self, within: float, *, may_be_done: bool = False) -> None:
        self._within = within
        self._began_at = time.monotonic()
        self._may_be_done = may_be_done

    @property
    def seconds(self) -> float:
        """The time since the first one began."""
        return time.monotonic() - self._began_at

    def fail(self, error: BaseException, *, is_asked: bool = True) -> None:
        """Take note of a try that failed. Raises DatabaseUnavailableError if there is no time for another.

        *is_asked*: it was what the caller asks for, and not only what has to be done before.
        """
        self._may_be_done |= is_asked and may_have_happened(error)
        if (seconds := self.seconds) >= self._within:
            raise unavailable(error, seconds, may_have_happened=self._may_be_done) from error


async def persist(
    what: str,
    step: Callable[[], Awaitable[T]],
    *,
    errors: tuple[type[BaseException], ...] = PASSING_ERRORS,
) -> T:
    """Call *step* until it succeeds, pausing while the database is unavailable.

    *what* names the operation in the log, which says once a minute what it waits for. Only *errors* are
    waited out.
    """
    pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
    failures = 0
    reminder = Reminder()
    while True:
        try:
            value = await step()
        except errors as error:
            if isinstance(error, ValueError):
                # A value that asyncpg cannot send.
                raise
            failures += 1
            pause = next(pauses)
            logger.log(
                reminder.level(),
                "%s: waiting for the database (%s); trying again every second",
                what,
                told(error),
                extra=log_fields(error),
            )
            await anyio.sleep(pause)
        else:
            if failures:
                logger.info("%s: the database is available again after %d failed attempts", what, failures)
            return value
