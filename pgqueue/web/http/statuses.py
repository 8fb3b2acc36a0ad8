"""What errors mean over HTTP, for the API and the pages: statuses, and what clients may read of errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import (
    BackgroundError,
    CodecError,
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidEventError,
    InvalidFilterError,
    InvalidIdError,
    JobNotFoundError,
    JobNotScheduledError,
    JobNotWaitingError,
    JobOverError,
    JobPurgedError,
    KeyInFlightError,
    LimitNotFoundError,
    MissingPrivilegeError,
    NotADeadLetterError,
    NotOpenError,
    PayloadTooLargeError,
    QueueFullError,
    QueueNotEmptyError,
    RefusedByDatabaseError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    SchemaError,
    UnknownQueueError,
    UnknownTaskError,
)

OUTAGES: Final = (DatabaseUnavailableError, SchemaError, *CONNECTION_ERRORS)
"""What is raised while the database, or pgqueue's schema in it, is unavailable."""

STATUSES: Final[Mapping[type[Exception], int]] = {
    # At run time the caller has named an option, a queue or a filter that is not possible.
    ConfigurationError: 422,
    InvalidFilterError: 422,
    InvalidIdError: 422,
    InvalidArgumentsError: 422,
    PayloadTooLargeError: 413,
    UnknownQueueError: 422,
    UnknownTaskError: 422,
    IdempotencyConflictError: 422,
    JobNotFoundError: 404,
    ScheduleNotFoundError: 404,
    ScheduleExistsError: 409,
    LimitNotFoundError: 404,
    JobPurgedError: 410,
    # Of the service: it serves with a role that may only read, for example.
    MissingPrivilegeError: 403,
    NotADeadLetterError: 409,
    JobNotScheduledError: 409,
    JobNotWaitingError: 409,
    JobOverError: 409,
    InvalidEventError: 422,
    QueueNotEmptyError: 409,
    DuplicateJobError: 409,
    KeyInFlightError: 409,
    RefusedByDatabaseError: 503,
    CodecError: 500,
    NotOpenError: 503,
    BackgroundError: 503,
    QueueFullError: 503,
    **dict.fromkeys(OUTAGES, 503),
}
"""The status of each error; its nearest class counts. What is not in it is a bug of the service: 500, and
nothing of it is told."""


class Refusal(NamedTuple):
    """What a client is told of an error."""

    status: int
    detail: str
    headers: Mapping[str, str]


def status_of(error: Exception) -> int:
    """Return the HTTP status of *error*."""
    kinds = (STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return next(kinds, int(HTTPStatus.INTERNAL_SERVER_ERROR))


def refusal_of(error: Exception) -> Refusal:
    """Return what a client is told of *error*, which is one of STATUSES."""
    seconds = _retry_after(error)
    return Refusal(
        status_of(error), _detail_of(error), {} if seconds is None else {"Retry-After": str(seconds)}
    )


def _detail_of(error: Exception) -> str:
    match error:
        case DuplicateKeyError() | IdempotencyConflictError():
            # The job's id and the digest of its call must not reach a client that guesses keys.
            return f"task {error.task!r}: another job holds the idempotency key of this call"
        case CodecError():
            # A codec's reason may tell what it hides.
            return f"the stored data of job {error.job_id} cannot be decoded here"
        case _ if isinstance(error, OUTAGES):
            # The error itself may name hosts and users.
            return "the database is unavailable"
        case RefusedByDatabaseError():
            return "the database refused this"
        case _:
            return str(error)


def _retry_after(error: Exception) -> int | None:
    """Return after how many seconds the same request may succeed; None: not by waiting."""
    if isinstance(error, QueueFullError):
        return math.ceil(error.retry_after)
    return 1 if isinstance(error, (NotOpenError, KeyInFlightError, *OUTAGES)) else None
