"""What a handler can say instead of returning: again later, never again, not now.

Each is raised, and none of them is an Exception, so that no `except Exception` on the way takes it for an
error. A task group (asyncio's, anyio's) wraps what passes through it in a group: one that holds nothing
but one of these counts as it; beside other errors, the group is an error like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import Duration, aware_time, retry_limit, some_seconds
from pgqueue.model.unset import UNSET, Unset


class ControlFlow(BaseException):
    """Base of what a handler raises to say how its job goes on. Not a failure."""


class Retry(ControlFlow):  # what the handler says, not an error
    """Run the job again later; the attempt is spent. Raised by `ctx.retry(...)`, which says what each means.

    Raises InvalidOptionError for a delay, time or limit that none can have.
    """

    def __init__(
        self,
        exc: BaseException | None = None,
        *,
        countdown: Duration | None = None,
        eta: datetime | None = None,
        max_retries: int | None | Unset = UNSET,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if countdown is not None and eta is not None:
            raise InvalidOptionError("retry: both 'countdown' and 'eta' are given; give one")
        if exc is not None and not isinstance(exc, BaseException):
            raise InvalidOptionError(f"retry: 'exc' is {exc!r}: give an exception")
        self.exc = exc
        self.countdown = None if countdown is None else some_seconds("retry: 'countdown'", countdown)
        self.eta = None if eta is None else aware_time("retry: 'eta'", eta)
        self.max_retries = (
            max_retries if max_retries is UNSET else retry_limit("retry: 'max_retries'", max_retries)
        )
        self.args_given = None if args is None else tuple(args)
        self.kwargs_given = None if kwargs is None else dict(kwargs)
        super().__init__("run again later")

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments that replace the job's, positional and named; None: it keeps those it has."""
        if self.args_given is None and self.kwargs_given is None:
            return None
        return self.args_given or (), self.kwargs_given or {}


class Reject(ControlFlow):  # what the handler says, not an error
    """The job has failed for good: it is not run again, whatever its retries. *reason* is kept with it."""

    def __init__(self, reason: str) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)


class Snooze(ControlFlow):  # what the handler says, not an error
    """Run the job again after *delay* (seconds or a timedelta), the attempt unspent.

    However often: what is waited for may never come, so give the job another end. Raises InvalidOptionError.
    """

    def __init__(self, delay: Duration) -> None:
        self.delay = some_seconds("snooze: the delay", delay)
        super().__init__(f"not for {self.delay:g} s")


def control_flow_of(error: BaseException) -> ControlFlow | None:
    """Return what *error* says of the job's way: itself, or the one thing that a group of errors holds."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ControlFlow) else None
