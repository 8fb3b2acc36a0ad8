"""Checks of the values of options: one per kind, used at every level where an option can be set.

Each takes the name of the value in errors, and the value. It returns the value as it is kept, or raises
InvalidOptionError.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Sized
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal, get_args
from uuid import UUID

from pgqueue.errors import InvalidIdError, InvalidOptionError
from pgqueue.model.checks import (
    MAX_KEY_LENGTH,
    MAX_QUEUE_LENGTH,
    aware_time,
    finite_seconds,
    one_of,
    positive_seconds,
    shown,
    some_seconds,
    text,
)
from pgqueue.model.ids import read_id


class FromArguments(Enum):
    """Stands for an idempotency key that is derived from the task and its arguments."""

    FROM_ARGUMENTS = "from arguments"

    def __repr__(self) -> str:
        return "FROM_ARGUMENTS"


FROM_ARGUMENTS: Final = FromArguments.FROM_ARGUMENTS
"""As `idempotency_key`: calls of a task with the same arguments have the same key."""

Span = Literal["pending", "started", "terminal", "success", "window", "forever"]
"""How long a job holds its idempotency key."""
Log = Literal["all", "failures"] | float
"""Which jobs have their successful transitions logged."""
LogTracebacks = Literal["all", "failures", "none"]
"""Which log records of attempts carry the exception."""
OnConflict = Literal["return", "raise", "replace", "debounce", "throttle", "coalesce"]
"""What a call does whose idempotency key is held."""

MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767
MAX_TAGS: Final = 100
MAX_HEADERS: Final = 100
MAX_HEADER_LENGTH: Final = 8192
MAX_PARENTS: Final = 1000
"""How many jobs one can depend on."""
MAX_INTERVALS: Final = 1000
"""How many delays `retry_intervals` may list."""


def queue(what: str, value: object) -> str:
    """Return *value*, a queue's name."""
    return text(what, value, longest=MAX_QUEUE_LENGTH)


def priority(what: str, value: object) -> int:
    """Return *value*, a priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_PRIORITY <= value <= MAX_PRIORITY:
        raise InvalidOptionError(
            f"{what} must be a whole number from {MIN_PRIORITY} to {MAX_PRIORITY}, got {shown(value)}"
        )
    return value


def delay(what: str, value: object) -> float | None:
    """Return *value*, seconds, or None. A negative delay runs now, like a time in the past."""
    return None if value is None else finite_seconds(what, value)


def run_at(what: str, value: object) -> datetime | None:
    """Return *value*, a time zone-aware datetime, or None."""
    return None if value is None else aware_time(what, value)


def expires(what: str, value: object) -> float | datetime | None:
    """Return *value*: seconds, more than 0; a time zone-aware datetime; or None."""
    if value is None:
        return None
    return aware_time(what, value) if isinstance(value, datetime) else positive_seconds(what, value)


def seconds_or_none(what: str, value: object) -> float | None:
    """Return *value*, a limit in seconds, more than zero, or None for no limit."""
    return None if value is None else positive_seconds(what, value)


def job_id(what: str, value: object) -> UUID | None:
    """Return *value*, a UUID or the string of one, as a UUID; or None."""
    if value is None or isinstance(value, UUID):
        return value
    try:
        return read_id(value)  # type: ignore[arg-type]  # it refuses what it is not
    except InvalidIdError:
        raise InvalidOptionError(f"{what} must be a UUID or its string, got {shown(value)}") from None


def job_ids(what: str, value: object) -> tuple[UUID, ...]:
    """Return *value*, ids of jobs, each once."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{what} must be a list of ids of jobs, got {shown(value)}")
    if len(value) > MAX_PARENTS:
        raise InvalidOptionError(f"{what} must be at most {MAX_PARENTS:,} ids, got {len(value):,}")
    found = [job_id(what, each) for each in value]
    if None in found:
        raise InvalidOptionError(f"{what} must be a list of ids of jobs, got {shown(value)}")
    return tuple(dict.fromkeys(each for each in found if each is not None))


def on_duplicate(what: str, value: object) -> str:
    """Return *value*, what to do if the id exists."""
    if value not in ("return", "raise"):
        raise InvalidOptionError(f"{what} must be 'return' or 'raise', got {shown(value)}")
    return str(value)


