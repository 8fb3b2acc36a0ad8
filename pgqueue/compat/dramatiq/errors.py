"""The errors that code written for Dramatiq raises and catches."""

from __future__ import annotations

from pgqueue import (
    CodecError,
    DatabaseUnavailableError,
    PgQueueError,
    SoftTimeLimitExceeded,
    UnknownQueueError,
)


class DramatiqError(PgQueueError):
    """Base class of these errors."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class ActorNotFound(DramatiqError):  # noqa: N818  # Dramatiq's names
    """This process declares no actor of this name."""


class QueueJoinTimeout(DramatiqError):  # noqa: N818
    """A queue was not empty in time."""


class RateLimitExceeded(DramatiqError):  # noqa: N818
    """A rate limiter had no room."""


class Retry(DramatiqError):  # noqa: N818
    """Raised by an actor that is to run again, after *delay* milliseconds. It counts as a failure."""

    def __init__(self, message: str = "", delay: int | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class SkipMessage(DramatiqError):  # noqa: N818
    """Raised by a middleware before an actor runs: the actor does not, and its message is done."""


class ResultError(DramatiqError):
    """Base class of the errors of results."""


class ResultTimeout(ResultError):  # noqa: N818
    """A result did not come in time."""


class ResultMissing(ResultError):  # noqa: N818
    """There is no result, or none yet."""


class ResultFailure(ResultError):  # noqa: N818
    """The actor has failed for good, or its message was cancelled."""

    def __init__(self, message: str = "", orig_exc_type: str = "", orig_exc_msg: str = "") -> None:
        super().__init__(message)
        self.orig_exc_type = orig_exc_type
        self.orig_exc_msg = orig_exc_msg


# What pgqueue raises itself in their place.
BrokerConnectionError = ConnectionClosed = ConnectionFailed = DatabaseUnavailableError
DecodeError = CodecError
QueueNotFound = UnknownQueueError
Interrupt = SoftTimeLimitExceeded

TimeLimitExceeded = SoftTimeLimitExceeded
"""Raised in an actor that runs for longer than its `time_limit`."""
