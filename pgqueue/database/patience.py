"""Repeats a database operation until it succeeds."""

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
    told_at = float("-inf")
    while True:
        try:
            value = await step()
        except errors as error:
            if isinstance(error, ValueError):
                # A value that asyncpg cannot send.
                raise
            failures += 1
            pause = next(pauses)
            level = logging.DEBUG
            if time.monotonic() - told_at >= REMIND_AFTER:
                told_at, level = time.monotonic(), logging.WARNING
            logger.log(
                level,
                "%s: waiting for the database (%s: %s); trying again every second",
                what,
                type(error).__name__,
                error,
                extra=log_fields(error) if level > logging.DEBUG else None,
            )
            await anyio.sleep(pause)
        else:
            if failures:
                logger.info("%s: the database is available again after %d failed attempts", what, failures)
            return value
