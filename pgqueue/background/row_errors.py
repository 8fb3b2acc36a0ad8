"""Tells what is wrong with one row from what is wrong with the database. Pure functions of values."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from pgqueue.database.outages import is_of_a_value
from pgqueue.errors import CodecError, PgQueueError


def is_of_a_row(error: Exception) -> bool:
    """Return whether *error* may come from what a row holds, so that other rows can still be read.

    Python's own errors are (a year after 9999, for example), and asyncpg's when it decodes.
    """
    if isinstance(error, asyncpg.PostgresError):
        return is_of_a_value(error)
    # asyncpg's DataError, which is a ValueError, is an InterfaceError as "connection is closed" is.
    return isinstance(error, ValueError) or not isinstance(
        error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, PgQueueError)
    )


def reading_error(job_id: UUID, error: Exception) -> Exception:
    """Return the error for a caller who asked for one job, the reading of which raised *error*."""
    # What is no id at all was refused by asyncpg, and says so.
    is_id = isinstance(job_id, UUID)
    return CodecError.of_row(job_id, error) if is_id and is_of_a_row(error) else error
