"""Repeats a database operation until it succeeds."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import anyio
import asyncpg

from pgqueue.database.outages import CONNECTION_ERRORS, RECONNECT_PAUSES
from pgqueue.errors import DatabaseUnavailableError

logger = logging.getLogger("pgqueue.worker")

T = TypeVar("T")

PASSING_ERRORS = (
    *CONNECTION_ERRORS,
    DatabaseUnavailableError,
    asyncpg.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
"""Errors that pass: the same call, made again, can succeed."""


async def persist(what: str, step: Callable[[], Awaitable[T]]) -> T:
    """Call *step* until it succeeds, pausing while the database is unavailable.

    *what* names the operation in the log. Errors other than PASSING_ERRORS propagate.
    """
    pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
    failures = 0
    while True:
        try:
            value = await step()
        except PASSING_ERRORS as error:
            failures += 1
            pause = next(pauses)
            # One warning at the start of an outage, then one about every half minute.
            level = logging.WARNING if failures % 30 == 1 else logging.DEBUG
            logger.log(
                level,
                "%s: waiting for the database (%s: %s); trying again every second",
                what,
                type(error).__name__,
                error,
            )
            await anyio.sleep(pause)
        else:
            if failures:
                logger.info("%s: the database is available again after %d failed attempts", what, failures)
            return value
