"""Repeats a database operation until it succeeds, and says once a minute what it waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import anyio

from pgqueue.database.failing import log_fields
from pgqueue.database.outages import PASSING_ERRORS, RECONNECT_PAUSES, REMIND_AFTER

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
                "%s: waiting for the database (%s: %s); trying again every second",
                what,
                type(error).__name__,
                error,
                extra=log_fields(error),
            )
            await anyio.sleep(pause)
        else:
            if failures:
                logger.info("%s: the database is available again after %d failed attempts", what, failures)
            return value