def tags(what: str, value: object) -> tuple[str, ...]:
    """Return *value*, strings."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{what} must be a list of strings, got {shown(value)}")
    _check_length(what, value, MAX_TAGS)
    return tuple(text(what, each, longest=MAX_KEY_LENGTH) for each in value)


def _check_length(what: str, value: Sized, most: int) -> None:
    if len(value) > most:
        raise InvalidOptionError(f"{what} must have at most {most:,} entries, got {len(value):,}")


def key(what: str, value: object) -> str | None:
    """Return *value*, a string, or None."""
    return None if value is None else text(what, value, longest=MAX_KEY_LENGTH)


def headers(what: str, value: object) -> dict[str, str]:
    """Return *value*, strings by strings."""
    if not isinstance(value, Mapping):
        raise InvalidOptionError(f"{what} must be a mapping of strings to strings, got {shown(value)}")
    _check_length(what, value, MAX_HEADERS)
    return {
        text(what, name, longest=MAX_KEY_LENGTH): text(what, each, longest=MAX_HEADER_LENGTH)
        for name, each in value.items()
    }


def idempotency_key(what: str, value: object) -> str | FromArguments | None:
    """Return *value*, a string, FROM_ARGUMENTS, or None."""
    if value is None or isinstance(value, FromArguments):
        return value
    return text(what, value, longest=MAX_KEY_LENGTH)


def idempotency_scope(what: str, value: object) -> str:
    """Return *value*, the scope of an idempotency key."""
    if isinstance(value, str) and value.startswith("tenant:") and value != "tenant:":
        return text(what, value, longest=MAX_KEY_LENGTH)
    return one_of(what, value, ("task", "queue", "global"), " or 'tenant:NAME'")


def idempotency_while(what: str, value: object) -> str:
    """Return *value*, what ends the hold of a key."""
    return one_of(what, value, get_args(Span))


def on_conflict(what: str, value: object) -> str:
    """Return *value*, what to do if the key is held."""
    return one_of(what, value, get_args(OnConflict))


def retry_backoff(what: str, value: object) -> float | None:
    """Return *value*, the factor of exponential backoff, or None for none."""
    if isinstance(value, bool):
        return 1.0 if value else None
    return None if value is None else positive_seconds(what, value)


def retry_jitter(what: str, value: object) -> str:
    """Return *value*, the kind of jitter."""
    if isinstance(value, bool):
        return "full" if value else "none"
    if value not in ("full", "equal", "none"):
        raise InvalidOptionError(f"{what} must be 'full', 'equal', 'none', True or False, got {shown(value)}")
    return str(value)


def retry_intervals(what: str, value: object) -> tuple[float, ...]:
    """Return *value*, delays in seconds."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{what} must be a list of delays, or None, got {shown(value)}")
    _check_length(what, value, MAX_INTERVALS)
    return tuple(some_seconds(what, each) for each in value)


def error_types(what: str, value: object) -> tuple[type[BaseException], ...]:
    """Return *value*, classes of exceptions."""
    kinds = tuple(value) if isinstance(value, Sequence) else (value,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidOptionError(
                f"{what} must be an exception class or a list of them, got {shown(kind)}"
            )
    return kinds


def retry_policies(what: str, value: object) -> dict[type[BaseException], Mapping[str, Any]]:
    """Return *value*, options by classes of exceptions. The options themselves are not checked here."""
    if not isinstance(value, Mapping):
        raise InvalidOptionError(
            f"{what} must be a mapping of exception classes to retry options, got {shown(value)}"
        )
    for kind, options in value.items():
        error_types(what, (kind,))
        if not isinstance(options, Mapping):
            raise InvalidOptionError(
                f"{what}: {kind.__name__} must be a mapping of options, got {shown(options)}"
            )
    return dict(value)


def retry_when(what: str, value: object) -> Any:
    """Return *value*, a non-async function, or None."""
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise InvalidOptionError(
            f"{what} must be a non-async function taking (attempt, exc, job), got {shown(value)}"
        )
    return value


def paths(what: str, value: object) -> tuple[str, ...]:
    """Return *value*, paths to arguments."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{what} must be a list of argument names, got {shown(value)}")
    for path in value:
        if "" in text(what, path, longest=MAX_KEY_LENGTH).split("."):
            raise InvalidOptionError(f"{what} must contain names joined by single dots, got {shown(path)}")
        if path.endswith("**"):
            raise InvalidOptionError(
                f"{what} must contain paths that end with a name, or with '*' for all, got {shown(path)}"
            )
    return tuple(value)


def log_share(what: str, value: object) -> float:
    """Return the fraction of jobs that *value* of the option `log` stands for."""
    match value:
        case "all":
            return 1.0
        case "failures":
            return 0.0
        case bool():
            pass
        case int() | float() if 0 <= value <= 1:
            return float(value)
    raise InvalidOptionError(
        f"{what} must be 'all', 'failures' or a fraction from 0 to 1, got {shown(value)}"
    )


def log_tracebacks(what: str, value: object) -> str:
    """Return *value*, which says what log records have a traceback."""
    return one_of(what, value, get_args(LogTracebacks))
